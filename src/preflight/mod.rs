//! What would go wrong: one file per family of pitfalls, all asked in one pass. Reads only.

mod answers;
mod ask;
mod beforehand;
mod beyond;
pub mod connectivity;
mod family;
mod finding;
mod judged;
mod question;
mod registry;
mod run;
mod view;
pub mod way;

pub use finding::{Checked, OnWarning, Preflight, Severity};
pub(crate) use registry::Before;
pub use registry::ids;
pub(crate) use run::{Later, Schemas, Scope, check, clear};
