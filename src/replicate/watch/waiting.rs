//! Whether a flare waits for a copy: an advisory lock of the session that waits, which ends with it.

use crate::error::{Result, WrapErr, message_of};
use crate::server::{Session, params};

/// Shared by all that wait for copies of the session's database.
const KEY: (i32, i32) = (0x666c_6177, 1);

/// Has others see that somebody waits, for as long as that lasts.
pub(super) fn seen<T>(session: &Session, wait: impl FnOnce() -> Result<T>) -> Result<T> {
    let (class, key) = KEY;
    session
        .execute(
            "SELECT pg_advisory_lock_shared($1, $2)",
            params![class, key],
        )
        .wrap_err("have it seen that the copy is waited for")?;
    let outcome = wait();
    // The session may be lent to others afterwards.
    let ended = session.execute(
        "SELECT pg_advisory_unlock_shared($1, $2)",
        params![class, key],
    );
    if let Err(report) = ended {
        log::debug!("no longer wait for the copy: {}", message_of(&report));
    }
    outcome
}

/// Whether somebody waits for a copy of the session's database.
pub(crate) fn is_seen(session: &Session) -> Result<bool> {
    let (class, key) = KEY;
    session
        .value(
            "SELECT EXISTS (SELECT FROM pg_locks
                             WHERE locktype = 'advisory' AND classid::text = $1 AND objid::text = $2 AND granted
                               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            params![class.to_string(), key.to_string()],
        )
        .wrap_err("look whether somebody waits for the copy")
}
