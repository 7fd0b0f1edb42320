//! Ending sessions, and what can stand in the way without one.

use crate::error::{Failure, Result, WrapErr};
use crate::journal::{self, Entry};
use crate::server::{Session, params};

/// One statement per session: one that may not be ended must not save the others.
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
