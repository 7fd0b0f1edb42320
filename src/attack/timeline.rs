//! The run as it went, in buckets of time. However long it is, its size stays the same: the buckets grow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The width of a bucket until there are too many of them.
const FINEST: Duration = Duration::from_millis(10);
const MOST_BUCKETS: usize = 1200;
/// How much is kept of what went before and after the longest gap.
pub(super) const AROUND: Duration = Duration::from_secs(1);
/// At most so many acknowledgements of each side.
const MOST_AROUND: usize = 20_000;

/// What happened in one stretch of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bucket {
    /// Acknowledged operations of each server.
    pub(super) operations: Vec<u64>,
    pub(super) errors: u64,
    transactions: u64,
    latencies: Duration,
    /// The transaction that took longest.
    pub(super) slowest: Duration,
}

impl Bucket {
    /// How long a transaction took on average; none of nothing.
    pub(super) fn mean(&self) -> Option<Duration> {
        (self.transactions > 0).then(|| self.latencies.div_f64(self.transactions as f64))
    }

    /// The server that acknowledged most of it.
    pub(super) fn server(&self) -> Option<usize> {
        let most = self.operations.iter().enumerate();
        most.filter(|(_, operations)| **operations > 0)
            .max_by_key(|(_, operations)| **operations)
            .map(|(server, _)| server)
    }

    fn add_operations(&mut self, server: usize, operations: u64) {
        if self.operations.len() <= server {
            self.operations.resize(server + 1, 0);
        }
        self.operations[server] += operations;
    }

    fn absorb(&mut self, other: Bucket) {
        for (server, operations) in other.operations.into_iter().enumerate() {
            self.add_operations(server, operations);
        }
        self.errors += other.errors;
        self.transactions += other.transactions;
        self.latencies += other.latencies;
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// One acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledgement {
    pub(super) at: Duration,
    pub(super) server: usize,
    pub(super) operations: u64,
}

/// The longest time without an acknowledgement, and what went before and after it.
#[derive(Clone, Debug)]
pub(super) struct Stillness {
    pub(super) from: Duration,
    pub(super) to: Duration,
    /// The server that answered last, and the one that answered first; none at the end of the run.
    pub(super) between: (usize, Option<usize>),
    pub(super) around: Vec<Acknowledgement>,
}

impl Stillness {
    pub(super) fn length(&self) -> Duration {
        self.to - self.from
    }
}

/// A run from its beginning. Times are since then.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    began: Instant,
    width: Duration,
    buckets: Vec<Bucket>,
    recent: VecDeque<Acknowledgement>,
    longest: Option<Stillness>,
    /// When it was over.
    length: Duration,
}

impl Timeline {
    pub(super) fn new(began: Instant) -> Timeline {
        Timeline {
            began,
            width: FINEST,
            buckets: Vec::new(),
            recent: VecDeque::new(),
            longest: None,
            length: Duration::ZERO,
        }
    }

    /// How wide a bucket is by now.
    pub(super) fn width(&self) -> Duration {
        self.width
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// The same with wider buckets: no more of them than this.
    pub(super) fn coarse(&self, most: usize) -> Timeline {
        let mut coarse = self.clone();
        while coarse.buckets.len() > most {
            coarse.widen();
        }
        coarse
    }

    /// When each bucket begins, and what is in it.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (Duration, &Bucket)> + Clone {
        let width = self.width;
        let numbered = (0u32..).zip(&self.buckets);
        numbered.map(move |(at, bucket)| (width * at, bucket))
    }

    pub(super) fn longest(&self) -> Option<&Stillness> {
        self.longest.as_ref()
    }

    pub(super) fn acknowledged(
        &mut self,
        server: usize,
        operations: u64,
        latency: Duration,
        now: Instant,
    ) {
        let at = now.saturating_duration_since(self.began);
        let bucket = self.bucket(at);
        bucket.add_operations(server, operations);
        bucket.transactions += 1;
        bucket.latencies += latency;
        bucket.slowest = bucket.slowest.max(latency);
        self.answered(at, Some(server));
        let acknowledgement = Acknowledgement {
            at,
            server,
            operations,
        };
        if let Some(longest) = &mut self.longest
            && at <= longest.to + AROUND
            && longest.around.len() < 2 * MOST_AROUND
        {
            longest.around.push(acknowledgement);
        }
        self.recent.push_back(acknowledgement);
        while let Some(oldest) = self.recent.front()
            && (oldest.at + AROUND < at || self.recent.len() > MOST_AROUND)
        {
            self.recent.pop_front();
        }
    }

