//! Names, literals, positions and sizes as PostgreSQL writes them. Pure; the only place that quotes.

mod conninfo;
mod literal;
mod lsn;
mod name;
mod secret;
mod size;
mod word;

pub use conninfo::Conninfo;
pub use literal::Literal;
pub use lsn::Lsn;
pub use name::{Ident, MAX_IDENT_BYTES, TableName};
pub use secret::Secret;
pub use size::Size;
pub(crate) use word::Word;
