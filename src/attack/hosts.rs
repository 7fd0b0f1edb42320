//! Which refusal makes a client with several addresses try the next one.

use std::fmt;

use postgres::error::SqlState;

use super::dsn::Dsn;
use crate::error::{Report, Result, WrapErr};
use crate::server::{SqlError, is_unreachable, sqlstate_of};

/// The rule of a client library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextHost {
    /// libpq's, with `target_session_attrs=read-write`: every connection begins with the first address, and the next one is
    /// tried only where nobody listens, after 57P03 (starting, shutting down), and when the session is read-only. Any other
    /// refusal ends the attempt.
    #[default]
    AsLibpq,
    /// pgjdbc's, with `targetServerType=primary`: after any error.
    AnyError,
}

/// A server that lets in and does not let write.
#[derive(Debug)]
struct ReadOnlySession;

impl fmt::Display for ReadOnlySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session is read-only")
    }
}

impl std::error::Error for ReadOnlySession {}

/// As libpq asks for `target_session_attrs=read-write`; on a standby the answer is `on` as well.
pub(super) fn refuse_read_only(sql: &mut postgres::Client, dsn: &Dsn) -> Result<()> {
    let asked = sql
        .query_one("SHOW transaction_read_only", &[])
        .and_then(|row| row.try_get::<_, String>(0))
        .map_err(SqlError::from)
        .wrap_err_with(|| format!("ask {} whether it is read-only", dsn.shown))?;
    if asked == "on" {
        return Err(Report::from(ReadOnlySession).wrap_err(format!("write to {}", dsn.shown)));
    }
    Ok(())
}

/// Whether libpq goes on with the next address after this.
pub(super) fn libpq_tries_next(report: &Report) -> bool {
    report.downcast_ref::<ReadOnlySession>().is_some()
        || sqlstate_of(report) == Some(&SqlState::CANNOT_CONNECT_NOW)
        || is_unreachable(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn libpq_leaves_a_read_only_session_and_nothing_that_answers_otherwise() {
        let read_only = Report::from(ReadOnlySession).wrap_err("write to a:1/b");
        assert!(libpq_tries_next(&read_only));
        assert!(!libpq_tries_next(&Failure::new("anything else").into()));
    }
}
