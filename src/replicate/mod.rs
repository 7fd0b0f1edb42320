//! What is put in place: roles, schema, extensions, grants, publication, subscription, sequences.
//!
//! Each file keeps what decides (a [`Plan`], pure) apart from what acts ([`Plan::carry_out`]).

pub(crate) mod grants;
mod options;
mod plan;
pub(crate) mod publication;
pub(crate) mod refresh;
pub(crate) mod sequences;
pub(crate) mod slot;
pub(crate) mod status_table;
pub(crate) mod subscription;
pub(crate) mod unsubscribe;
mod watch;

pub use plan::{Change, Done};
pub(crate) use plan::{Mode, Plan, Run};
pub use publication::InUse;
pub use sequences::{Sequence, Sequences};
pub use subscription::Wait;
pub use unsubscribe::{OldSlot, Unreachable};
