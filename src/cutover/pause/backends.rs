//! Ending sessions, and what can stand in the way without one.

use std::time::Duration;

use crate::cutover::deadline::Deadline;
use crate::error::{Failure, Result, WrapErr};
use crate::journal::{self, Backend};
use crate::server::{Session, interrupt, params};

/// Ends one session.
pub(crate) fn end(watch: &Session, pid: i32) -> Result<()> {
    let asked: Result<bool> = watch.value("SELECT pg_terminate_backend($1)", params![pid]);
    asked
        .map(drop)
        .wrap_err_with(|| format!("end the session with pid {pid}"))
}

/// Ends whoever keeps a session waiting for a lock.
pub(in crate::cutover) fn end_blockers_of(watch: &Session, waiting: i32) -> Result<()> {
    let blockers: Vec<i32> = watch.value("SELECT pg_blocking_pids($1)", params![waiting])?;
    let sessions = blockers.iter().filter(|pid| **pid != 0);
    sessions.into_iter().try_for_each(|pid| end(watch, *pid))
}

/// A prepared transaction holds its locks without any session, and may still be committed.
pub(crate) fn no_prepared_transaction(watch: &Session, dbname: &str) -> Result<()> {
    let prepared: Vec<String> = watch.value(
        "SELECT array(SELECT gid FROM pg_prepared_xacts WHERE database = $1 ORDER BY prepared)",
        params![dbname],
    )?;
    if prepared.is_empty() {
        Ok(())
    } else {
        Failure::new(format!(
            "prepared transactions are open in {dbname:?}: {}",
            prepared.join(", ")
        ))
        .hint("COMMIT PREPARED or ROLLBACK PREPARED them in that database, then run the command again")
        .err()
    }
}

/// Ends a session, and waits until it has gone: nothing that it was asked can happen any more.
pub(in crate::cutover) fn end_and_await(admin: &Session, backend: &Backend) -> Result<()> {
    let deadline = Deadline::after(GONE_WITHIN);
    end(admin, backend.pid)?;
    while !journal::backends_alive(admin, std::slice::from_ref(backend))?.is_empty() {
        deadline.check().wrap_err_with(|| {
            format!("wait until the session with pid {} has gone", backend.pid)
        })?;
        interrupt::sleep(Duration::from_millis(2))?;
    }
    Ok(())
}

/// How long a session that was told to end may take.
const GONE_WITHIN: Duration = Duration::from_secs(5);
