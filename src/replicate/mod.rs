//! What is put in place: roles, schema, extensions, grants, publication, subscription, sequences.
//!
//! Each file keeps what decides (a [`Plan`], pure) apart from what acts ([`Plan::carry_out`]).

pub(crate) mod grants;
mod plan;
pub(crate) mod vacuum;

pub use plan::{Change, Done};
pub(crate) use plan::{Mode, Plan, Run};
