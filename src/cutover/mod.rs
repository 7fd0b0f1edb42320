//! The pause and the way back: one file per step, named as the protocol names them.
//!
//! What the application feels is the *write pause*. `pause_write` runs it from *guard* to *drain* and leaves the door
//! shut; whoever ends a pause, well or badly, must win its journal row first, so that a tool, its guards and a second
//! tool can race without harm.

mod clear;
mod deadline;
mod door;
mod drain;
mod failpoint;
mod guard;
pub(crate) mod guard_process;
mod lock;
mod pause;
mod prepare;
mod ready;
mod report;
mod resume;
mod sessions;
mod undo;
mod wall;

pub(crate) use pause::{PauseRequest, pause_write};
pub use report::{PauseOutcome, PauseReport, ResumeReport, StepTime, Writable};
pub(crate) use resume::resume_write;
