//! What is measured: acknowledgements, the longest gap between two of them, and how long each took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::timeline::Timeline;

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
    /// The errors by what the server called them.
    pub(super) sqlstates: BTreeMap<String, u64>,
    pub(super) timeline: Timeline,
    began: SystemTime,
    latencies: Histogram,
}

/// What errors are counted under that no server has given a SQLSTATE.
const CONNECTION: &str = "connection";

impl Meter {
    /// Of a run that begins `now`.
    pub(super) fn new(now: Instant) -> Meter {
        Meter {
            acknowledged: 0,
            heartbeats: 0,
            errors: 0,
            unknown: 0,
            sqlstates: BTreeMap::new(),
            timeline: Timeline::new(now),
            began: SystemTime::now() - now.elapsed(),
            latencies: Histogram::new(),
        }
    }

    /// A transaction of `operations` was acknowledged `now` by the server, after `latency`.
    pub(super) fn acknowledge(
        &mut self,
        server: usize,
        operations: u64,
        latency: Duration,
        now: Instant,
    ) {
        self.acknowledged += operations;
        self.latencies.add(latency);
        self.timeline.acknowledged(server, operations, latency, now);
    }

    /// A client saw an error.
    pub(super) fn fail(&mut self, sqlstate: Option<&str>, now: Instant) {
        self.errors += 1;
        let name = sqlstate.unwrap_or(CONNECTION);
        match self.sqlstates.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.sqlstates.insert(name.to_owned(), 1)),
        }
        self.timeline.failed(now);
    }

    pub(super) fn longest_gap(&self) -> Option<Gap> {
        self.timeline.longest().map(|longest| Gap {
            length: longest.length(),
            at: self.began + longest.from,
        })
    }

    pub(super) fn percentile_ms(&self, share: f64) -> Option<f64> {
        self.latencies.percentile_ms(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_what_servers_call_them() {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        for sqlstate in [Some("57P01"), None, Some("57P01")] {
            meter.fail(sqlstate, now);
        }
        let counted = [("57P01".to_owned(), 2), (CONNECTION.to_owned(), 1)];
        assert_eq!(meter.sqlstates, BTreeMap::from(counted));
        assert_eq!(meter.errors, 3);
    }

    #[test]
    fn the_longest_gap_is_found_at_the_end_too() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        meter.timeline.over(after(0));
        assert_eq!(meter.longest_gap(), None);
        for ms in [100, 110, 150, 151] {
            meter.acknowledge(0, 2, Duration::from_millis(1), after(ms));
        }
        let longest = |meter: &Meter| meter.longest_gap().unwrap().length.as_millis();
        assert_eq!(longest(&meter), 40);
        meter.timeline.over(after(300));
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
