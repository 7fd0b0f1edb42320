//! Ending sessions, and what can stand in the way without one.

use crate::error::{Failure, Result, WrapErr};
use crate::journal::{self, Entry};
use crate::server::{Session, is_lost, params};

/// Ends sessions in one round trip; where one of them may not be ended, one by one, so that the error names it.
pub(crate) fn end_all(watch: &Session, pids: &[i32]) -> Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    let at_once = watch.execute(
        "SELECT pg_terminate_backend(pid) FROM unnest($1) pid",
        params![pids.to_vec()],
    );
    match at_once {
        Err(report) if !is_lost(&report) => pids.iter().try_for_each(|pid| end(watch, *pid)),
        outcome => outcome.map(drop),
    }
}

/// Ends one session.
pub(crate) fn end(watch: &Session, pid: i32) -> Result<()> {
    let asked: Result<bool> = watch.value("SELECT pg_terminate_backend($1)", params![pid]);
    asked
        .map(drop)
        .wrap_err_with(|| format!("end the session with pid {pid}"))
}

/// A prepared transaction holds its locks without any session, and may still be committed.
pub(crate) fn no_prepared_transaction(watch: &Session, dbname: &str) -> Result<()> {
    let prepared: Vec<String> = watch.value(
        "SELECT array(SELECT gid FROM pg_prepared_xacts WHERE database = $1 ORDER BY prepared)",
        params![dbname],
    )?;
    match prepared.is_empty() {
        true => Ok(()),
        false => Failure::new(format!("prepared transactions are open in {dbname:?}: {}", prepared.join(", ")))
            .hint("COMMIT PREPARED or ROLLBACK PREPARED them in that database, then run the command again")
            .err(),
    }
}

/// Ends what a dead run has left on the server: whoever takes over does this first.
pub(super) fn end_backends(admin: &Session, entry: &Entry) -> Result<()> {
    for backend in journal::backends_alive(admin, &entry.backends)? {
        end(admin, backend.pid)?;
    }
    Ok(())
}
