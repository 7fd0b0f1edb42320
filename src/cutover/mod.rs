//! The pause and the way back: one file per step, named as the protocol names them.
//!
//! What the application feels is the *write pause*. `pause_write` runs it from *guard* to *drain* and leaves *from*
//! shut; whoever ends a pause, well or badly, must win its journal row first, so that a tool, its guards and a second
//! tool can race without harm.

// Before the pause.
mod heartbeat;
mod plan;
mod prepare;
mod ready;
mod run_lock;
mod sessions;
mod way_back;
// The pause: the engine, its state, and its batches in the order of the protocol.
mod engine;
mod state;

mod guard;
pub(crate) mod guard_process;

mod apply;
mod batch;
mod clients;
mod drain;
mod open;
mod revoke;
mod sequences;
mod switching;
mod table_locks;
mod terminate;
mod terminating;
// Its end: held, switched, undone, or settled by whoever comes next.
mod abandon;
mod cleanup;
pub(crate) mod outlook;
mod pause;
mod report;
mod resume;
mod settle;
mod switch;
mod switch_report;
mod undo;
// What the steps are made of.
mod backends;
mod connect_privileges;
mod deadline;
mod failpoint;
mod hook_process;
mod hooks;
mod pgbouncer;
mod pooler;
mod probe;

pub(crate) use abandon::abandon;
pub(crate) use cleanup::{cleanup, cleanup_without_publisher, open_shut};
pub(crate) use pause::pause_write;
pub use report::{PauseOutcome, PauseReport, ResumeReport, StepName, StepTime, Writable};
pub(crate) use resume::resume_write;
pub(crate) use run_lock::AtWork;
pub(crate) use settle::{in_words, settle};
pub(crate) use state::{PauseRequest, Wanted};
pub(crate) use switch::switch;
pub(crate) use switch_report::written_before;
pub use switch_report::{SwitchOutcome, SwitchReport, SwitchedDatabase};
pub(crate) use terminating::Terminating;
