//! Names, literals, positions and sizes as PostgreSQL writes them. Pure; the only place that quotes.

mod boolean;
mod conninfo;
mod count;
mod host_port;
mod literal;
mod lsn;
mod name;
mod secret;
mod shell_word;
mod size;

pub(crate) use boolean::parse_bool;
pub use conninfo::Conninfo;
pub(crate) use count::counted;
pub(crate) use host_port::HostPort;
pub use literal::Literal;
pub use lsn::Lsn;
pub use name::{Ident, MAX_IDENT_BYTES, TableName};
pub use secret::Secret;
pub(crate) use shell_word::ShellWord;
pub use size::Size;
