//! Whether a server still answers, looked at beside whatever is waited for: one that falls silent ends every wait for it at
//! once, instead of one timeout after another.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never};

use super::Session;
use super::session::TimedOut;

/// How long a server may leave `SELECT 1` without an answer.
const SILENT_AFTER: Duration = Duration::from_secs(3);
const EVERY: Duration = Duration::from_millis(250);

/// What all sessions of a server know of it; nothing unless somebody watches it.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Option<Receiver<()>>>);

impl Pulse {
    /// Disconnected as soon as the server has fallen silent.
    pub(super) fn silence(&self) -> Receiver<()> {
        self.watched().clone().unwrap_or_else(never)
    }

    fn watched(&self) -> MutexGuard<'_, Option<Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does the work while the servers of these sessions are watched; nobody else may use them meanwhile. A server that fell
/// silent is not waited for afterwards either.
pub(crate) fn while_they_answer<T>(sessions: &[&Session], work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (over, ends) = bounded(0);
        for session in sessions {
            let (speaks, silence) = bounded(0);
            *session.pulse().watched() = Some(silence);
            let ends = ends.clone();
            scope.spawn(move || watch(session, &ends, speaks));
        }
        let done = work();
        drop(over);
        done
    })
}

/// The error of what was waited for when the server fell silent, or after that.
pub(super) fn silent(since: Instant) -> TimedOut {
    TimedOut(Some(since.elapsed().max(SILENT_AFTER)))
}

fn watch(session: &Session, ends: &Receiver<()>, speaks: Sender<()>) {
    if answers(session, ends) {
        *session.pulse().watched() = None;
    }
    drop(speaks);
}

/// Until it is over, or the server silent. One that ends the session has said something.
fn answers(session: &Session, ends: &Receiver<()>) -> bool {
    let over = |within| ends.recv_timeout(within) == Err(RecvTimeoutError::Disconnected);
    loop {
        let Ok(answer) = session.start(|client| client.batch_execute("SELECT 1")) else {
            return true;
        };
        let asked = Instant::now();
        while let Ok(None) = session.poll(&answer, Duration::from_millis(20)) {
            if asked.elapsed() > SILENT_AFTER {
                return false;
            }
            if over(Duration::ZERO) {
                return true;
            }
        }
        if over(EVERY) {
            return true;
        }
    }
}
