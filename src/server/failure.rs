//! What a server answered, kept so that its words and its SQLSTATE survive on the way up.

use std::fmt;
use std::io;

use postgres::error::{Severity, SqlState};

use super::verified::is_identity_mismatch;
use crate::error::{Error, ErrorKind, Report, exit_of, hint_of, kind_of};

/// A server's answer, or the loss of the connection to it.
#[derive(Debug)]
pub struct SqlError {
    sqlstate: Option<SqlState>,
    routine: Option<String>,
    words: String,
    lost: bool,
    unreachable: bool,
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
                routine: None,
                sqlstate: None,
                words,
                lost: true,
                unreachable: is_of_the_way(&error),
            };
        };
        let mut words = format!("{}: {}", answer.severity(), answer.message());
        for (name, extra) in [("DETAIL", answer.detail()), ("HINT", answer.hint())] {
            if let Some(extra) = extra {
                words.push_str(&format!(" ({name}: {extra})"));
            }
        }
        // The severity's words are in the server's language.
        let lost = matches!(
            answer.parsed_severity(),
            Some(Severity::Fatal | Severity::Panic)
        );
        SqlError {
            sqlstate: Some(answer.code().clone()),
            routine: answer.routine().map(str::to_owned),
            words,
            lost,
            unreachable: false,
        }
    }
}

/// Whether no connection came about at all, as far as the system says so.
fn is_of_the_way(error: &postgres::Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| {
        matches!(
            cause.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::NotFound
                | io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
        )
    })
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for SqlError {}

/// The SQLSTATE of the server's answer in this chain, if a server answered.
pub(crate) fn sqlstate_of(report: &Report) -> Option<&SqlState> {
    match report.downcast_ref::<SqlError>() {
        Some(answer) => answer.sqlstate.as_ref(),
        None => report.downcast_ref::<Error>()?.sql_state(),
    }
}

/// The function of the server's own source that refused: the same in every language of its messages.
pub(crate) fn routine_of(report: &Report) -> Option<&str> {
    report.downcast_ref::<SqlError>()?.routine.as_deref()
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
    let lost = report.downcast_ref::<SqlError>().map(|error| error.lost);
    lost.unwrap_or_else(|| timed_out(report) || kind_of(report) == Some(ErrorKind::Connection))
}

/// Whether nobody listens there, or nobody answered in time.
pub(crate) fn is_unreachable(report: &Report) -> bool {
    let answered = report.downcast_ref::<SqlError>();
    answered.map_or_else(|| timed_out(report), |error| error.unreachable)
}

/// The one place where an error leaves the library.
impl From<Report> for Error {
    fn from(report: Report) -> Error {
        let kind = if is_identity_mismatch(&report) {
            ErrorKind::WrongServer
        } else if let Some(known) = kind_of(&report) {
            known
        } else if is_lost(&report) {
            ErrorKind::Connection
        } else if report.downcast_ref::<SqlError>().is_some() {
            ErrorKind::Server
        } else {
            ErrorKind::Failed
        };
        let words: Vec<String> = report.chain().map(ToString::to_string).collect();
        Error::of_chain(kind, words.into_iter())
            .with_sqlstate(sqlstate_of(&report).cloned())
            .with_hint(hint_of(&report).map(str::to_owned))
            .with_exit(exit_of(&report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Advise, Failure, WrapErr};

    #[test]
    fn an_error_that_leaves_keeps_kind_hint_and_words_on_its_way_through_reports() {
        let report = Failure::no("2 rows differ").hint("look at them");
        let inner = Error::from(Report::from(report).wrap_err("verify table \"a\""));
        let outer = Err::<(), _>(inner)
            .wrap_err("prepare")
            .hint(|| "not this one".into())
            .unwrap_err();
        let error = Error::from(outer);
        assert_eq!(
            error.message(),
            "prepare: verify table \"a\": 2 rows differ"
        );
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.hint(), Some("look at them"));
        assert_eq!(error.exit().code(), 3);
    }

    #[test]
    fn what_a_server_says_is_known_by_its_code_and_a_hint_by_kind_yields_to_a_better_one() {
        let answered = |lost| SqlError {
            routine: None,
            sqlstate: Some(SqlState::INSUFFICIENT_PRIVILEGE),
            words: "ERROR: permission denied".into(),
            lost,
            unreachable: false,
        };
        let refused = Error::from(Report::from(answered(false)).wrap_err("count"));
        assert_eq!(refused.kind(), ErrorKind::Server);
        assert_eq!(refused.sqlstate(), Some("42501"));
        assert!(refused.hint().is_some());
        let prepared = Err::<(), _>(refused).hint(|| "go on".into()).unwrap_err();
        assert!(is_denied(&prepared) && !is_lost(&prepared));
        assert_eq!(Error::from(prepared).hint(), Some("go on"));
        let lost = Error::from(Report::from(answered(true)));
        assert_eq!(lost.kind(), ErrorKind::Connection);
        assert!(is_lost(&Report::from(lost)));
    }
}
