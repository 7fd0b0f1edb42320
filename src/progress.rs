//! What long work reports to. The library prints nothing itself: it tells whoever listens.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The rate is taken over this long.
const WINDOW: Duration = Duration::from_secs(60);
/// What has not moved for this long stands still; less is the pace of chunks.
const STALLED: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes of data.
    Bytes,
    /// Tables.
    Tables,
    /// Anything else that is counted one by one.
    Items,
}

/// Hears what a run is about to touch, which step it is at, and how far long work has come.
pub trait Progress: Send + Sync {
    /// Said before the first change: what is about to be touched, and where. And of a pause, as soon as it is so: who can write.
    fn announce(&self, line: &str);
    /// A step has been taken, in words for a person.
    fn step(&self, line: &str);
    /// Long work is at `done` of `total`; repeated as often as the worker likes, the last time with `done == total`.
    fn advance(&self, what: &str, done: u64, total: u64, unit: Unit);
    /// Where the largest parts of that work are; said just before [`Progress::advance`].
    fn parts(&self, _: &[Part]) {}
}

/// A part of long work: a large table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// What it is called.
    pub what: String,
    /// Bytes that are done.
    pub done_bytes: u64,
    /// Of so many.
    pub total_bytes: u64,
    /// How long it will take by its rate of the last minute; none before it has begun.
    pub left: Option<Duration>,
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn announce(&self, _: &str) {}
    fn step(&self, _: &str) {}
    fn advance(&self, _: &str, _: u64, _: u64, _: Unit) {}
}

/// How long is left: by the rate of the last minute, and never more than was said before while work goes on.
#[derive(Debug, Default)]
pub(crate) struct Eta {
    samples: VecDeque<(Instant, u64)>,
    moved_at: Option<Instant>,
    left: Option<Duration>,
}

impl Eta {
    /// Takes in how much is done by now.
    pub(crate) fn look(&mut self, now: Instant, done: u64, total: u64) -> Option<Duration> {
        if self.samples.back().is_none_or(|(_, before)| done > *before) {
            self.moved_at = Some(now);
        }
        let flows = self.moved_at.is_some_and(|at| now - at < STALLED);
        self.samples.push_back((now, done));
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now - *at >= WINDOW)
        {
            self.samples.pop_front();
        }
        if let Some(rate) = self.rate() {
            let left =
                Duration::from_secs((total.saturating_sub(done) as f64 / rate).min(1e9) as u64);
            self.left = Some(match self.left {
                Some(said) if flows => said.min(left),
                _ => left,
            });
        }
        self.left
    }

    /// How much was done a second, over the last minute; none before anything was.
    pub(crate) fn rate(&self) -> Option<f64> {
        let ((since, from), (now, done)) = (self.samples.front()?, self.samples.back()?);
        let rate = done.saturating_sub(*from) as f64 / (*now - *since).as_secs_f64();
        (rate.is_finite() && rate > 0.0).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_never_grows_while_work_goes_on() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut eta = Eta::default();
        assert_eq!(eta.look(at(0), 0, 1000), None);
        let fast = eta.look(at(10), 500, 1000).unwrap();
        assert_eq!(fast.as_secs(), 10);
        // Slower, to a tenth of the rate: what was said stays.
        for second in 11..200 {
            let left = eta.look(at(second), 500 + second, 1000).unwrap();
            assert!(left <= fast, "{second}: {left:?}");
        }
        // What stands still may be said to take longer.
        let mut last = Duration::ZERO;
        for second in 200..230 {
            last = eta.look(at(second), 699, 1000).unwrap();
        }
        assert!(last > fast, "{last:?}");
    }
}
