//! The pause and the way back: one file per step, named as the protocol names them.
//!
//! What the application feels is the *write pause*. `pause_write` runs it from *guard* to *drain* and leaves the door
//! shut; whoever ends a pause, well or badly, must win its journal row first, so that a tool, its guards and a second
//! tool can race without harm.

// Before the pause.
mod heartbeat;
mod lock;
mod plan;
mod prepare;
mod ready;
mod sessions;
mod way_back;
// The pause: the engine, its state, and its steps in the order of the protocol.
mod engine;
mod state;

mod guard;
pub(crate) mod guard_process;

mod clear;
mod clients;
mod door;
mod drain;
mod mark;
mod sequences;
mod stop;
mod switched;
mod switching;
mod wall;
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
mod clearing;
mod deadline;
mod failpoint;
mod hook_process;
mod hooks;
mod pgbouncer;
mod pooler;
mod probe;
mod rights;

pub(crate) use abandon::abandon;
pub(crate) use cleanup::{cleanup, cleanup_without_publisher, open_gate};
pub(crate) use clearing::Clearing;
pub(crate) use lock::AtWork;
pub(crate) use pause::pause_write;
pub use report::{PauseOutcome, PauseReport, ResumeReport, StepName, StepTime, Writable};
pub(crate) use resume::resume_write;
pub(crate) use settle::{in_words, settle};
pub(crate) use state::{PauseRequest, Wanted};
pub(crate) use switch::switch;
pub(crate) use switch_report::written_before;
pub use switch_report::{SwitchOutcome, SwitchReport, SwitchedDatabase};
