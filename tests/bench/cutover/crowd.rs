//! Many sessions beside those that write: idle ones, and kept users that log in again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use postgres::Client;

use crate::support::application::Side;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

const IDLE: usize = 300;
const KEPT: usize = 24;

pub struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// On both servers; a role of its own is named in `cutover.keep_users`.
    pub fn gather(pair: &Pair) -> Self {
        let kept = format!("{}kept", pair.names().id);
        for server in [pair.publisher(), pair.subscriber()] {
            server.sql(
                "postgres",
                &format!(
                    "CREATE ROLE {kept} LOGIN PASSWORD '{}'",
                    Passwords::APP.replace('\'', "''")
                ),
            );
        }
        pair.configure(|config| config["cutover"]["keep_users"] = vec![kept.clone()].into());
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for number in 0..KEPT {
            let side = [Side::Publisher, Side::Subscriber][number % 2];
            let (url, stop) = (
                side.of(pair).conninfo(pair.db(), &kept, Passwords::APP),
                Arc::clone(&stop),
            );
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    if let Ok(mut session) = Client::connect(&url, postgres::NoTls) {
                        while !stop.load(Ordering::SeqCst)
                            && session.simple_query("SELECT 1").is_ok()
                        {
                            sleep(Duration::from_millis(50));
                        }
                    }
                    sleep(Duration::from_millis(20));
                }
            }));
        }
        let app = pair.names().app.clone();
        let idle = (pair.publisher(), pair.subscriber());
        for server in [idle.0, idle.1] {
            threads.push(idle_on(server, pair.db(), &app, &stop));
        }
        sleep(Duration::from_secs(2));
        Self { stop, threads }
    }
}

/// Half of the idle sessions: they come back where they may, when they have been ended.
fn idle_on(server: &Cluster, db: &str, app: &str, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (url, stop) = (server.conninfo(db, app, Passwords::APP), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut sessions: Vec<Client> = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            sessions.retain(|session| !session.is_closed());
            if sessions.len() < IDLE / 2
                && let Ok(session) = Client::connect(&url, postgres::NoTls)
            {
                sessions.push(session);
                continue;
            }
            sleep(Duration::from_millis(200));
        }
    })
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
