//! Statements that carry a password, or values that are not to be shown, stay out of the server's log.

use super::{Session, params};
use crate::error::Result;

/// What writes statements to a log or a view. Some only exist in later versions or with their library loaded.
const SILENT: [(&str, &str); 8] = [
    ("log_statement", "'none'"),
    ("log_min_error_statement", "'panic'"),
    ("log_min_duration_statement", "-1"),
    ("log_min_duration_sample", "-1"),
    ("log_duration", "off"),
    ("log_transaction_sample_rate", "0"),
    ("pg_stat_statements.track_utility", "off"),
    ("pgaudit.log", "'none'"),
];

/// Keeps the statements of this transaction, which carry a password, out of the server's log where the role may do so.
/// `major`: the session's server's version.
pub(crate) fn silence_statement_log(session: &Session, major: i32) -> Result<()> {
    let silencing = silencing(session, major)?;
    if silencing.is_empty() {
        Ok(())
    } else {
        session.batch(&silencing)
    }
}

/// The same for all that the session sends.
pub(crate) fn silence_session(session: &Session, major: i32) -> Result<()> {
    let settings = permitted(session, major)?;
    let settings: String = settings
        .map(|(name, value)| format!("SET {name} = {value};\n"))
        .collect();
    if settings.is_empty() {
        Ok(())
    } else {
        session.batch(&settings)
    }
}

/// The statements that do so, for a transaction that has begun.
pub(crate) fn silencing(session: &Session, major: i32) -> Result<String> {
    let settings = permitted(session, major)?;
    Ok(settings
        .map(|(name, value)| format!("SET LOCAL {name} = {value};\n"))
        .collect())
}

/// The settings are superuser's; from 15 on they can be granted (`GRANT SET ON PARAMETER`).
fn permitted(
    session: &Session,
    major: i32,
) -> Result<impl Iterator<Item = (&'static str, &'static str)>> {
    let granted = if major >= 15 {
        "OR has_parameter_privilege(name, 'SET')"
    } else {
        ""
    };
    let names: Vec<String> = SILENT.iter().map(|(name, _)| name.to_string()).collect();
    let permitted: Vec<String> = session.value(
        &format!(
            "SELECT array(SELECT name FROM unnest($1) name
                           WHERE current_setting(name, true) IS NOT NULL
                             AND (current_setting('is_superuser') = 'on' {granted}))"
        ),
        params![names],
    )?;
    Ok(SILENT
        .into_iter()
        .filter(move |(name, _)| permitted.iter().any(|permitted| permitted == name)))
}
