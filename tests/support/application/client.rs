//! One client: a session at a time, one statement after the other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postgres::config::TargetSessionAttrs;
use postgres::{Config, Error, NoTls, SimpleQueryMessage};

use super::{Clients, Sessions, Side, Table, lock};
use crate::support::sql;

/// The server's own, whatever lies between.
const PORT: &str = "current_setting('port')";
/// How many rows a client keeps before it deletes the oldest.
const KEEPS: usize = 20;
/// How often a client tries in vain before it takes its time.
const IMPATIENT: u32 = 20;

/// What may stand in one place of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Absent,
    Value(i64),
    /// Some value that only the server knows.
    Any,
}

/// An acknowledged write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) side: Side,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    /// The number that the server drew from this table's sequence.
    pub(super) drawn: Option<(Table, i64)>,
}

/// What one client knows.
#[derive(Clone, Default)]
pub(super) struct Ledger {
    /// The states a row may be in, by table and counter. One that was never tried is in none.
    pub(super) rows: HashMap<(Table, i64), Vec<State>>,
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Writes that were sent and never answered.
    pub(super) unknown: usize,
    /// How often a server said no to a statement, by SQLSTATE, with the first message of each.
    pub(super) refused: BTreeMap<String, (usize, String)>,
    pub(super) last_refusal: String,
    /// How often no session was to be had.
    pub(super) turned_away: usize,
}

impl Ledger {
    pub(super) fn count_since(&self, side: Side, since: Instant) -> usize {
        let newest = self.acknowledged.iter().rev();
        newest
            .take_while(|write| write.sent >= since)
            .filter(|write| write.side == side)
            .count()
    }
}

/// A write to one row: what is sent, and the states it leads from and to.
struct Write {
    table: Table,
    counter: i64,
    statement: String,
    after: State,
}

/// Where a client tries to get a session, and what it calls the place.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) config: Config,
}

/// What is known of a write.
enum Fate {
    Done { side: Side, drawn: Option<i64> },
    Refused,
    Unknown,
}

pub(super) struct Client {
    number: i32,
    places: Vec<Place>,
    /// Who answers: a pooler leads to one server or the other.
    ports: [(u16, Side); 2],
    sessions: Sessions,
    thinks: Duration,
    ledger: Arc<Mutex<Ledger>>,
    counter: i64,
    /// Orders whose state is known, oldest first.
    known: VecDeque<i64>,
    tries: u64,
    /// Since the last write.
    tries_in_vain: u32,
    random: RandomState,
}

impl Client {
    pub(super) fn new(
        number: i32,
        places: Vec<Place>,
        ports: [(u16, Side); 2],
        clients: &Clients<'_>,
        ledger: Arc<Mutex<Ledger>>,
    ) -> Self {
        Self {
            number,
            places,
            ports,
            sessions: clients.sessions,
            thinks: clients.thinks,
            ledger,
            counter: 0,
            known: VecDeque::new(),
            tries: 0,
            tries_in_vain: 0,
            random: RandomState::new(),
        }
    }

