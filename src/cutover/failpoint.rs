//! Makes each step reachable for tests: `FLARE_FAILPOINT=drain=hold` stays before *drain* until the deadline, `drain=stop`
//! stops the process there until SIGCONT, `drain=fail` fails. Only in debug builds.

use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use super::deadline::Deadline;
use crate::error::{Failure, Result, WrapErr};
use crate::server::interrupt;

/// What is awaited by tests on standard error.
const REACHED: &str = "failpoint reached";

/// Holds or fails before a step, when the environment of a debug build says so.
pub(super) fn before(step: &str, deadline: &Deadline) -> Result<()> {
    let asked = match cfg!(debug_assertions) {
        true => std::env::var("FLARE_FAILPOINT").unwrap_or_default(),
        false => return Ok(()),
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
