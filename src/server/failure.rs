//! What a server answered, kept so that its words and its SQLSTATE survive on the way up.

use std::fmt;

use postgres::error::SqlState;

use crate::error::Report;

/// A server's answer, or the loss of the connection to it.
#[derive(Debug)]
pub struct SqlError {
    sqlstate: Option<SqlState>,
    words: String,
    lost: bool,
}

impl SqlError {
    /// The server's SQLSTATE (manual: "PostgreSQL Error Codes"); none when it was the connection that failed.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_ref().map(SqlState::code)
    }
}

impl From<postgres::Error> for SqlError {
    fn from(error: postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let words = format!("{error}{}", cause.unwrap_or_default());
            return SqlError {
                sqlstate: None,
                words,
                lost: true,
            };
        };
        let mut words = format!("{}: {}", answer.severity(), answer.message());
        for (name, extra) in [("DETAIL", answer.detail()), ("HINT", answer.hint())] {
            if let Some(extra) = extra {
                words.push_str(&format!(" ({name}: {extra})"));
            }
        }
        let lost = matches!(answer.severity(), "FATAL" | "PANIC");
        SqlError {
            sqlstate: Some(answer.code().clone()),
            words,
            lost,
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for SqlError {}

/// The SQLSTATE of the server's answer in this chain, if a server answered.
pub(crate) fn sqlstate_of(report: &Report) -> Option<&SqlState> {
    report.downcast_ref::<SqlError>()?.sqlstate.as_ref()
}

/// Whether the server refused because of a missing right.
pub(crate) fn is_denied(report: &Report) -> bool {
    sqlstate_of(report) == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

/// Whether the server did not answer in time.
pub(crate) fn timed_out(report: &Report) -> bool {
    report.downcast_ref::<super::session::TimedOut>().is_some()
}

/// Whether the session is gone: what was asked last may or may not have happened.
pub(crate) fn is_lost(report: &Report) -> bool {
    report
        .downcast_ref::<SqlError>()
        .is_some_and(|error| error.lost)
        || timed_out(report)
}

/// What to do next about a server's answer, or its silence, that nobody on the way up knew more about.
pub(crate) fn next_step(report: &Report) -> Option<&'static str> {
    if is_lost(report) {
        return Some(
            "check that the server runs and can be reached, then run the command again: it finishes what is half done, or undoes it",
        );
    }
    let answered = report.downcast_ref::<SqlError>();
    answered.map(|_| "mend what the server says, and run the command again")
}
