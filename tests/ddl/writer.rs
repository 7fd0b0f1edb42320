//! A client that writes one table without pause, whatever its column is called at the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::application::Side;
use crate::support::pair::Passwords;
use crate::support::{Pair, matrix};

/// `deploy (id bigserial, <one of these> ...)`.
const NAMES: [&str; 3] = ["label", "title", "caption"];

pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Duration)>,
}

impl Writer {
    /// Begins to write on this side.
    pub fn start(pair: &Pair, side: Side) -> Self {
        let (server, app) = (side.of(pair), &pair.names().app);
        let mut client = server
            .connect(pair.db(), app, Passwords::APP)
            .expect("the writer's session");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut written, mut name) = (0, 0);
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !stopped.load(Ordering::SeqCst) {
                let sql = format!(
                    "INSERT INTO deploy ({0}) VALUES ('{written}'); UPDATE deploy SET {0} = '1' || {0} WHERE id % 7 = {written} % 7 AND id > (SELECT max(id) FROM deploy) - 20",
                    NAMES[name]
                );
                match client.batch_execute(&sql) {
                    Ok(()) => {
                        longest = longest.max(last.elapsed());
                        (written, last) = (written + 1, Instant::now());
                        std::thread::sleep(matrix::think_time());
                    }
                    Err(_) => {
                        name = (name + 1) % NAMES.len();
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            }
            (written, longest)
        });
        Self { stop, thread }
    }

    /// How many were written, and the longest time between two.
    pub fn stop(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the writer")
    }
}
