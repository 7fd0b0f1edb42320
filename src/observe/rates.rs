//! How fast things move: first and last of some samples compared. Pure.

use serde::Serialize;

use super::sample::{PublisherSample, Sample, SubscriberSample};
use super::window::{Timed, last};

/// A rate is taken over this long.
const SECONDS: f64 = 20.0;

/// What moved how fast, per second. `None` is what was not seen twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rates {
    /// Over how many seconds.
    pub seconds: f64,
    /// WAL that the publisher wrote, of all its databases.
    pub wal_bytes_per_second: Option<f64>,
    /// WAL that the subscriber confirmed.
    pub confirmed_bytes_per_second: Option<f64>,
    /// How fast the WAL that the slot keeps has grown; negative when it shrank.
    pub retained_bytes_per_second: Option<f64>,
    /// Rows changed in the publisher's database.
    pub publisher_rows_per_second: Option<f64>,
    /// Rows changed in the subscriber's database, by applying and copying.
    pub subscriber_rows_per_second: Option<f64>,
    /// Bytes that decoding wrote to disk (14 and later).
    pub spill_bytes_per_second: Option<f64>,
    /// Until the lag is worked off, when both go on as they do; none while it does not shrink.
    pub catch_up_seconds: Option<f64>,
}

/// A figure in a sample.
type Figure = fn(&Sample) -> Option<f64>;

const WAL: Figure = |it| publisher(it).map(|it| it.current_wal_lsn.0 as f64);
const CONFIRMED: Figure = |it| Some(it.slot()?.confirmed_flush_lsn?.0 as f64);
const PUBLISHER_ROWS: Figure = |it| Some(publisher(it)?.rows?.changed() as f64);
const SUBSCRIBER_ROWS: Figure = |it| Some(subscriber(it)?.rows?.changed() as f64);
const SPILLED: Figure = |it| Some(it.slot()?.decoding?.spill_bytes as f64);

fn publisher(sample: &Sample) -> Option<&PublisherSample> {
    sample.publisher.as_ref()
}

fn subscriber(sample: &Sample) -> Option<&SubscriberSample> {
    sample.subscriber.as_ref()
}

/// The rates at the last of these samples; none of a single one.
pub(super) fn rates(samples: &[Timed]) -> Option<Rates> {
    let samples = last(samples, SECONDS);
    let (first, now) = (samples.first()?, samples.last()?);
    let seconds = now.at - first.at;
    if samples.len() < 2 || seconds <= 0.0 {
        return None;
    }
    let growing = |figure: Figure| per_second(samples, figure).filter(|rate| *rate >= 0.0);
    let wal = growing(WAL);
    let confirmed = growing(CONFIRMED);
    let catch_up = wal.zip(confirmed).zip(now.sample.lag_bytes);
    Some(Rates {
        seconds,
        wal_bytes_per_second: wal,
        confirmed_bytes_per_second: confirmed,
        retained_bytes_per_second: per_second(samples, |it| Some(it.retained_wal_bytes? as f64)),
        publisher_rows_per_second: growing(PUBLISHER_ROWS),
        subscriber_rows_per_second: growing(SUBSCRIBER_ROWS),
        spill_bytes_per_second: growing(SPILLED),
        catch_up_seconds: catch_up.and_then(|((wal, confirmed), lag)| {
            let shrinks = confirmed - wal;
            (lag > 0 && shrinks > 0.0).then(|| lag as f64 / shrinks)
        }),
    })
}

/// Between the first and the last sample that have the figure.
fn per_second(samples: &[Timed], figure: Figure) -> Option<f64> {
    let mut known = samples
        .iter()
        .filter_map(|it| Some((it.at, figure(&it.sample)?)));
    let first = known.next()?;
    let last = known.next_back()?;
    (last.0 > first.0).then(|| (last.1 - first.1) / (last.0 - first.0))
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::sample;
    use super::*;
    use crate::value::Lsn;

    /// A publisher that writes and a subscriber that confirms, in bytes a second.
    fn planted(seconds: u32, written: u64, confirmed: impl Fn(u64) -> u64) -> Vec<Timed> {
        let at = |second: u32| {
            let mut sample = sample();
            let second = u64::from(second);
            let publisher = sample.publisher.as_mut().unwrap();
            publisher.current_wal_lsn = Lsn((1 << 30) + second * written);
            publisher.slots[1].confirmed_flush_lsn = Some(Lsn((1 << 20) + confirmed(second)));
            sample.lag_bytes = Some((1 << 30) - (1 << 20) + second * written - confirmed(second));
            sample.retained_wal_bytes = sample.lag_bytes;
            sample
        };
        (0..=seconds)
            .map(|second| Timed {
                at: f64::from(second),
                sample: at(second),
            })
            .collect()
    }

    #[test]
    fn a_constant_rate_is_found_and_what_is_left_shrinks_with_it() {
        let samples = planted(60, 1000, |second| second * 21_000);
        let mut before = f64::MAX;
        for end in 2..=samples.len() {
            let rates = rates(&samples[..end]).unwrap();
            assert_eq!(rates.wal_bytes_per_second, Some(1000.0));
            assert_eq!(rates.confirmed_bytes_per_second, Some(21_000.0));
            assert_eq!(rates.retained_bytes_per_second, Some(-20_000.0));
            let left = rates.catch_up_seconds.unwrap();
            assert!(left < before, "{left} {before}");
            before = left;
        }
        assert!((before - ((1 << 30) - (1 << 20) - 60 * 20_000) as f64 / 20_000.0).abs() < 1.0);
    }

    #[test]
    fn one_sample_has_no_rate_and_a_lag_that_grows_no_end() {
        let samples = planted(30, 1000, |_| 0);
        assert_eq!(rates(&samples[..1]), None);
        let rates = rates(&samples).unwrap();
        assert_eq!(rates.catch_up_seconds, None);
        assert_eq!(rates.retained_bytes_per_second, Some(1000.0));
        assert_eq!(rates.seconds, SECONDS);
    }

    #[test]
    fn a_server_that_was_away_leaves_the_others_rate() {
        let mut samples = planted(5, 1000, |second| second * 2000);
        samples[5].sample.publisher = None;
        let rates = rates(&samples).unwrap();
        assert_eq!(rates.wal_bytes_per_second, Some(1000.0));
        assert_eq!(rates.subscriber_rows_per_second, None);
    }
}
