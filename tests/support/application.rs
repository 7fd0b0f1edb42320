//! An application that knows both servers: it writes wherever it may, and remembers every answer.
//!
//! Each client works on rows of its own, so that it knows what has to be there: a row's state after the last
//! acknowledged write, or one of two where the answer was lost.

mod client;
mod written;

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::client::{Client, Ledger, Place};
pub use self::written::Written;
use super::pair::Passwords;
use super::pooler::Pooler;
use super::{Cluster, Pair, matrix, wait};

const CLIENTS: u8 = 4;
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// One of the two servers, as the configuration names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    Publisher,
    Subscriber,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Side::Publisher => Side::Subscriber,
            Side::Subscriber => Side::Publisher,
        }
    }

    /// As flare's JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Publisher => "publisher",
            Side::Subscriber => "subscriber",
        }
    }

    pub fn of(self, pair: &Pair) -> &Cluster {
        match self {
            Side::Publisher => pair.publisher(),
            Side::Subscriber => pair.subscriber(),
        }
    }
}

/// Its tables: one whose keys the application makes, and two whose keys are drawn from sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Table {
    Orders,
    Serials,
    Identities,
}

impl Table {
    const ALL: [Table; 3] = [Table::Orders, Table::Serials, Table::Identities];

    fn name(self) -> &'static str {
        match self {
            Table::Orders => "app_orders",
            Table::Serials => "app_serials",
            Table::Identities => "app_identities",
        }
    }

    /// The column that a write may change, or that the server chooses.
    fn value(self) -> &'static str {
        match self {
            Table::Orders => "value",
            Table::Serials | Table::Identities => "id",
        }
    }
}

/// Makes the application's tables, empty, owned by the database's owner.
pub fn create_tables(pair: &Pair, server: &Cluster) {
    create_tables_in(pair, server, pair.db());
}

/// The same in another database of the pair.
pub fn create_tables_in(pair: &Pair, server: &Cluster, db: &str) {
    let (owner, app) = (&pair.names().owner, &pair.names().app);
    server.sql(
        db,
        &format!(
            "SET ROLE {owner};
             CREATE TABLE app_orders (
                 client int, counter bigint, value bigint NOT NULL, PRIMARY KEY (client, counter));
             CREATE TABLE app_serials (
                 id bigserial PRIMARY KEY, client int NOT NULL, counter bigint NOT NULL);
             CREATE TABLE app_identities (
                 id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 client int NOT NULL, counter bigint NOT NULL);
             GRANT SELECT, INSERT, UPDATE, DELETE ON app_orders, app_serials, app_identities TO {app};
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {app};"
        ),
    );
}

/// Clients at work. Dropped, they stop without being asked what they wrote.
pub struct Application {
    stop: Arc<AtomicBool>,
    first: i32,
    ledgers: Vec<Arc<Mutex<Ledger>>>,
    threads: Vec<JoinHandle<()>>,
    db: String,
}

/// Whose clients they are, and how they behave.
pub struct Clients<'a> {
    pub db: &'a str,
    pub user: &'a str,
    pub password: &'a str,
    /// The servers that they know, in the order in which they try them.
    pub sides: &'a [Side],
    /// What they know instead.
    pub through: Option<&'a Pooler>,
    pub sessions: Sessions,
    /// How many there are.
    pub count: u8,
    /// Between two writes of each.
    pub thinks: Duration,
}

/// How long a client keeps a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Until it is ended.
    Kept,
    /// For one write, as programs without a pool do.
    Short,
}

impl<'a> Clients<'a> {
    /// The application's role, in the pair's database, on both servers.
    pub fn of(pair: &'a Pair) -> Self {
        Self {
            db: pair.db(),
            user: &pair.names().app,
            password: Passwords::APP,
            sides: &[Side::Publisher, Side::Subscriber],
            through: None,
            sessions: Sessions::Kept,
            count: CLIENTS,
            thinks: matrix::think_time(),
        }
    }

    /// They begin to write.
    pub fn start(self, pair: &Pair) -> Application {
        static CLIENT: AtomicI32 = AtomicI32::new(1);
        let first = CLIENT.fetch_add(self.count.into(), Ordering::Relaxed);
        let stop = Arc::new(AtomicBool::new(false));
        let places = match self.through {
            Some(pooler) => vec![Place {
                name: "the pooler",
                config: self.config(pooler.port(), pooler.database()),
            }],
            None => {
                let at = |side: &Side| Place {
                    name: side.as_str(),
                    config: self.config(side.of(pair).port(), self.db),
                };
                self.sides.iter().map(at).collect()
            }
        };
        let ports = [Side::Publisher, Side::Subscriber].map(|side| (side.of(pair).port(), side));
        let ledgers: Vec<Arc<Mutex<Ledger>>> = (0..self.count).map(|_| Arc::default()).collect();
        let threads = ledgers
            .iter()
            .zip(first..)
            .map(|(ledger, number)| {
                let ledger = Arc::clone(ledger);
                let client = Client::new(number, places.clone(), ports, &self, ledger);
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || client.write_until(&stop))
            })
            .collect();
        Application {
            stop,
            first,
            ledgers,
            threads,
            db: self.db.to_owned(),
        }
    }

    fn config(&self, port: u16, db: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(port)
            .dbname(db)
            .user(self.user)
            .password(self.password)
            .application_name("the application")
            .connect_timeout(Duration::from_secs(5));
        config
    }
}

impl Application {
    /// Four clients, as the application's role, that try the publisher first.
    pub fn start(pair: &Pair) -> Self {
        Clients::of(pair).start(pair)
    }

    /// Waits until this many writes that were sent from now on are acknowledged by this side.
    #[track_caller]
    pub fn await_writes_on(&self, side: Side, count: usize) {
        let what = format!("the application to write on the {}", side.as_str());
        assert!(
            self.writes_on_within(side, count, Duration::from_secs(30)),
            "{what}: {:?}",
            self.refusals()
        );
    }

    /// Whether that happens before the limit.
    pub fn writes_on_within(&self, side: Side, count: usize, limit: Duration) -> bool {
        let since = Instant::now();
        wait::until(limit, || {
            let written = |ledger: &Arc<Mutex<Ledger>>| lock(ledger).count_since(side, since);
            self.ledgers.iter().map(written).sum::<usize>() >= count
        })
    }

    /// Stops the clients and returns what they know. A server that is frozen has to be thawed before.
    #[track_caller]
    pub fn stop(mut self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        wait::for_("the application to stop", STOPS_WITHIN, || {
            self.threads.iter().all(JoinHandle::is_finished)
        });
        for thread in self.threads.drain(..) {
            thread.join().expect("a client of the application");
        }
        let ledgers = self.ledgers.iter().map(|ledger| lock(ledger).clone());
        Written::new(self.db.clone(), self.first, ledgers.collect())
    }

    fn refusals(&self) -> Vec<String> {
        let last = |ledger: &Arc<Mutex<Ledger>>| lock(ledger).last_refusal.clone();
        self.ledgers.iter().map(last).collect()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
