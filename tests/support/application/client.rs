//! One client: a session at a time, one statement after the other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postgres::{Config, Error, NoTls, SimpleQueryMessage};

use super::{Sessions, Side, Table, lock};
use crate::support::sql;

/// Between two writes: both servers and flare share the machine.
const THINKS: Duration = Duration::from_millis(1);
/// How many rows a client keeps before it deletes the oldest.
const KEEPS: usize = 20;

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

/// What is known of a write.
enum Fate {
    Done { drawn: Option<i64> },
    Refused,
    Unknown,
}

pub(super) struct Client {
    number: i32,
    servers: Vec<(Side, Config)>,
    sessions: Sessions,
    ledger: Arc<Mutex<Ledger>>,
    counter: i64,
    /// Orders whose state is known, oldest first.
    known: VecDeque<i64>,
    tries: u64,
    random: RandomState,
}

impl Client {
    pub(super) fn new(
        number: i32,
        servers: Vec<(Side, Config)>,
        sessions: Sessions,
        ledger: Arc<Mutex<Ledger>>,
    ) -> Self {
        Self {
            number,
            servers,
            sessions,
            ledger,
            counter: 0,
            known: VecDeque::new(),
            tries: 0,
            random: RandomState::new(),
        }
    }

    pub(super) fn write_until(mut self, stop: &AtomicBool) {
        let mut at = 0;
        while !stop.load(Ordering::SeqCst) {
            let (side, config) = &self.servers[at];
            let side = *side;
            match config.connect(NoTls) {
                Ok(session) => {
                    if self.write_on(session, side, stop) {
                        continue;
                    }
                    if self.servers.len() == 1 {
                        self.pause_for_breath();
                    }
                }
                Err(error) => {
                    lock(&self.ledger).last_refusal =
                        format!("{}: {}", side.as_str(), sql::words(&error));
                    self.pause_for_breath();
                }
            }
            at = (at + 1) % self.servers.len();
        }
    }

    /// Writes until an error, or as long as this client keeps a session; whether the server is worth another one.
    fn write_on(&mut self, mut session: postgres::Client, side: Side, stop: &AtomicBool) -> bool {
        while !stop.load(Ordering::SeqCst) {
            let write = self.next_write();
            let sent = Instant::now();
            let fate = match session.simple_query(&write.statement) {
                Ok(answer) => Fate::Done {
                    drawn: drawn(&answer),
                },
                Err(error) => self.fate_of(&error, side, &write),
            };
            let answered = Instant::now();
            let mut ledger = lock(&self.ledger);
            let key = (write.table, write.counter);
            let before = ledger.rows.entry(key).or_insert(vec![State::Absent]);
            match fate {
                Fate::Done { drawn } => {
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
            std::thread::sleep(THINKS);
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
                "INSERT INTO {} (client, counter) VALUES ({client}, {counter}) RETURNING id",
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
                    "DELETE FROM app_orders WHERE client = {client} AND counter = {oldest}"
                ),
                after: State::Absent,
            },
            Some(oldest) => Write {
                table: Table::Orders,
                counter: oldest,
                statement: format!(
                    "UPDATE app_orders SET value = {counter} WHERE client = {client} AND counter = {oldest}"
                ),
                after: State::Value(counter),
            },
            None => Write {
                table: Table::Orders,
                counter,
                statement: format!(
                    "INSERT INTO app_orders (client, counter, value) VALUES ({client}, {counter}, {counter})"
                ),
                after: State::Value(counter),
            },
        }
    }

    /// A server that ends a session (57P01 to 57P05) may have committed before: only another refusal is certain.
    fn fate_of(&self, error: &Error, side: Side, write: &Write) -> Fate {
        let Some(answer) = error.as_db_error() else {
            return Fate::Unknown;
        };
        let code = answer.code().code();
        if code.starts_with("57P") {
            return Fate::Unknown;
        }
        let words = format!(
            "{}: {}: {}",
            side.as_str(),
            write.statement,
            sql::words(error)
        );
        let mut ledger = lock(&self.ledger);
        ledger.last_refusal.clone_from(&words);
        let refused = ledger.refused.entry(code.to_owned());
        refused.or_insert((0, words)).0 += 1;
        Fate::Refused
    }

    /// Two to five milliseconds.
    fn pause_for_breath(&mut self) {
        self.tries += 1;
        let jitter = self.random.hash_one(self.tries) % 3000;
        std::thread::sleep(Duration::from_micros(2000 + jitter));
    }
}

/// The number in `RETURNING id`.
fn drawn(answer: &[SimpleQueryMessage]) -> Option<i64> {
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })
}
