//! The pause and the way back: one file per step, named as the protocol names them.
//!
//! What the application feels is the *write pause*. `pause_write` runs it from *guard* to *drain* and leaves the door
//! shut; whoever ends a pause, well or badly, must win its journal row first, so that a tool, its guards and a second
//! tool can race without harm.

// Before the pause.
mod lock;
mod prepare;
mod ready;
mod sessions;
// The pause: the engine, its state, and its steps.
mod clear;
mod door;
mod drain;
mod guard;
pub(crate) mod guard_process;
mod pause;
mod state;
mod wall;
// Its end.
mod report;
mod resume;
mod undo;
// What the steps are made of.
mod backends;
mod clearing;
mod deadline;
mod failpoint;
mod probe;
mod rights;

pub(crate) use pause::pause_write;
pub use report::{PauseOutcome, PauseReport, ResumeReport, StepTime, Writable};
pub(crate) use resume::resume_write;
pub(crate) use state::PauseRequest;
