//! How much WAL a slot may still keep, and for how long that lasts. Pure.

use serde::Serialize;

use super::sample::Sample;
use super::verdict::LagStatus;
use crate::config::Lag;

/// The WAL that a slot keeps, and its limit. `None` is what is not known, or has no limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Retention {
    /// What the slot keeps now.
    pub retained_wal_bytes: u64,
    /// What may still be written before the slot is lost, or the disk full.
    pub bytes_left: Option<u64>,
    /// What sets that limit.
    pub limit: Option<RetentionLimit>,
    /// How fast it fills, in bytes a second.
    pub bytes_per_second: Option<f64>,
    /// When it goes on like that; none when it does not fill.
    pub hours_left: Option<f64>,
    /// By `lag.warning.hours_left` and `lag.critical.hours_left`.
    pub status: LagStatus,
}

/// What limits the WAL that a slot keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RetentionLimit {
    /// The publisher's `max_slot_wal_keep_size`: `safe_wal_size` is what it leaves.
    MaxSlotWalKeepSize,
    /// `lag.wal_disk` of the configuration, less what is in `pg_wal`.
    WalDisk,
}

/// Slower than this it does not fill: what one idle server writes by itself.
const NOTHING: f64 = 100.0;

/// What a sample says of its slot. `growth` is how fast the retained WAL has grown, in bytes a second;
/// `wal_directory_bytes` is the size of the publisher's `pg_wal`.
pub(super) fn retention(
    sample: &Sample,
    growth: Option<f64>,
    limits: &Lag,
    wal_directory_bytes: Option<u64>,
) -> Option<Retention> {
    let slot = sample.slot()?;
    let by_setting = slot
        .safe_wal_size
        .map(|left| u64::try_from(left).unwrap_or(0));
    let by_disk = limits
        .wal_disk
        .zip(wal_directory_bytes)
        .map(|(disk, used)| disk.0.saturating_sub(used));
    let ends = [
        (by_setting, RetentionLimit::MaxSlotWalKeepSize),
        (by_disk, RetentionLimit::WalDisk),
    ];
    let nearest = ends
        .into_iter()
        .filter_map(|(left, limit)| Some((left?, limit)))
        .min_by_key(|(left, _)| *left);
    let hours = |left: u64| {
        let rate = growth.filter(|rate| *rate > NOTHING)?;
        Some(left as f64 / rate / 3600.0)
    };
    let hours_left = nearest.and_then(|(left, _)| hours(left));
    let below = |limit: f64| hours_left.is_some_and(|hours| hours < limit);
    let status = if below(limits.critical.hours_left) {
        LagStatus::Critical
    } else if below(limits.warning.hours_left) {
        LagStatus::Warning
    } else {
        LagStatus::Ok
    };
    Some(Retention {
        retained_wal_bytes: slot.retained_wal_bytes?,
        bytes_left: nearest.map(|(left, _)| left),
        limit: nearest.map(|(_, limit)| limit),
        bytes_per_second: growth,
        hours_left,
        status,
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::sample;
    use super::*;
    use crate::value::Size;

    #[test]
    fn the_nearer_limit_counts_and_nothing_that_does_not_grow() {
        let mut sample = sample();
        let of = |sample: &Sample, growth, disk: Option<u64>| {
            let limits = Lag {
                wal_disk: disk.map(Size),
                ..Lag::default()
            };
            let found = retention(sample, growth, &limits, Some(1 << 30));
            found.map(|it| (it.limit, it.bytes_left, it.hours_left))
        };
        assert_eq!(of(&sample, Some(1e6), None), Some((None, None, None)));
        let disk = Some(RetentionLimit::WalDisk);
        let found = of(&sample, Some(1e6), Some(37 << 30)).unwrap();
        assert_eq!((found.0, found.1), (disk, Some(36 << 30)));
        assert!((found.2.unwrap() - (36_u64 << 30) as f64 / 3.6e9).abs() < 1e-6);
        sample.publisher.as_mut().unwrap().slots[1].safe_wal_size = Some(1 << 30);
        let setting = Some(RetentionLimit::MaxSlotWalKeepSize);
        let found = of(&sample, Some(-5.0), Some(37 << 30)).unwrap();
        assert_eq!(found, (setting, Some(1 << 30), None));
        // Beyond the limit already: the next checkpoint loses it.
        sample.publisher.as_mut().unwrap().slots[1].safe_wal_size = Some(-1);
        let found = of(&sample, Some(1e6), None).unwrap();
        assert_eq!(found, (setting, Some(0), Some(0.0)));
    }
}
