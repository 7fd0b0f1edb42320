//! Clients that write all along, whatever happens to their server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{Cluster, Pair, matrix, wait};

/// Tables that are written while they are copied: keys, none, and one that is large enough for several ranges.
pub const TABLES: &str = "
    CREATE TABLE wa (id int PRIMARY KEY, v int NOT NULL, pad text); INSERT INTO wa SELECT g, 0, repeat('x', 300) FROM generate_series(1, 240000) g;
    CREATE TABLE wb (id bigserial PRIMARY KEY, k int); INSERT INTO wb (k) SELECT g FROM generate_series(1, 20000) g; CREATE INDEX ON wb (k);
    CREATE TABLE wc (id int PRIMARY KEY, v int); INSERT INTO wc SELECT g, 0 FROM generate_series(1, 20000) g;
    CREATE TABLE wn (k int, x bigint); CREATE TABLE wm (k int, x bigint);";

/// The same with fewer rows.
pub const SMALL_TABLES: &str = "
    CREATE TABLE wa (id int PRIMARY KEY, v int NOT NULL, pad text); INSERT INTO wa SELECT g, 0, repeat('x', 300) FROM generate_series(1, 60000) g;
    CREATE TABLE wb (id bigserial PRIMARY KEY, k int); INSERT INTO wb (k) SELECT g FROM generate_series(1, 20000) g; CREATE INDEX ON wb (k);
    CREATE TABLE wc (id int PRIMARY KEY, v int); INSERT INTO wc SELECT g, 0 FROM generate_series(1, 20000) g;
    CREATE TABLE wn (k int, x bigint); CREATE TABLE wm (k int, x bigint);";

const TRANSACTION: &str = "
    BEGIN;
    UPDATE wa SET v = v + 1 WHERE id = 1 + (random() * 239999)::int;
    INSERT INTO wb (k) VALUES ((random() * 20000)::int);
    UPDATE wb SET k = k + 1 WHERE id = 1 + (random() * 19999)::int;
    DELETE FROM wc WHERE id = 1 + (random() * 19999)::int;
    INSERT INTO wn VALUES ((random() * 20000)::int, txid_current());
    INSERT INTO wm VALUES ((random() * 20000)::int, txid_current());
    COMMIT";

/// They stop when they are told to.
pub struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub fn start(pair: &Pair, clients: usize) -> Writers {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let threads = (0..clients).map(|_| {
            let (stop, done) = (stop.clone(), done.clone());
            let (server, db) = (pair.shared_publisher(), pair.db().to_owned());
            std::thread::spawn(move || write(&server, &db, &stop, &done))
        });
        Writers {
            threads: threads.collect(),
            stop,
            done,
        }
    }

    /// Returns when so many more transactions were committed.
    #[track_caller]
    pub fn await_more(&self, transactions: u64) {
        let done = || self.done.load(Ordering::SeqCst);
        let wanted = done() + transactions;
        wait::for_("the writers", Duration::from_secs(20), || done() >= wanted);
    }

    /// How many transactions were committed.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a writer's thread");
        }
        self.done.load(Ordering::SeqCst)
    }
}

fn write(server: &Cluster, db: &str, stop: &AtomicBool, done: &AtomicU64) {
    while !stop.load(Ordering::SeqCst) {
        let Ok(mut client) = server.try_superuser_session(db) else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        while !stop.load(Ordering::SeqCst) && client.batch_execute(TRANSACTION).is_ok() {
            done.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(matrix::think_time());
        }
    }
}
