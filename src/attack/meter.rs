//! What is measured: acknowledgements, the longest gap between two of them, and how long each took.

use std::time::{Duration, Instant, SystemTime};

/// Counts of durations in buckets that grow by about two per cent.
#[derive(Clone, Debug)]
struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

const PER_DOUBLING: f64 = 32.0;
/// Up to 2^36 microseconds, some 19 hours.
const BUCKETS: usize = 36 * 32;

impl Histogram {
    fn new() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
        }
    }

    fn add(&mut self, duration: Duration) {
        let micros = duration.as_micros() as f64;
        let bucket = ((micros + 1.0).log2() * PER_DOUBLING) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    /// The duration that this share of all did not exceed, in milliseconds; none of nothing.
    fn percentile_ms(&self, share: f64) -> Option<f64> {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some((((bucket + 1) as f64 / PER_DOUBLING).exp2() - 1.0) / 1000.0)
    }
}

/// A time without any acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gap {
    pub(super) length: Duration,
    /// When it began.
    pub(super) at: SystemTime,
}

/// All clients' counts.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    pub(super) acknowledged: u64,
    pub(super) heartbeats: u64,
    pub(super) errors: u64,
    pub(super) unknown: u64,
    last: Option<(Instant, SystemTime)>,
    longest: Option<Gap>,
    latencies: Histogram,
}

impl Meter {
    pub(super) fn new() -> Meter {
        Meter {
            acknowledged: 0,
            heartbeats: 0,
            errors: 0,
            unknown: 0,
            last: None,
            longest: None,
            latencies: Histogram::new(),
        }
    }

    /// A transaction of `operations` was acknowledged `now`, after `latency`.
    pub(super) fn acknowledge(&mut self, operations: u64, latency: Duration, now: Instant) {
        self.acknowledged += operations;
        self.latencies.add(latency);
        self.close_gap(now);
        self.last = Some((now, SystemTime::now()));
    }

    /// The run ends `now`: the time since the last acknowledgement is a gap too.
    pub(super) fn close_gap(&mut self, now: Instant) {
        let Some((last, at)) = self.last else {
            return;
        };
        let length = now.saturating_duration_since(last);
        if self.longest.is_none_or(|longest| length > longest.length) {
            self.longest = Some(Gap { length, at });
        }
    }

    pub(super) fn longest_gap(&self) -> Option<Gap> {
        self.longest
    }

    pub(super) fn percentile_ms(&self, share: f64) -> Option<f64> {
        self.latencies.percentile_ms(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_found_at_the_end_too() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::new();
        meter.close_gap(after(0));
        assert_eq!(meter.longest_gap(), None);
        for ms in [100, 110, 150, 151] {
            meter.acknowledge(2, Duration::from_millis(1), after(ms));
        }
        let longest = |meter: &Meter| meter.longest_gap().unwrap().length.as_millis();
        assert_eq!(longest(&meter), 40);
        meter.close_gap(after(300));
        assert_eq!(longest(&meter), 149);
        assert_eq!(meter.acknowledged, 8);
    }

    #[test]
    fn percentiles_are_within_two_per_cent() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile_ms(0.5), None);
        for ms in 1..=1000 {
            histogram.add(Duration::from_millis(ms));
        }
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = histogram.percentile_ms(share).unwrap();
            assert!((found / exact - 1.0f64).abs() < 0.025, "{share}: {found}");
        }
        histogram.add(Duration::MAX);
    }
}
