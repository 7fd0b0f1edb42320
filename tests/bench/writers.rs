//! Four clients that insert as fast as they can, log in again when they are thrown out, and note every answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::support::Pair;
use crate::support::pair::Passwords;

const CLIENTS: usize = 4;

pub struct Writers {
    stop: Arc<AtomicBool>,
    /// When each write was acknowledged, by client.
    acknowledged: Vec<Arc<Mutex<Vec<Instant>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub fn start(pair: &Pair) -> Writers {
        let mut config = postgres::Config::new();
        config
            .host(pair.publisher().host())
            .port(pair.publisher().port())
            .dbname(pair.db())
            .user(&pair.names().app)
            .password(Passwords::APP);
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Vec<Arc<Mutex<Vec<Instant>>>> =
            (0..CLIENTS).map(|_| Arc::default()).collect();
        let threads = acknowledged
            .iter()
            .map(|acknowledged| {
                let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(acknowledged));
                let config = config.clone();
                spawn(move || write_until(&stop, &config, &acknowledged))
            })
            .collect();
        Writers {
            stop,
            acknowledged,
            threads,
        }
    }

    /// Waits until each client has written again.
    pub fn await_all_since(&self, since: Instant) {
        let limit = since + Duration::from_secs(30);
        for acknowledged in &self.acknowledged {
            while acknowledged
                .lock()
                .expect("a client's times")
                .last()
                .is_none_or(|last| *last < since)
            {
                assert!(Instant::now() < limit, "a client does not write any more");
                sleep(Duration::from_millis(1));
            }
        }
    }

    /// The longest time without any client's acknowledgement.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let mut all: Vec<Instant> = self
            .acknowledged
            .iter()
            .flat_map(|of| of.lock().expect("a client's times").clone())
            .filter(|at| *at >= since)
            .collect();
        all.sort();
        let gaps = all.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().expect("writes on both sides of the pause")
    }

    /// How many writes were acknowledged.
    pub fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a client");
        }
        let counts = self.acknowledged.iter();
        counts
            .map(|of| of.lock().expect("a client's times").len())
            .sum()
    }
}

fn write_until(stop: &AtomicBool, config: &postgres::Config, acknowledged: &Mutex<Vec<Instant>>) {
    while !stop.load(Ordering::SeqCst) {
        let Ok(mut session) = config.connect(postgres::NoTls) else {
            sleep(Duration::from_millis(5));
            continue;
        };
        while !stop.load(Ordering::SeqCst) {
            let insert = "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, 1, 1, now())";
            match session.batch_execute(insert) {
                Ok(()) => acknowledged
                    .lock()
                    .expect("a client's times")
                    .push(Instant::now()),
                Err(_) => break,
            }
            // As much as an application thinks; and both servers share this machine.
            sleep(Duration::from_millis(1));
        }
    }
}
