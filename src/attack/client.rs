//! One client: a session that writes until the run is over.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use postgres::Client as Sql;
use postgres::error::SqlState;
use uuid::Uuid;

use super::assignment::{Assignment, Ticket};
use super::generator::{Generator, sql, timestamp};
use super::hosts::{self, NextHost};
use super::ledger::{Entry, Op, Outcome, Table, with_outcome};
use super::pace::{Turn, pause};
use super::shared::{Shared, locked};
use crate::error::{Report, Result, WrapErr, message_of};
use crate::server::{SqlError, is_lost, sqlstate_of};

/// The original's.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(100);
/// How long a client lets the scout look for it.
const TRUST_IN_SCOUT: Duration = Duration::from_millis(500);

/// The session of one thread, and where it is looked for next.
pub(super) struct Session {
    shared: Arc<Shared>,
    assignment: Arc<Assignment>,
    ticket: Ticket,
    at: usize,
    sql: Option<Sql>,
    /// How often it has failed since it last wrote something.
    failures: u32,
}

impl Session {
    /// Of a client that begins with this server.
    pub(super) fn new(shared: Arc<Shared>, assignment: Arc<Assignment>, at: usize) -> Session {
        Session {
            shared,
            assignment,
            ticket: Ticket::FIRST,
            at,
            sql: None,
            failures: 0,
        }
    }

    /// Of a thread that replaces one which this server does not answer.
    pub(super) fn after(
        shared: Arc<Shared>,
        assignment: Arc<Assignment>,
        ticket: Ticket,
        silent: usize,
    ) -> Session {
        let at = (silent + 1) % shared.dsns.len();
        let mut session = Session::new(shared, assignment, at);
        session.ticket = ticket;
        session.failures = 1;
        session
    }

    fn goes_on(&self) -> bool {
        !self.shared.stop.is_over() && self.assignment.is_held(self.ticket)
    }

    /// Runs a transaction. What was sent comes back with its outcome, where `Err` means that it did not pass, or nobody
    /// knows ([`is_lost`]); none when that has been decided elsewhere.
    fn run(&mut self, text: &str, entries: Vec<Entry>) -> Option<(Vec<Entry>, Result<()>)> {
        let sql = self.sql.as_mut()?;
        self.assignment.asks(self.ticket, self.at, entries);
        let outcome = sql.batch_execute(text).map_err(SqlError::from);
        let entries = self.assignment.answered(self.ticket)?;
        let shown = &self.shared.dsns[self.at].shown;
        Some((
            entries,
            outcome.wrap_err_with(|| format!("write to {shown}")),
        ))
    }

    /// Makes sure that there is a session: true when there is.
    fn connected(&mut self) -> bool {
        if self.sql.is_some() {
            return true;
        }
        match self.look_for_server() {
            Ok((held, sql)) => {
                self.sql = Some(sql);
                held
            }
            Err(report) => {
                self.failed(&report);
                false
            }
        }
    }

    /// A session, and whether this thread still serves the client.
    fn look_for_server(&mut self) -> Result<(bool, Sql)> {
        let servers = self.shared.dsns.len();
        if self.shared.next_host == NextHost::AnyError || servers == 1 {
            return self.open();
        }
        self.at = 0;
        loop {
            match self.open() {
                Err(report) if hosts::libpq_tries_next(&report) && self.at + 1 < servers => {
                    log::debug!("{}", message_of(&report));
                    self.at += 1;
                }
                ended => return ended,
            }
        }
    }

    fn open(&mut self) -> Result<(bool, Sql)> {
        let mut sql = self.shared.log_in(self.at)?;
        self.assignment.asks(self.ticket, self.at, Vec::new());
        let checked = self.shared.check(self.at, &mut sql);
        let held = self.assignment.answered(self.ticket).is_some();
        checked.map(|()| (held, sql))
    }

    fn passed(&mut self) {
        if self.failures > 0 {
            self.failures = 0;
            if self.assignment.is_scout() {
                self.assignment.set_scout(self.ticket, false);
                self.shared.scouting.found(self.at);
            }
        }
    }

