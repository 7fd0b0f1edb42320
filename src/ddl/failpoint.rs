//! Makes each step reachable for tests: `FLARE_FAILPOINT=ddl:first=stop` stops the process there. Only in debug builds.

use rustix::process::{Signal, getpid, kill_process};

use crate::error::{Result, WrapErr};

/// Stops before a step, when the environment of a debug build says so.
pub(super) fn before(step: &str) -> Result<()> {
    let asked = if cfg!(debug_assertions) {
        std::env::var("FLARE_FAILPOINT").unwrap_or_default()
    } else {
        return Ok(());
    };
    if asked == format!("ddl:{step}=stop") {
        log::warn!("failpoint reached: {step}");
        kill_process(getpid(), Signal::STOP).wrap_err("stop this process")?;
    }
    Ok(())
}
