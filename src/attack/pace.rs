//! How fast: the rate all clients share, and how they come back to a server that does not take them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

/// Says that the run is over, and wakes those who sleep.
#[derive(Debug)]
pub(super) struct Stop {
    over: AtomicBool,
    closed: Receiver<()>,
}

impl Stop {
    /// `closed` is disconnected when the run is over.
    pub(super) fn when(closed: Receiver<()>) -> Stop {
        Stop {
            over: AtomicBool::new(false),
            closed,
        }
    }

    pub(super) fn raise(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Sleeps; false when the run is over.
    pub(super) fn sleep(&self, duration: Duration) -> bool {
        !self.is_over()
            && (duration.is_zero()
                || self.closed.recv_timeout(duration) == Err(RecvTimeoutError::Timeout))
    }
}

/// Operations per second over all clients. What an outage held up is not caught up with.
#[derive(Debug)]
pub(super) struct Pace {
    between: Option<Duration>,
    next: Mutex<Instant>,
}

/// How far behind its schedule a run may be and still catch up: the jitter of sleeping.
const BEHIND: Duration = Duration::from_millis(20);

impl Pace {
    pub(super) fn new(rate: Option<f64>, now: Instant) -> Pace {
        Pace {
            between: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            next: Mutex::new(now),
        }
    }

    /// How long to wait before these operations.
    pub(super) fn reserve(&self, operations: usize, now: Instant) -> Duration {
        let Some(between) = self.between else {
            return Duration::ZERO;
        };
        let mut next = self.next.lock().unwrap_or_else(|e| e.into_inner());
        let earliest = now.checked_sub(BEHIND).unwrap_or(now);
        let due = (*next).max(earliest);
        *next = due + between * u32::try_from(operations).unwrap_or(u32::MAX);
        due.saturating_duration_since(now)
    }
}

/// While no server takes a client, one of them looks for all: logging in costs more than anything else here.
#[derive(Debug, Default)]
pub(super) struct Scouting {
    state: Mutex<Scouts>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Scouts {
    out: bool,
    found: u64,
    at: usize,
}

/// What a client without a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It looks, and says when it has found one.
    Scout,
    /// This server takes clients.
    Go(usize),
    /// The scout has found nothing for long: it tries for itself.
    Alone,
}

impl Scouting {
    /// Waits for news, or becomes the scout.
    pub(super) fn wait(&self, limit: Duration, stop: &Stop) -> Turn {
        let since = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let seen = state.found;
        loop {
            if state.found != seen {
                return Turn::Go(state.at);
            }
            if !state.out {
                state.out = true;
                return Turn::Scout;
            }
            if since.elapsed() >= limit || stop.is_over() {
                return Turn::Alone;
            }
            let slice = Duration::from_millis(50);
            state = self
                .news
                .wait_timeout(state, slice)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }

    /// The scout has written something there.
    pub(super) fn found(&self, at: usize) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.out = false;
        state.found += 1;
        state.at = at;
        drop(state);
        self.news.notify_all();
    }
}

/// How long the scout waits after its `round`th time through all servers in vain.
///
/// A login costs the server more than this wait. Of clients that all try every few milliseconds the pause grows: on
/// two cores four of them made a pause of 115 to 160 ms, as one scout sees it, one of 200 ms.
pub(super) fn pause(round: u32) -> Duration {
    match round {
        0 => Duration::ZERO,
        1..=1000 => Duration::from_millis(2),
        _ => Duration::from_millis(20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn operations_are_due_at_the_rate_and_an_outage_is_not_caught_up_with() {
        let start = Instant::now();
        let pace = Pace::new(Some(100.0), start);
        let waits: Vec<u128> = (0..3).map(|_| pace.reserve(1, start).as_millis()).collect();
        assert_eq!(waits, [0, 10, 20]);
        let later = start + Duration::from_secs(60);
        let waits: Vec<u128> = (0..4).map(|_| pace.reserve(1, later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 10]);
        assert_eq!(Pace::new(None, start).reserve(9, start), Duration::ZERO);
    }

    #[test]
    fn one_looks_and_the_others_follow() {
        let (_keep, closed) = crossbeam_channel::bounded(0);
        let stop = Stop::when(closed);
        let scouting = Arc::new(Scouting::default());
        assert_eq!(scouting.wait(Duration::ZERO, &stop), Turn::Scout);
        assert_eq!(scouting.wait(Duration::ZERO, &stop), Turn::Alone);
        let follower = std::thread::spawn({
            let scouting = scouting.clone();
            move || scouting.wait(Duration::from_secs(20), &stop)
        });
        std::thread::sleep(Duration::from_millis(20));
        scouting.found(1);
        // Either it waited, or it came after the news and looks for itself.
        assert!(matches!(
            follower.join().unwrap(),
            Turn::Go(1) | Turn::Scout
        ));
    }

    #[test]
    fn the_first_round_is_at_once_and_the_later_ones_do_not_spin() {
        assert_eq!(pause(0), Duration::ZERO);
        assert!(pause(1) <= Duration::from_millis(2));
        assert!(
            (2..)
                .take(10_000)
                .all(|round| (2..=20).contains(&pause(round).as_millis()))
        );
    }
}
