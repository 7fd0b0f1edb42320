//! The last samples, in memory: what a rate or a cause is judged by.

use std::collections::VecDeque;
use std::time::Instant;

use super::sample::Sample;

/// Longer than this nothing is kept, but for the last two samples.
const SECONDS: f64 = 60.0;
/// However short the interval.
const LONGEST: usize = 600;

/// A sample with the second it was taken at.
#[derive(Clone, Debug)]
pub(super) struct Timed {
    pub(super) at: f64,
    pub(super) sample: Sample,
}

/// The last samples, oldest first.
#[derive(Debug)]
pub(super) struct Window {
    begun: Instant,
    samples: VecDeque<Timed>,
}

impl Window {
    pub(super) fn new() -> Window {
        Window {
            begun: Instant::now(),
            samples: VecDeque::new(),
        }
    }

    /// Takes in a sample; all that are kept, this one last.
    pub(super) fn push(&mut self, sample: Sample, now: Instant) -> &[Timed] {
        let at = now.duration_since(self.begun).as_secs_f64();
        self.samples.push_back(Timed { at, sample });
        while self.samples.len() > LONGEST
            || self.samples.len() > 2 && self.samples[0].at < at - SECONDS
        {
            self.samples.pop_front();
        }
        self.samples.make_contiguous()
    }
}

/// The part of them that is no older than this, or the last two.
pub(super) fn last(samples: &[Timed], seconds: f64) -> &[Timed] {
    let Some(now) = samples.last().map(|it| it.at) else {
        return samples;
    };
    let young = samples.iter().position(|it| it.at >= now - seconds);
    let from = young.unwrap_or(0).min(samples.len().saturating_sub(2));
    &samples[from..]
}
