//! One client: a thread with one session, that writes until the run is over.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use postgres::Client as Sql;
use uuid::Uuid;

use super::dsn::Dsn;
use super::generator::{Generator, sql, timestamp};
use super::ledger::{Entry, Ledger, Op, Outcome, Table, with_outcome};
use super::meter::Meter;
use super::pace::{Pace, Scouting, Stop, Turn, pause};
use super::shape;
use crate::error::{Report, Result, WrapErr, message_of};
use crate::server::{SqlError, application_name, connect_unverified, is_lost};

/// The original's.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(100);
/// How long a client lets the scout look for it.
const TRUST_IN_SCOUT: Duration = Duration::from_millis(500);

/// What all clients share.
pub(super) struct Shared {
    pub(super) dsns: Vec<Dsn>,
    /// Which of them have proven to hold the generator's tables.
    pub(super) checked: Vec<Mutex<bool>>,
    pub(super) ledger: Option<Ledger>,
    pub(super) meter: Mutex<Meter>,
    pub(super) pace: Pace,
    pub(super) scouting: Scouting,
    pub(super) stop: Stop,
    pub(super) complaints: Mutex<Complaints>,
    /// What ended the run before its time.
    pub(super) fatal: Mutex<Option<Report>>,
}

/// The transaction that a client has sent and heard nothing of. Whoever takes it decides what is recorded.
pub(super) type InFlight = Arc<Mutex<Option<Vec<Entry>>>>;

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
        match self.logged < COMPLAINTS_PER_SECOND {
            true => {
                self.logged += 1;
                Some(std::mem::take(&mut self.kept_back))
            }
            false => {
                self.kept_back += 1;
                None
            }
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Shared {
    /// Connects to one of the servers; the first time it must show that it may be written to.
    pub(super) fn connect(&self, at: usize) -> Result<Sql> {
        let dsn = &self.dsns[at];
        let mut sql = connect_unverified(dsn.reveal(), &application_name("attack"))
            .wrap_err_with(|| format!("connect to {}", dsn.shown))?;
        let known = *locked(&self.checked[at]);
        if !known {
            shape::check(&mut sql, dsn)?;
            *locked(&self.checked[at]) = true;
        }
        Ok(sql)
    }

    fn complain(&self, report: &Report) {
        locked(&self.meter).errors += 1;
        if self.stop.is_over() {
            return;
        }
        match locked(&self.complaints).admit(Instant::now()) {
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

    /// What came of a transaction whose connection is gone.
    pub(super) fn record_unknown(&self, entries: Vec<Entry>) {
        locked(&self.meter).unknown += entries.len() as u64;
        self.record(&with_outcome(entries, Outcome::Unknown));
    }
}

/// The session of one thread, and where it is looked for next.
struct Session {
    shared: Arc<Shared>,
    at: usize,
    sql: Option<Sql>,
    /// How often it has failed since it last wrote something.
    failures: u32,
    scout: bool,
}

impl Session {
    fn new(shared: Arc<Shared>, at: usize) -> Session {
        Session {
            shared,
            at,
            sql: None,
            failures: 0,
            scout: false,
        }
    }

    /// Runs a transaction; `Err` means it did not pass, or nobody knows ([`is_lost`]).
    fn run(&mut self, text: &str) -> Result<()> {
        let dsn = &self.shared.dsns[self.at];
        match &mut self.sql {
            Some(sql) => sql
                .batch_execute(text)
                .map_err(SqlError::from)
                .wrap_err_with(|| format!("write to {}", dsn.shown)),
            None => crate::error::Failure::new("write without a session").err(),
        }
    }

    /// Makes sure that there is a session: true when there is.
    fn connected(&mut self) -> bool {
        if self.sql.is_none() {
            match self.shared.connect(self.at) {
                Ok(sql) => self.sql = Some(sql),
                Err(report) => {
                    self.failed(&report);
                    return false;
                }
            }
        }
        true
    }

    fn passed(&mut self) {
        self.failures = 0;
        if self.scout {
            self.scout = false;
            self.shared.scouting.found(self.at);
        }
    }

    /// The next server is tried; with one server a session that still lives is kept.
    fn failed(&mut self, report: &Report) {
        self.shared.complain(report);
        self.failures += 1;
        let others = self.shared.dsns.len() > 1;
        let usable = !others
            && !is_lost(report)
            && self
                .sql
                .as_mut()
                .is_some_and(|sql| sql.batch_execute("ROLLBACK").is_ok());
        if !usable {
            self.sql = None;
            self.at = (self.at + 1) % self.shared.dsns.len();
        }
    }

    /// Every server has failed since the last success: waits a little, or for a scout's news.
    fn hold_back(&mut self) {
        let servers = self.shared.dsns.len() as u32;
        // The first failure is the loss of the session; after it every server is tried once without a pause.
        let tried = self.failures.saturating_sub(1);
        if tried == 0 || !tried.is_multiple_of(servers) {
            return;
        }
        let shared = self.shared.clone();
        if !self.scout {
            match shared.scouting.wait(TRUST_IN_SCOUT, &shared.stop) {
                Turn::Scout => self.scout = true,
                Turn::Go(at) => {
                    self.at = at;
                    self.sql = None;
                    self.failures = 0;
                    return;
                }
                Turn::Alone => return,
            }
        }
        shared.stop.sleep(pause(tried / servers));
    }
}

/// Writes the generator's transactions until the run is over.
pub(super) fn write(
    shared: Arc<Shared>,
    mut generator: Generator,
    in_flight: InFlight,
    first: usize,
) {
    let mut session = Session::new(shared.clone(), first);
    let mut waiting: Option<Vec<Entry>> = None;
    while !shared.stop.is_over() {
        session.hold_back();
        if !session.connected() {
            continue;
        }
        let entries = match waiting.take() {
            Some(entries) => entries,
            None => {
                let entries = generator.next(Uuid::new_v4());
                let wait = shared.pace.reserve(entries.len(), Instant::now());
                if !shared.stop.sleep(wait) {
                    return;
                }
                entries
            }
        };
        let text = sql(&entries);
        *locked(&in_flight) = Some(entries);
        let sent = Instant::now();
        let outcome = session.run(&text);
        let now = Instant::now();
        // The run may have ended meanwhile; then it has been recorded as unknown.
        let Some(entries) = locked(&in_flight).take() else {
            return;
        };
        match outcome {
            Ok(()) => {
                let entries = with_outcome(entries, Outcome::Acknowledged);
                if !shared.record(&entries) {
                    return;
                }
                locked(&shared.meter).acknowledge(entries.len() as u64, now - sent, now);
                generator.applied(entries);
                session.passed();
            }
            Err(report) => {
                match is_lost(&report) {
                    true => shared.record_unknown(entries),
                    false => generator.undone(entries),
                }
                session.failed(&report);
            }
        }
    }
}

/// Says every 100 ms that it is alive, as the original does.
pub(super) fn keep_alive(shared: Arc<Shared>, name: String, first: usize) {
    let mut session = Session::new(shared.clone(), first);
    let mut said = false;
    let mut due = Instant::now();
    while shared
        .stop
        .sleep(due.saturating_duration_since(Instant::now()))
    {
        due = Instant::now() + HEARTBEAT_EVERY;
        if !session.connected() {
            continue;
        }
        let beat = heartbeat(&name, Outcome::Existing);
        match session.run(&sql(std::slice::from_ref(&beat))) {
            Ok(()) => {
                locked(&shared.meter).heartbeats += 1;
                session.passed();
                if !said {
                    shared.record(&[beat]);
                    said = true;
                }
            }
            Err(report) => session.failed(&report),
        }
    }
}

/// The heartbeat's row, now.
pub(super) fn heartbeat(name: &str, outcome: Outcome) -> Entry {
    Entry {
        op: Op::Heartbeat,
        table: Table::Sessions,
        id: name.to_owned(),
        name: Some(timestamp(SystemTime::now())),
        client: 0,
        seq: 0,
        outcome,
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