    pub(super) fn failed(&mut self, now: Instant) {
        let at = now.saturating_duration_since(self.began);
        self.bucket(at).errors += 1;
    }

    /// The run is over: the time since the last acknowledgement is a gap too.
    pub(super) fn over(&mut self, now: Instant) {
        self.length = now.saturating_duration_since(self.began);
        self.answered(self.length, None);
    }

    fn answered(&mut self, at: Duration, server: Option<usize>) {
        let Some(last) = self.recent.back() else {
            return;
        };
        let length = at.saturating_sub(last.at);
        if self
            .longest
            .as_ref()
            .is_none_or(|longest| length > longest.length())
        {
            self.longest = Some(Stillness {
                from: last.at,
                to: at.max(last.at),
                between: (last.server, server),
                around: self.recent.iter().copied().collect(),
            });
        }
    }

    fn bucket(&mut self, at: Duration) -> &mut Bucket {
        loop {
            let place = (at.as_nanos() / self.width.as_nanos()) as usize;
            if place < MOST_BUCKETS {
                if self.buckets.len() <= place {
                    self.buckets.resize(place + 1, Bucket::default());
                }
                return &mut self.buckets[place];
            }
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.width *= 2;
        let narrow = std::mem::take(&mut self.buckets);
        for (at, bucket) in narrow.into_iter().enumerate() {
            match at % 2 {
                0 => self.buckets.push(bucket),
                _ => self.buckets[at / 2].absorb(bucket),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_run_of_hours_takes_no_more_room_and_loses_no_operation() {
        let began = Instant::now();
        let mut timeline = Timeline::new(began);
        for second in 0..4 * 3600 {
            let now = began + Duration::from_secs(second);
            timeline.acknowledged((second >= 7200).into(), 3, MS * (second % 7) as u32, now);
            timeline.failed(now);
        }
        timeline.over(began + Duration::from_secs(4 * 3600));
        let buckets: Vec<_> = timeline.buckets().collect();
        assert!((MOST_BUCKETS / 2..=MOST_BUCKETS).contains(&buckets.len()));
        let operations: u64 = buckets.iter().flat_map(|(_, b)| &b.operations).sum();
        let errors: u64 = buckets.iter().map(|(_, bucket)| bucket.errors).sum();
        assert_eq!((operations, errors), (3 * 4 * 3600, 4 * 3600));
        let halves = [buckets[0].1.server(), buckets[buckets.len() - 1].1.server()];
        assert_eq!(halves, [Some(0), Some(1)]);
        let typical = buckets[1].1;
        assert_eq!(typical.slowest, MS * 6);
        assert!(typical.mean() > Some(MS * 2) && typical.mean() < Some(MS * 4));
        assert_eq!(timeline.length(), Duration::from_secs(4 * 3600));
        let coarse = timeline.coarse(100);
        assert!((50..=100).contains(&coarse.buckets().count()));
        let all = |(_, bucket): (Duration, &Bucket)| bucket.operations.iter().sum::<u64>();
        assert_eq!(coarse.buckets().map(all).sum::<u64>(), operations);
    }

    #[test]
    fn the_longest_gap_knows_its_servers_and_what_was_around_it() {
        let began = Instant::now();
        let mut timeline = Timeline::new(began);
        let mut acknowledged =
            |server, ms: u32| timeline.acknowledged(server, 1, MS, began + MS * ms);
        (0..300).for_each(|at| acknowledged(0, at * 10));
        (0..300).for_each(|at| acknowledged(1, 3_050 + at * 10));
        let longest = timeline.longest().unwrap().clone();
        assert_eq!((longest.from, longest.length()), (MS * 2_990, MS * 60));
        assert_eq!(longest.between, (0, Some(1)));
        let first = longest.around.first().unwrap().at;
        let last = longest.around.last().unwrap().at;
        assert!(first + AROUND + MS * 20 >= longest.from, "{first:?}");
        assert_eq!(last, longest.to + AROUND);
        timeline.over(began + MS * 7_000);
        let longest = timeline.longest().unwrap();
        assert_eq!(longest.between, (1, None));
        assert_eq!(longest.to, MS * 7_000);
    }
}
