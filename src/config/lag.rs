//! How far behind is too far.

use std::str::FromStr;

use super::field::{Field, duration_of};
use super::section::Section;
use crate::error::{Failure, Report};
use crate::value::Size;

/// `lag`: from where on it is worth a warning, and from where on it is critical.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// Nagios's WARNING.
    pub warning: Thresholds,
    /// Nagios's CRITICAL.
    pub critical: Thresholds,
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
}

impl Default for Lag {
    fn default() -> Self {
        Lag {
            warning: Thresholds {
                bytes: Size(64 << 20),
                seconds: 30.0,
                retained_wal: Size(10 << 30),
            },
            critical: Thresholds {
                bytes: Size(1 << 30),
                seconds: 300.0,
                retained_wal: Size(50 << 30),
            },
        }
    }
}

impl Lag {
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let default = Lag::default();
        let warning = section.section("warning", |section| default.warning.read(section));
        let critical = section.section("critical", |section| default.critical.read(section));
        let lag = Lag {
            warning: warning?,
            critical: critical?,
        };
        let (low, high) = (lag.warning, lag.critical);
        for (name, wrong) in [
            ("bytes", low.bytes > high.bytes),
            ("seconds", low.seconds > high.seconds),
            ("retained_wal", low.retained_wal > high.retained_wal),
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
        Some(Thresholds {
            bytes: bytes?,
            seconds: seconds?,
            retained_wal: retained_wal?,
        })
    }
}

/// One limit as a person writes it: `64MB` are bytes, `30s` are seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Bytes of lag.
    Bytes(Size),
    /// Seconds of lag.
    Seconds(f64),
}

impl FromStr for Limit {
    type Err = Report;
    fn from_str(text: &str) -> Result<Self, Report> {
        let has_unit = text.parse::<f64>().is_err();
        let size = text.parse::<Size>().ok().filter(|_| has_unit);
        let duration = duration_of(text).filter(|_| has_unit);
        match (size, duration) {
            (Some(size), _) => Ok(Limit::Bytes(size)),
            (None, Some(duration)) => Ok(Limit::Seconds(duration.as_secs_f64())),
            (None, None) => Failure::usage(format!(
                "read the limit {text:?}: it is a size like 64MB or a duration like 30s"
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
        assert_eq!(read("64"), None);
        assert_eq!(read("64 parsecs"), None);
        let default = Lag::default().warning;
        let changed = default.with(&[Limit::Seconds(1.0), Limit::Seconds(2.0)]);
        assert_eq!((changed.seconds, changed.bytes), (2.0, default.bytes));
    }
}
