//! The pause and the way back, as the protocol has them.
//!
//! What the application feels is the *write pause*. `pause_write` runs it from *guard* to *drain* and leaves *from*
//! shut; whoever ends a pause, well or badly, must win its journal row first, so that a tool, its guards and a second
//! tool can race without harm.
//!
//! `switch` is the whole of it, in the order of the rooms: `before` the pause, the `pause` (a file for each batch),
//! `after` it; `clients` are the hooks and poolers on the way, `exits` what ends otherwise.

mod after;
mod before;
mod clients;
mod exits;
mod pause;
mod pause_write;
mod switch;

// What all rooms share.
mod deadline;
mod failpoint;
mod probe;
mod report;
mod sessions;
mod state;
mod switch_report;

pub(crate) use before::run_lock::AtWork;
pub(crate) use before::seen;
pub(crate) use exits::abandon::abandon;
pub(crate) use exits::cleanup::{cleanup, cleanup_without_publisher, open_shut};
pub(crate) use exits::resume::resume_write;
pub(crate) use exits::settle::{in_words, settle};
pub(crate) use pause::guard_process;
pub(crate) use pause::terminating::Terminating;
pub(crate) use pause_write::pause_write;
pub use report::{PauseOutcome, PauseReport, ResumeReport, StepName, StepTime, Writable};
pub(crate) use state::{PauseRequest, Wanted};
pub(crate) use switch::switch;
pub(crate) use switch_report::written_before;
pub use switch_report::{SwitchOutcome, SwitchReport, SwitchedDatabase};
