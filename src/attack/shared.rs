//! What all clients of a run share: the servers, the ledger, the figures, and when it is over.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use postgres::Client as Sql;
use postgres::error::SqlState;

use super::dsn::Dsn;
use super::hosts::{self, NextHost};
use super::ledger::{Entry, Ledger, Outcome, with_outcome};
use super::meter::Meter;
use super::pace::{Pace, Scouting, Stop};
use super::shape;
use crate::error::{Report, Result, WrapErr, message_of};
use crate::server::{application_name, connect_unverified, interrupt, sqlstate_of};

/// What all clients share.
pub(super) struct Shared {
    pub(super) dsns: Vec<Dsn>,
    /// Which of them have proven to hold the generator's tables.
    pub(super) checked: Vec<Mutex<bool>>,
    pub(super) next_host: NextHost,
    pub(super) ledger: Option<Ledger>,
    pub(super) meter: Mutex<Meter>,
    pub(super) pace: Pace,
    pub(super) scouting: Scouting,
    pub(super) stop: Stop,
    pub(super) complaints: Mutex<Complaints>,
    /// What ended the run before its time.
    pub(super) fatal: Mutex<Option<Report>>,
}

/// Errors that were logged in the current second, and those that were not.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    second: Option<Instant>,
    logged: u32,
    kept_back: u64,
}

const COMPLAINTS_PER_SECOND: u32 = 3;

impl Complaints {
    /// Whether one more may be logged now, and how many were kept back before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let fresh = self
            .second
            .is_none_or(|second| now - second >= Duration::from_secs(1));
        if fresh {
            self.second = Some(now);
            self.logged = 0;
        }
        if self.logged < COMPLAINTS_PER_SECOND {
            self.logged += 1;
            Some(std::mem::take(&mut self.kept_back))
        } else {
            self.kept_back += 1;
            None
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Shared {
    /// Connects to one of the servers, which must show that it may be written to.
    pub(super) fn connect(&self, at: usize) -> Result<Sql> {
        let mut sql = self.log_in(at)?;
        self.check(at, &mut sql)?;
        Ok(sql)
    }

    pub(super) fn log_in(&self, at: usize) -> Result<Sql> {
        let dsn = &self.dsns[at];
        connect_unverified(dsn.reveal(), &application_name("attack"))
            .wrap_err_with(|| format!("connect to {}", dsn.shown))
    }

    /// Whose tables they are is asked once, whether it may be written of every session, where there is another server.
    pub(super) fn check(&self, at: usize, sql: &mut Sql) -> Result<()> {
        if !*locked(&self.checked[at]) {
            shape::check(sql, &self.dsns[at])?;
            *locked(&self.checked[at]) = true;
        }
        if self.dsns.len() > 1 {
            hosts::refuse_read_only(sql, &self.dsns[at])?;
        }
        Ok(())
    }

    /// Counts an error that a client saw, and logs it unless there are too many.
    pub(super) fn complain(&self, report: &Report) {
        let now = Instant::now();
        // What the end of the run breaks off is not an error of a server's.
        if self.stop.is_over() || interrupt::caught() {
            return;
        }
        let sqlstate = sqlstate_of(report).map(SqlState::code);
        locked(&self.meter).fail(sqlstate, now);
        match locked(&self.complaints).admit(now) {
            None => {}
            Some(0) => log::warn!("{}", message_of(report)),
            Some(more) => log::warn!("{} (and {more} errors before it)", message_of(report)),
        }
    }

    /// Writes to the ledger; when that fails the run cannot go on.
    pub(super) fn record(&self, entries: &[Entry]) -> bool {
        let Some(ledger) = &self.ledger else {
            return true;
        };
        match ledger.append(entries) {
            Ok(()) => true,
            Err(report) => {
                locked(&self.fatal).get_or_insert(report);
                false
            }
        }
    }

    /// Notes what is about to be sent; when that fails nothing is.
    pub(super) fn begins(&self, entries: &[Entry]) -> bool {
        let begun = self.ledger.as_ref().map(|ledger| ledger.begins(entries));
        match begun {
            Some(Err(report)) => {
                locked(&self.fatal).get_or_insert(report);
                false
            }
            Some(Ok(())) | None => true,
        }
    }

    /// What came of a transaction whose connection is gone.
    pub(super) fn record_unknown(&self, entries: Vec<Entry>) {
        locked(&self.meter).unknown += entries.len() as u64;
        self.record(&with_outcome(entries, Outcome::Unknown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_errors_are_logged_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        let admitted: Vec<_> = (0..5).map(|_| complaints.admit(start)).collect();
        assert_eq!(admitted, [Some(0), Some(0), Some(0), None, None]);
        assert_eq!(complaints.admit(start + Duration::from_secs(1)), Some(2));
    }
}
