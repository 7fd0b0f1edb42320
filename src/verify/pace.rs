//! Giving way to writers: what they lose while chunks run is measured, and pauses are as long as that asks for.
//!
//! Whether cores or disks are scarce cannot be seen by a client, but what the application loses can: transaction ids that
//! the publisher hands out, in windows with chunks beside windows without. Pauses grow until the loss, taken over both, is
//! what is allowed; where nobody writes, or nobody loses, there are none to speak of.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::error::{Result, WrapErr};
use crate::server::{Session, interrupt, params};

/// What writers may lose, as a share of their rate.
const ALLOWED: f64 = 0.03;
/// How long chunks run between two looks, at least.
const WINDOW: Duration = Duration::from_millis(100);
/// How long, once writers are known to lose nothing.
const AT_EASE: Duration = Duration::from_secs(1);
/// A pause that only looks whether writers are faster without.
const GLANCE: Duration = Duration::from_millis(50);
/// However much writers lose, the run comes to an end.
const LONGEST: Duration = Duration::from_secs(2);
/// A window with fewer transactions says nothing, and nobody is there to give way to.
const FEWEST: f64 = 3.0;
/// How much of what was seen still counts after one more pair of windows.
const KEEPS: f64 = 0.96;

/// All workers run chunks at the same time, or none does.
pub(super) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    /// Chunks under way.
    running: usize,
    since: Instant,
    /// Transaction ids at that moment.
    count: Option<i64>,
    window: Duration,
    losses: Losses,
    paused: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// No chunk begins until those under way have ended.
    Ending,
    Paused,
}

/// Transactions and seconds of windows with chunks, and without.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    with: (f64, f64),
    without: (f64, f64),
}

/// A chunk that may run.
pub(super) struct Turn<'a>(&'a Pace);

impl Pace {
    pub(super) fn new() -> Pace {
        Pace {
            state: Mutex::new(State {
                phase: Phase::Running,
                running: 0,
                since: Instant::now(),
                count: None,
                window: WINDOW,
                losses: Losses::default(),
                paused: Duration::ZERO,
            }),
            changed: Condvar::new(),
        }
    }

    /// How long nothing was compared, for the writers' sake.
    pub(super) fn paused(&self) -> Duration {
        self.lock().paused
    }

    /// Waits until a chunk may run. `publisher` has nothing else to do.
    pub(super) fn turn(&self, publisher: &Session) -> Result<Turn<'_>> {
        let mut state = self.lock();
        loop {
            if state.count.is_none() {
                state.count = Some(transactions(publisher)?);
                state.since = Instant::now();
            }
            match state.phase {
                Phase::Running if state.since.elapsed() < state.window => {
                    state.running += 1;
                    return Ok(Turn(self));
                }
                Phase::Running => state.phase = Phase::Ending,
                Phase::Ending if state.running == 0 => {
                    state.phase = Phase::Paused;
                    let (count, ran) = (state.count.unwrap_or_default(), state.since.elapsed());
                    let mut losses = state.losses;
                    drop(state);
                    let pause = pause(publisher, count, ran, &mut losses);
                    // Whoever fails ends the run, and the others must not wait for it.
                    state = self.lock();
                    state.phase = Phase::Running;
                    state.since = Instant::now();
                    self.changed.notify_all();
                    let (count, paused) = pause?;
                    state.count = Some(count);
                    state.paused += paused;
                    state.losses = losses;
                    state.window = losses.window();
                }
                Phase::Ending | Phase::Paused => {
                    interrupt::check()?;
                    let waited = self.changed.wait_timeout(state, WINDOW);
                    state = waited.unwrap_or_else(|e| e.into_inner()).0;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

/// The pause after a window, and the number of transactions at its end.
fn pause(
    publisher: &Session,
    before: i64,
    ran: Duration,
    losses: &mut Losses,
) -> Result<(i64, Duration)> {
    let count = transactions(publisher)?;
    losses.ran((count - before) as f64, ran);
    if ((count - before) as f64) < FEWEST {
        return Ok((count, Duration::ZERO));
    }
    let pause = losses.pause(ran);
    log::debug!(
        "writers lose {:.0}% while chunks run: after {} ms of these a pause of {} ms",
        losses.share() * 100.0,
        ran.as_millis(),
        pause.as_millis()
    );
    let since = Instant::now();
    interrupt::sleep(pause)?;
    let after = transactions(publisher)?;
    losses.paused((after - count) as f64, since.elapsed());
    Ok((after, since.elapsed()))
}

/// The next transaction id: asking takes none.
fn transactions(publisher: &Session) -> Result<i64> {
    publisher
        .value(
            "SELECT txid_snapshot_xmax(txid_current_snapshot())",
            params![],
        )
        .wrap_err("count the publisher's transactions")
}

impl Losses {
    fn ran(&mut self, count: f64, time: Duration) {
        for (counted, seconds) in [&mut self.with, &mut self.without] {
            *counted *= KEEPS;
            *seconds *= KEEPS;
        }
        self.with.0 += count;
        self.with.1 += time.as_secs_f64();
    }

    fn paused(&mut self, count: f64, time: Duration) {
        self.without.0 += count;
        self.without.1 += time.as_secs_f64();
    }

    /// The share of their rate that writers lose while chunks run, as far as it is no accident.
    fn share(&self) -> f64 {
        let (with, without) = (self.with, self.without);
        if with.0 < 1.0 || without.0 < 1.0 {
            return 0.0;
        }
        let kept = (with.0 / with.1) / (without.0 / without.1);
        let accident = (1.0 / with.0 + 1.0 / without.0).sqrt();
        (1.0 - kept - accident).max(0.0)
    }

    /// How long to pause after chunks that ran so long.
    fn pause(&self, ran: Duration) -> Duration {
        let share = self.share();
        if share <= ALLOWED {
            // As long as the window until something is known.
            return if self.without.1 == 0.0 {
                ran.min(WINDOW)
            } else {
                GLANCE
            };
        }
        ran.mul_f64(share / ALLOWED - 1.0).clamp(GLANCE, LONGEST)
    }

    /// How long chunks run before the next look.
    fn window(&self) -> Duration {
        if self.share() > ALLOWED {
            WINDOW
        } else {
            AT_EASE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    fn seen(with: f64, without: f64) -> Losses {
        let mut losses = Losses::default();
        for _ in 0..30 {
            losses.ran(with, TENTH);
            losses.paused(without, TENTH);
        }
        losses
    }

    #[test]
    fn pauses_are_as_long_as_the_loss_asks_for() {
        let losses = seen(700.0, 1000.0);
        let pause = losses.pause(TENTH).as_secs_f64();
        // 30% of a tenth of a second, over both, is what is allowed.
        let loss = 0.3 * 0.1 / (0.1 + pause);
        assert!((0.025..0.04).contains(&loss), "{loss} after {pause} s");
        assert_eq!(losses.window(), WINDOW);
    }

    #[test]
    fn nobody_is_given_way_to_who_loses_nothing() {
        for (with, without) in [(1000.0, 1000.0), (1100.0, 1000.0), (980.0, 1000.0)] {
            let losses = seen(with, without);
            assert_eq!(losses.pause(TENTH), GLANCE);
            assert_eq!(losses.window(), AT_EASE);
        }
        // Two transactions and three are no difference.
        assert_eq!(seen(0.2, 0.3).pause(TENTH), GLANCE);
    }

    #[test]
    fn a_run_comes_to_its_end() {
        assert_eq!(seen(1.0, 10_000.0).pause(Duration::from_secs(1)), LONGEST);
    }
}
