//! DDL on a live server: it waits for its locks briefly and again, so that it never queues the application behind it.

use std::time::{Duration, Instant};

use postgres::error::SqlState;

use super::{Server, Session, interrupt, params, sqlstate_of};
use crate::error::{Advise, Result, WrapErr};
use crate::value::Secret;

/// One statement, with what it is for.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// A bare verb phrase: `create publication "p"`. It is the error's context and the dry run's line.
    pub(crate) what: String,
    /// As it may be shown to anyone.
    pub(crate) shown: String,
    secret: Option<Secret>,
}

impl Statement {
    /// A statement that anyone may see.
    pub(crate) fn new(what: impl Into<String>, sql: impl Into<String>) -> Self {
        Statement {
            what: what.into(),
            shown: sql.into(),
            secret: None,
        }
    }

    /// A statement that carries a password; `shown` is the same without it.
    pub(crate) fn secret(what: impl Into<String>, sql: Secret, shown: impl Into<String>) -> Self {
        Statement {
            what: what.into(),
            shown: shown.into(),
            secret: Some(sql),
        }
    }

    /// Runs it.
    pub(crate) fn run(&self, session: &Session) -> Result<()> {
        let done = match &self.secret {
            None => session.batch(&self.shown),
            Some(secret) => session.batch_secret(secret.clone()),
        };
        done.wrap_err_with(|| self.what.clone())
    }
}

/// The beginning of a transaction that autovacuum makes way for: it yields to a lock that is waited for longer than
/// deadlock_timeout, which only some may set. A short lock_timeout alone never wins against it.
pub(crate) fn begin_before_autovacuum(server: &Server, session: &Session) -> Result<&'static str> {
    let may_set = match server.major() {
        ..15 => server.facts().superuser,
        _ => session.value(
            "SELECT has_parameter_privilege('deadlock_timeout', 'SET')",
            params![],
        )?,
    };
    Ok(if may_set {
        "BEGIN; SET LOCAL deadlock_timeout = '1ms'"
    } else {
        "BEGIN"
    })
}

/// How DDL waits for its locks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ddl {
    /// `lock_timeout` of one try.
    pub(crate) lock_timeout: Duration,
    /// For how long it is tried again.
    pub(crate) in_all: Duration,
}

impl Default for Ddl {
    fn default() -> Self {
        Ddl {
            lock_timeout: Duration::from_secs(2),
            in_all: Duration::from_secs(30),
        }
    }
}

/// After so long whoever waits wants to know for what.
const SAID_AFTER: Duration = Duration::from_secs(2);

/// Answers that mean "not now": the statement did nothing, and a moment later it may pass.
pub(crate) fn is_contention(state: &SqlState) -> bool {
    [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ]
    .contains(state)
}

impl Ddl {
    /// Runs `statements` as one transaction, with a `lock_timeout` of its own, until they pass or the time is over.
    pub(crate) fn run(&self, session: &Session, statements: &[Statement]) -> Result<()> {
        self.retry(session, || {
            session.batch(&format!(
                "BEGIN; SET LOCAL lock_timeout = {}",
                self.lock_timeout.as_millis()
            ))?;
            for statement in statements {
                statement.run(session)?;
            }
            session.batch("COMMIT")
        })
    }

    /// Repeats `attempt`, one transaction, while locks are what stops it.
    pub(crate) fn retry<T>(&self, session: &Session, attempt: impl Fn() -> Result<T>) -> Result<T> {
        let since = Instant::now();
        let mut pause = Duration::from_millis(100);
        let mut said = false;
        loop {
            let report = match attempt() {
                Ok(done) => return Ok(done),
                Err(report) => report,
            };
            // What failed has left its transaction open, aborted; a lost session has none.
            if !super::is_lost(&report) && interrupt::check().is_ok() {
                session.batch("ROLLBACK")?;
            }
            let busy = sqlstate_of(&report).is_some_and(is_contention);
            if busy && since.elapsed() + pause <= self.in_all {
                if !said && since.elapsed() >= SAID_AFTER {
                    log::warn!(
                        "another session holds a lock that this needs: it is tried again for {} in all",
                        humantime::format_duration(self.in_all)
                    );
                    said = true;
                }
                log::info!("a lock is held by another session, trying again: {report:#}");
                interrupt::sleep(pause)?;
                pause = (pause * 2).min(Duration::from_secs(2));
                continue;
            }
            return if busy {
                Err(report).hint(|| {
                "another session holds a lock that this needs: find it in pg_locks and pg_stat_activity, end it or wait, and run the command again".into()
            })
            } else {
                Err(report)
            };
        }
    }
}
