//! Statements that carry a password stay out of the server's log.

use super::{Session, params};
use crate::error::Result;

/// Keeps the statements of this transaction, which carry a password, out of the server's log where the role may do so.
///
/// The settings are superuser's; from 15 on they can be granted (`GRANT SET ON PARAMETER`).
pub(crate) fn silence_statement_log(session: &Session) -> Result<()> {
    let permitted: bool = session.value(
        "SELECT current_setting('is_superuser') = 'on' OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
        params![],
    )?;
    if !permitted {
        return Ok(());
    }
    session.batch(
        "SET LOCAL log_statement = 'none'; SET LOCAL log_min_error_statement = 'panic';
         SET LOCAL log_min_duration_statement = -1; SET LOCAL log_duration = off",
    )?;
    let tracks: bool = session.value(
        "SELECT current_setting('pg_stat_statements.track_utility', true) IS NOT NULL",
        params![],
    )?;
    match tracks {
        true => session.batch("SET LOCAL pg_stat_statements.track_utility = off"),
        false => Ok(()),
    }
}