    /// Another server is tried, unless this one only refuses the row; with one server a session that lives is kept.
    fn failed(&mut self, report: &Report) {
        self.shared.complain(report);
        let about_the_row = sqlstate_of(report).is_some_and(is_about_the_row);
        if !about_the_row {
            self.failures += 1;
        }
        let stays = (about_the_row || self.shared.dsns.len() == 1) && !is_lost(report);
        if !(stays && self.rolled_back()) {
            self.sql = None;
            self.at = (self.at + 1) % self.shared.dsns.len();
        }
    }

    fn rolled_back(&mut self) -> bool {
        let Some(sql) = &mut self.sql else {
            return false;
        };
        self.assignment.asks(self.ticket, self.at, Vec::new());
        let rolled_back = sql.batch_execute("ROLLBACK").is_ok();
        self.assignment.answered(self.ticket).is_some() && rolled_back
    }

    /// Without a server: looks for one on behalf of all, or waits for the news of who does.
    fn hold_back(&mut self) {
        if self.failures == 0 {
            return;
        }
        let shared = self.shared.clone();
        if !self.assignment.is_scout() {
            match shared.scouting.wait(TRUST_IN_SCOUT, &shared.stop) {
                Turn::Scout => self.assignment.set_scout(self.ticket, true),
                Turn::Go(at) => {
                    self.at = at;
                    self.sql = None;
                    self.failures = 0;
                    return;
                }
                Turn::Alone => return,
            }
        }
        // The first failure is the loss of the session; after it every server is tried before there is a pause.
        let servers = match shared.next_host {
            NextHost::AsLibpq => 1,
            NextHost::AnyError => shared.dsns.len() as u32,
        };
        let tried = self.failures - 1;
        if tried.is_multiple_of(servers) {
            shared.stop.sleep(pause(tried / servers));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sql = None;
        self.assignment.leave(self.ticket);
    }
}

/// Whether the server refuses what was to be written (a key that is there already, a deadlock), not who writes:
/// another server would not do better.
fn is_about_the_row(sqlstate: &SqlState) -> bool {
    ["22", "23", "40"].contains(&&sqlstate.code()[..2])
}

/// Writes the generator's transactions until the run is over.
pub(super) fn write(mut session: Session, generator: &Mutex<Generator>) {
    let shared = session.shared.clone();
    while session.goes_on() {
        session.hold_back();
        if !session.connected() {
            continue;
        }
        let entries = locked(generator).next(Uuid::new_v4());
        let wait = shared.pace.reserve(entries.len(), Instant::now());
        if !shared.stop.sleep(wait) {
            return;
        }
        if !shared.begins(&entries) {
            return;
        }
        let text = sql(&entries);
        let sent = Instant::now();
        let Some((entries, outcome)) = session.run(&text, entries) else {
            return;
        };
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                let entries = with_outcome(entries, Outcome::Acknowledged);
                if !shared.record(&entries) {
                    return;
                }
                let operations = entries.len() as u64;
                locked(&shared.meter).acknowledge(session.at, operations, now - sent, now);
                locked(generator).applied(entries);
                session.passed();
            }
            Err(report) => {
                if is_lost(&report) {
                    shared.record_unknown(entries)
                } else {
                    locked(generator).undone(entries)
                }
                session.failed(&report);
            }
        }
    }
}

/// Says every 100 ms that it is alive, as the original does.
pub(super) fn keep_alive(mut session: Session, name: &str) {
    let shared = session.shared.clone();
    let mut said = false;
    let mut due = Instant::now();
    while session.goes_on()
        && shared
            .stop
            .sleep(due.saturating_duration_since(Instant::now()))
    {
        due = Instant::now() + HEARTBEAT_EVERY;
        if !session.connected() {
            continue;
        }
        let beat = heartbeat(name, Outcome::Existing);
        // Nothing of it is recorded when it is not answered: the ledger says from the start that this row moves.
        match session.run(&sql(std::slice::from_ref(&beat)), Vec::new()) {
            None => return,
            Some((_, Ok(()))) => {
                locked(&shared.meter).heartbeats += 1;
                session.passed();
                if !said {
                    shared.record(&[beat]);
                    said = true;
                }
            }
            Some((_, Err(report))) => session.failed(&report),
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
