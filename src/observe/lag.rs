//! How far subscriptions are behind, for whoever watches without looking: cron, Nagios, Prometheus.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::look::{Declared, Trace, look};
use super::prometheus;
use super::sample::{Sample, Tables};
use super::verdict::{LagStatus, judge};
use super::watched::Silent;
use crate::config::{Config, Lag};
use crate::error::{Error, Failure, Result};
use crate::journal::Direction;

/// How far all that was asked for is behind.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LagReport {
    /// The worst of all.
    pub status: LagStatus,
    /// Each subscription.
    pub subscriptions: Vec<SubscriptionLag>,
}

/// How far one subscription is behind. `None` is what is not known, or not there.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SubscriptionLag {
    /// The subscription.
    pub subname: String,
    /// Its database.
    pub dbname: String,
    /// Which way the data flows.
    pub direction: Direction,
    /// Its slot.
    pub slot_name: Option<String>,
    /// Whether the slot is in use; none when there is no such slot.
    pub active: Option<bool>,
    /// Write-ahead log that the subscriber has not confirmed.
    pub lag_bytes: Option<u64>,
    /// How old the subscriber's state is.
    #[serde(serialize_with = "to_the_millisecond")]
    pub lag_seconds: Option<f64>,
    /// Write-ahead log that the slot keeps on the publisher.
    pub retained_wal_bytes: Option<u64>,
    /// `wal_status` of the slot (13 and later).
    pub wal_status: Option<String>,
    /// How many of its tables are ready.
    pub tables: Option<Tables>,
    /// Its own status.
    pub status: LagStatus,
    /// Why, in words.
    pub message: String,
    /// The sample it was made from.
    #[serde(skip)]
    pub sample: Sample,
}

/// Looks once.
pub(crate) fn lag(
    config: &Arc<Config>,
    application_name: &str,
    direction: Direction,
    declared: &Declared<'_>,
    limits: &Lag,
    trace: Trace,
    silent: &Silent,
) -> Result<LagReport> {
    let seen = look(config, application_name, direction, declared, trace, silent)?;
    let subscriptions: Vec<SubscriptionLag> = seen
        .into_iter()
        .map(|seen| {
            let (status, message) = judge(&seen.sample, seen.trouble.as_deref(), limits);
            SubscriptionLag::of(seen.sample, status, message)
        })
        .collect();
    let worst = subscriptions.iter().map(|it| it.status).max();
    Ok(LagReport {
        status: worst.unwrap_or(LagStatus::Unknown),
        subscriptions,
    })
}

impl SubscriptionLag {
    fn of(sample: Sample, status: LagStatus, message: String) -> SubscriptionLag {
        SubscriptionLag {
            subname: sample.subname.clone(),
            dbname: sample.dbname.clone(),
            direction: sample.direction,
            slot_name: sample.slot_name.clone(),
            active: sample.active,
            lag_bytes: sample.lag_bytes,
            lag_seconds: sample.lag_seconds,
            retained_wal_bytes: sample.retained_wal_bytes,
            wal_status: sample.wal_status.clone(),
            tables: sample.tables,
            status,
            message,
            sample,
        }
    }
}

impl LagReport {
    /// The error when neither server could be asked about anything.
    pub fn unreachable(&self) -> Option<Error> {
        let errors = |it: &SubscriptionLag| {
            let Sample {
                publisher_error,
                subscriber_error,
                ..
            } = &it.sample;
            Some(format!(
                "{}; and {}",
                subscriber_error.as_ref()?,
                publisher_error.as_ref()?
            ))
        };
        let errors: Vec<Option<String>> = self.subscriptions.iter().map(errors).collect();
        let all = errors.iter().all(Option::is_some);
        let first = errors.into_iter().flatten().next().filter(|_| all)?;
        let hint = "check that the servers run and can be reached from here, with flare verify_connectivity";
        Some(Failure::new(first).hint(hint).into())
    }

    /// The same in Prometheus's text format. What is not known has no line.
    pub fn prometheus(&self) -> String {
        prometheus::text(self.subscriptions.iter().map(|it| &it.sample))
    }
}

/// One line for each, the worst first: Nagios shows the first.
impl fmt::Display for LagReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<&SubscriptionLag> = self.subscriptions.iter().collect();
        lines.sort_by_key(|it| std::cmp::Reverse(it.status));
        for SubscriptionLag {
            status,
            subname,
            message,
            ..
        } in lines
        {
            writeln!(f, "{status}: {subname}: {message}")?;
        }
        Ok(())
    }
}

fn to_the_millisecond<S: Serializer>(
    seconds: &Option<f64>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    seconds
        .map(|seconds| (seconds * 1000.0).round() / 1000.0)
        .serialize(serializer)
}
