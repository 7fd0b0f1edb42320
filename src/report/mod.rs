//! The same result for a person and for a program. The only place that prints.

mod confirm;
mod monitor;
pub(crate) mod on_change;
mod outcome;
mod screen;
mod terminal;
pub(crate) mod textfile;

pub(crate) use confirm::{confirm, confirm_list};
pub(crate) use monitor::watch;
pub use outcome::{Format, Outcome};
pub use screen::{failure, success};
pub(crate) use screen::{line, object};
pub use terminal::Terminal;
