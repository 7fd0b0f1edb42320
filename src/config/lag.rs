//! How far behind is too far.

use std::str::FromStr;

use super::field::{Field, duration_of};
use super::section::Section;
use crate::error::{Error, Failure};
use crate::value::Size;

/// `lag`: from where on it is worth a warning, and from where on it is critical.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// Nagios's WARNING.
    pub warning: Thresholds,
    /// Nagios's CRITICAL.
    pub critical: Thresholds,
    /// How large the disk is that holds the publisher's `pg_wal`: no server says it. None: not known.
    pub wal_disk: Option<Size>,
}

/// Limits, each of which counts alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Bytes of WAL that the subscriber has not confirmed.
    pub bytes: Size,
    /// Seconds the subscriber is behind.
    pub seconds: f64,
    /// Bytes of WAL that the publisher keeps for the slot.
    pub retained_wal: Size,
    /// Hours until the WAL that the publisher keeps for the slot reaches its limit: less than this counts.
    pub hours_left: f64,
}

impl Default for Lag {
    fn default() -> Self {
        Lag {
            warning: Thresholds {
                bytes: Size(64 << 20),
                seconds: 30.0,
                retained_wal: Size(10 << 30),
                hours_left: 24.0,
            },
            critical: Thresholds {
                bytes: Size(1 << 30),
                seconds: 300.0,
                retained_wal: Size(50 << 30),
                hours_left: 4.0,
            },
            wal_disk: None,
        }
    }
}

impl Lag {
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let default = Lag::default();
        let warning = section.section("warning", |section| default.warning.read(section));
        let critical = section.section("critical", |section| default.critical.read(section));
        let wal_disk = section.optional("wal_disk", Field::size);
        let lag = Lag {
            warning: warning?,
            critical: critical?,
            wal_disk: wal_disk?,
        };
        let (low, high) = (lag.warning, lag.critical);
        for (name, wrong) in [
            ("bytes", low.bytes > high.bytes),
            ("seconds", low.seconds > high.seconds),
            ("retained_wal", low.retained_wal > high.retained_wal),
            ("hours_left", low.hours_left < high.hours_left),
        ] {
            if wrong {
                section.problem(format!("{name} is critical before it is worth a warning"));
            }
        }
        Some(lag)
    }
}

impl Thresholds {
    /// What the section says, over these defaults.
    fn read(self, section: &Section<'_>) -> Option<Self> {
        let bytes = section.or("bytes", self.bytes, Field::size);
        let seconds = section.or("seconds", self.seconds, |field| {
            field.parse(|text| {
                let read = duration_of(text).map(|duration| duration.as_secs_f64());
                read.ok_or_else(|| format!("{text:?} is not a number of seconds"))
            })
        });
        let retained_wal = section.or("retained_wal", self.retained_wal, Field::size);
        let hours_left = section.or("hours_left", self.hours_left, |field| {
            field.parse(|text| {
                let hours = text.parse::<f64>().ok().filter(|hours| *hours >= 0.0);
                hours.ok_or_else(|| format!("{text:?} is not a number of hours"))
            })
        });
        Some(Thresholds {
            bytes: bytes?,
            seconds: seconds?,
            retained_wal: retained_wal?,
            hours_left: hours_left?,
        })
    }
}

/// One limit as a person writes it: `64MB` are bytes, `30s` are seconds, `left=24h` are hours left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Bytes of lag.
    Bytes(Size),
    /// Seconds of lag.
    Seconds(f64),
    /// Hours until the retained WAL reaches its limit.
    HoursLeft(f64),
}

impl FromStr for Limit {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(left) = text.strip_prefix("left=").and_then(duration_of) {
            return Ok(Limit::HoursLeft(left.as_secs_f64() / 3600.0));
        }
        let has_unit = text.parse::<f64>().is_err();
        let size = text.parse::<Size>().ok().filter(|_| has_unit);
        let duration = duration_of(text).filter(|_| has_unit);
        match (size, duration) {
            (Some(size), _) => Ok(Limit::Bytes(size)),
            (None, Some(duration)) => Ok(Limit::Seconds(duration.as_secs_f64())),
            (None, None) => Failure::usage(format!(
                "read the limit {text:?}: it is a size like 64MB, a duration like 30s, or left=24h"
            ))
            .err(),
        }
    }
}

impl Thresholds {
    /// The same with these limits in place of its own.
    pub fn with(mut self, limits: &[Limit]) -> Thresholds {
        for limit in limits {
            match limit {
                Limit::Bytes(bytes) => self.bytes = *bytes,
                Limit::Seconds(seconds) => self.seconds = *seconds,
                Limit::HoursLeft(hours) => self.hours_left = *hours,
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_apart_by_their_unit() {
        let read = |text: &str| text.parse::<Limit>().ok();
        assert_eq!(read("64MB"), Some(Limit::Bytes(Size(64 << 20))));
        assert_eq!(read("0 B"), Some(Limit::Bytes(Size(0))));
        assert_eq!(read("30s"), Some(Limit::Seconds(30.0)));
        assert_eq!(read("1m30s"), Some(Limit::Seconds(90.0)));
        assert_eq!(read("left=36h"), Some(Limit::HoursLeft(36.0)));
        assert_eq!(read("left=long"), None);
        assert_eq!(read("64"), None);
        assert_eq!(read("64 parsecs"), None);
        let default = Lag::default().warning;
        let changed = default.with(&[Limit::Seconds(1.0), Limit::Seconds(2.0)]);
        assert_eq!((changed.seconds, changed.bytes), (2.0, default.bytes));
    }
}
