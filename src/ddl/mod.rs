//! Statements that change the schema while the data is replicated: logical replication carries none of them.
//!
//! `flare ddl` brings one to both sides: [`transaction`] has the order. What enters here knows one database, its stream, and
//! statements; who may run them when is the journal's.

mod arm;
mod barrier;
mod carried;
mod decide;
mod drain;
mod failpoint;
mod finish;
mod gaps;
mod installed;
mod keys;
mod kind;
mod left_over;
mod outside;
mod record;
mod report;
mod run;
mod script;
mod settle;
mod sides;
mod tables;
mod touched;
mod transaction;
mod truncates;
mod values;

pub(crate) use arm::{arm, check_rights, disarm, put_back, renew};
pub(crate) use barrier::lift_left as lift_barriers;
pub use carried::StuckStatement;
pub(crate) use carried::{ALL_HAVE_COME, COUNTED, leaves_unvalidated, stuck, stuck_where_carried};
pub use decide::Decision;
pub(crate) use finish::{decide, follow, half_done, on_the_way, retry, take_over, unsettled};
pub(crate) use gaps::gaps;
pub(crate) use keys::clear_the_way;
pub(crate) use left_over::sweep;
pub(crate) use record::forget;
pub use report::{DdlOutcome, DdlReport, DdlStatement};
pub(crate) use run::run;
pub use script::Script;
pub(crate) use sides::Sides;
