//! What a run ends with.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::value::counted;
use serde::Serialize;

use super::generator::timestamp;
use super::meter::Meter;

/// What was acknowledged, what failed, and how long nothing was acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Operations (inserted, updated, deleted rows) that a server acknowledged, without the heartbeat's.
    pub acknowledged: u64,
    /// Errors that clients saw, failed connections included.
    pub errors: u64,
    /// The same by SQLSTATE (manual: "PostgreSQL Error Codes"); `connection` where no server gave one.
    pub sqlstates: BTreeMap<String, u64>,
    /// Operations whose outcome is not known: the connection was lost, or the run ended, before an answer came.
    pub unknown: u64,
    /// Heartbeats that a server acknowledged.
    pub heartbeats: u64,
    /// The longest time between two acknowledgements of any client, or from the last one to the end.
    pub longest_gap_ms: Option<f64>,
    /// When it began (UTC).
    pub longest_gap_at: Option<String>,
    /// Half of the transactions took no longer.
    pub p50_ms: Option<f64>,
    /// 99 of 100 transactions took no longer.
    pub p99_ms: Option<f64>,
    /// How long the run was.
    pub seconds: f64,
    /// Operations acknowledged per second.
    pub rate: f64,
    /// How many clients wrote.
    pub clients: usize,
}

impl Summary {
    pub(super) fn of(meter: &Meter, clients: usize, took: Duration) -> Summary {
        let gap = meter.longest_gap();
        let rounded = |ms: f64| (ms * 1000.0).round() / 1000.0;
        Summary {
            acknowledged: meter.acknowledged,
            errors: meter.errors,
            sqlstates: meter.sqlstates.clone(),
            unknown: meter.unknown,
            heartbeats: meter.heartbeats,
            longest_gap_ms: gap.map(|gap| rounded(gap.length.as_secs_f64() * 1000.0)),
            longest_gap_at: gap.map(|gap| timestamp(gap.at)),
            p50_ms: meter.percentile_ms(0.50).map(rounded),
            p99_ms: meter.percentile_ms(0.99).map(rounded),
            seconds: rounded(took.as_secs_f64()),
            rate: (meter.acknowledged as f64 / took.as_secs_f64().max(0.001)).round(),
            clients,
        }
    }
}

impl Summary {
    fn sorts_of_errors(&self) -> String {
        let sorts = self.sqlstates.iter();
        let sorts: Vec<String> = sorts
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        if sorts.is_empty() {
            String::new()
        } else {
            format!(" ({})", sorts.join(", "))
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
        writeln!(
            f,
            "{} acknowledged in {:.1} s ({:.0}/s, {}), {}",
            counted(self.acknowledged, "operation"),
            self.seconds,
            self.rate,
            counted(self.clients, "client"),
            counted(self.heartbeats, "heartbeat")
        )?;
        writeln!(
            f,
            "{} seen by clients{}, {} with an unknown outcome",
            counted(self.errors, "error"),
            self.sorts_of_errors(),
            counted(self.unknown, "operation")
        )?;
        writeln!(
            f,
            "longest gap between acknowledgements: {}{}",
            ms(self.longest_gap_ms),
            self.longest_gap_at
                .as_ref()
                .map(|at| format!(" (from {at})"))
                .unwrap_or_default()
        )?;
        write!(
            f,
            "latency: p50 {}, p99 {}",
            ms(self.p50_ms),
            ms(self.p99_ms)
        )
    }
}
