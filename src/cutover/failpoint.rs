//! Makes each step reachable for tests: `FLARE_FAILPOINT=drain=hold` stays before *drain* until the deadline, `drain=stop`
//! stops the process there until SIGCONT, `drain=fail` fails. Only in debug builds.

use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::cutover::deadline::Deadline;
use crate::cutover::report::StepName;
use crate::error::{Failure, Result, WrapErr};
use crate::server::interrupt;

/// Where the environment names a step and what to do there.
pub(super) const VARIABLE: &str = "FLARE_FAILPOINT";

/// What is awaited by tests on standard error.
const REACHED: &str = "failpoint reached";

/// The step that the environment of a debug build names.
fn asked() -> Option<String> {
    let asked = if cfg!(debug_assertions) {
        std::env::var(VARIABLE).ok()?
    } else {
        return None;
    };
    asked.split_once('=').map(|(step, _)| step.to_owned())
}

/// The steps whose batches are sent at once: all of them, unless a failpoint stands before one. Then those before it are
/// sent first, and answered.
pub(super) fn rounds(steps: &[StepName]) -> Vec<Vec<StepName>> {
    let asked = asked();
    let at = steps
        .iter()
        .position(|step| Some(step.as_str()) == asked.as_deref());
    match at {
        Some(at) if at > 0 => vec![steps[..at].to_vec(), steps[at..].to_vec()],
        _ => vec![steps.to_vec()],
    }
}

/// Holds or fails before a step, when the environment of a debug build says so.
pub(super) fn before(step: &str, deadline: &Deadline) -> Result<()> {
    let asked = if cfg!(debug_assertions) {
        std::env::var(VARIABLE).unwrap_or_default()
    } else {
        return Ok(());
    };
    match asked.split_once('=') {
        Some((at, "hold")) if at == step => {
            log::warn!("{REACHED}: {step}");
            loop {
                deadline.check()?;
                interrupt::sleep(Duration::from_millis(20))?;
            }
        }
        Some((at, "stop")) if at == step => {
            log::warn!("{REACHED}: {step}");
            kill_process(getpid(), Signal::STOP).wrap_err("stop this process")
        }
        Some((at, "fail")) if at == step => Failure::new(format!("{REACHED}: {step}")).err(),
        _ => Ok(()),
    }
}