    pub(super) fn write_until(mut self, stop: &AtomicBool) {
        let mut at = 0;
        while !stop.load(Ordering::SeqCst) {
            let Place { name, config } = &self.places[at];
            let name = *name;
            let mut config = config.clone();
            if self.places.len() > 1 {
                // As libpq's target_session_attrs=read-write: a session that is read-only is left for the next place.
                config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            match config.connect(NoTls) {
                Ok(session) => {
                    if self.write_on(session, name, stop) {
                        continue;
                    }
                    if self.places.len() == 1 {
                        self.pause_for_breath();
                    }
                }
                Err(error) => {
                    let mut ledger = lock(&self.ledger);
                    ledger.last_refusal = format!("{name}: {}", sql::words(&error));
                    ledger.turned_away += 1;
                    drop(ledger);
                    self.pause_for_breath();
                }
            }
            at = (at + 1) % self.places.len();
        }
    }

    /// Writes until an error, or as long as this client keeps a session; whether the server is worth another one.
    fn write_on(&mut self, mut session: postgres::Client, name: &str, stop: &AtomicBool) -> bool {
        while !stop.load(Ordering::SeqCst) {
            let write = self.next_write();
            let sent = Instant::now();
            let fate = match session.simple_query(&write.statement) {
                Ok(answer) => self.done(&answer, &write),
                Err(error) => self.fate_of(&error, name, &write),
            };
            let answered = Instant::now();
            let mut ledger = lock(&self.ledger);
            let key = (write.table, write.counter);
            let before = ledger.rows.entry(key).or_insert(vec![State::Absent]);
            match fate {
                Fate::Done { side, drawn } => {
                    self.tries_in_vain = 0;
                    *before = vec![drawn.map_or(write.after, State::Value)];
                    ledger.acknowledged.push(Acknowledged {
                        side,
                        sent,
                        answered,
                        drawn: drawn.map(|number| (write.table, number)),
                    });
                    drop(ledger);
                    if write.table == Table::Orders && write.after != State::Absent {
                        self.known.push_back(write.counter);
                    }
                }
                Fate::Unknown => {
                    before.push(write.after);
                    ledger.unknown += 1;
                    return false;
                }
                Fate::Refused => return false,
            }
            std::thread::sleep(self.thinks);
            if self.sessions == Sessions::Short {
                break;
            }
        }
        true
    }

    /// Inserts into each table, updates and deletes of rows whose state is known.
    fn next_write(&mut self) -> Write {
        self.counter += 1;
        let (client, counter) = (self.number, self.counter);
        let drawing = |table: Table| Write {
            table,
            counter,
            statement: format!(
                "INSERT INTO {} (client, counter) VALUES ({client}, {counter}) RETURNING {PORT}, id",
                table.name()
            ),
            after: State::Any,
        };
        let oldest = match counter % 6 {
            1 => return drawing(Table::Serials),
            2 => return drawing(Table::Identities),
            3 | 4 => self.known.pop_front(),
            _ => None,
        };
        match oldest {
            Some(oldest) if self.known.len() > KEEPS => Write {
                table: Table::Orders,
                counter: oldest,
                statement: format!(
                    "DELETE FROM app_orders WHERE client = {client} AND counter = {oldest} RETURNING {PORT}"
                ),
                after: State::Absent,
            },
            Some(oldest) => Write {
                table: Table::Orders,
                counter: oldest,
                statement: format!(
                    "UPDATE app_orders SET value = {counter} WHERE client = {client} AND counter = {oldest} RETURNING {PORT}"
                ),
                after: State::Value(counter),
            },
            None => Write {
                table: Table::Orders,
                counter,
                statement: format!(
                    "INSERT INTO app_orders (client, counter, value) VALUES ({client}, {counter}, {counter}) RETURNING {PORT}"
                ),
                after: State::Value(counter),
            },
        }
    }

    /// A write to a row that is not there is as good as refused: the row was acknowledged.
    fn done(&self, answer: &[SimpleQueryMessage], write: &Write) -> Fate {
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let Some(row) = row else {
            self.refused("02000", &format!("{}: no such row", write.statement));
            return Fate::Refused;
        };
        let port: Option<u16> = row.get(0).and_then(|port| port.parse().ok());
        let side = self.ports.iter().find(|(known, _)| port == Some(*known));
        Fate::Done {
            side: side.expect("one of the two servers answers").1,
            drawn: match write.after {
                State::Any => row.get(1).and_then(|id| id.parse().ok()),
                _ => None,
            },
        }
    }

    /// A server that ends a session (57P01 to 57P05) may have committed before, and what a pooler that lost its server
    /// (08P01) knows is no more: only another refusal is certain.
    fn fate_of(&self, error: &Error, name: &str, write: &Write) -> Fate {
        let Some(answer) = error.as_db_error() else {
            return Fate::Unknown;
        };
        let code = answer.code().code();
        if code.starts_with("57P") || code.starts_with("08") {
            return Fate::Unknown;
        }
        let words = format!("{name}: {}: {}", write.statement, sql::words(error));
        self.refused(code, &words);
        Fate::Refused
    }

    fn refused(&self, code: &str, words: &str) {
        let mut ledger = lock(&self.ledger);
        words.clone_into(&mut ledger.last_refusal);
        let refused = ledger.refused.entry(code.to_owned());
        refused.or_insert((0, words.to_owned())).0 += 1;
    }

    /// Ten to twenty milliseconds; where it was in vain for long, five times that, as programs back off.
    fn pause_for_breath(&mut self) {
        self.tries += 1;
        self.tries_in_vain += 1;
        let jitter = self.random.hash_one(self.tries) % 10_000;
        let longer = if self.tries_in_vain > IMPATIENT { 5 } else { 1 };
        std::thread::sleep(longer * Duration::from_micros(10_000 + jitter));
    }
}
