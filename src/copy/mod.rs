//! The initial copy, faster than PostgreSQL's own, and survives being killed.
//!
//! A slot exports its snapshot, and a process of its own keeps that (`holder`). Tables are created without indexes, rows are
//! copied in parallel (`plan`, `rows`, `pipe`), each job with what is on record of it in one transaction (`record`), then
//! indexes and the rest are made (`rest`), and the subscription begins at the slot's point.

pub(crate) mod adopt;
mod give_up;
pub(crate) mod holder;
mod initial;
mod pipe;
mod plan;
mod record;
mod report;
mod rest;
mod rewritten;
mod rows;
mod sources;
mod under_way;
mod watch;

pub use adopt::{AdoptBegun, AdoptMeasured};
pub(crate) use give_up::give_up;
pub use initial::{CopyOptions, Restart};
pub(crate) use initial::{initial_copy, may_begin};
pub use record::CopiedTable;
pub use report::{CopySeconds, InitialCopy};
pub use under_way::{CopyUnderWay, UnderWay};
pub(crate) use under_way::{adoption_under_way, check_none, copy_under_way};
