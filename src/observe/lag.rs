//! How far subscriptions are behind, for whoever watches without looking: cron, Nagios, Prometheus.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::look::{Declared, Trace, look};
use super::prometheus;
use super::retention::Retention;
use super::sample::{ApplyErrors, Sample, Tables};
use super::side_session::Silent;
use super::suspects::Suspect;
use super::unanswered::Unanswered;
use super::verdict::{LagStatus, judge};
use crate::config::{Config, Lag};
use crate::error::{Error, Failure, Result};
use crate::journal::Direction;
use crate::value::ShellWord;

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
    /// How old the subscriber's state is at least: what is proven.
    #[serde(serialize_with = "to_the_millisecond")]
    pub lag_seconds: Option<f64>,
    /// How old it is at most; none when no look was long enough ago to tell.
    #[serde(serialize_with = "to_the_millisecond")]
    pub lag_seconds_at_most: Option<f64>,
    /// Write-ahead log that the slot keeps on the publisher.
    pub retained_wal_bytes: Option<u64>,
    /// `wal_status` of the slot (13 and later).
    pub wal_status: Option<String>,
    /// What the slot may keep, and for how long that lasts.
    pub retention: Option<Retention>,
    /// Errors while applying and copying (15 and later).
    pub errors: Option<ApplyErrors>,
    /// Conflicts by kind (18 and later).
    pub conflicts: BTreeMap<String, u64>,
    /// Tables that are published and not subscribed: their rows are skipped in silence. None when it was not asked.
    pub unsubscribed_tables: Option<Vec<String>>,
    /// Objects that are not the same on both sides, and matter. None when it was not asked.
    pub drifted_objects: Option<Vec<String>>,
    /// What of a side that flare has closed is open. None when it was not asked.
    pub side_gaps: Option<Vec<String>>,
    /// What of `ddl: refuse` or `carry` is not at work. None when it was not asked.
    pub ddl_gaps: Option<Vec<String>>,
    /// What probably ends its workers, the surest first; empty where they run.
    pub suspects: Vec<Suspect>,
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
    let seen = look(
        config,
        application_name,
        direction,
        declared,
        limits,
        trace,
        silent,
    )?;
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
    pub(super) fn of(sample: Sample, status: LagStatus, message: String) -> SubscriptionLag {
        SubscriptionLag {
            subname: sample.subname.clone(),
            dbname: sample.dbname.clone(),
            direction: sample.direction,
            slot_name: sample.slot_name.clone(),
            active: sample.active,
            lag_bytes: sample.lag_bytes,
            lag_seconds: sample.lag_seconds,
            lag_seconds_at_most: sample.lag_seconds_at_most,
            retained_wal_bytes: sample.retained_wal_bytes,
            wal_status: sample.wal_status.clone(),
            retention: sample.retention,
            errors: sample.subscriber.as_ref().and_then(|it| it.errors.clone()),
            conflicts: sample
                .subscriber
                .as_ref()
                .map(|it| it.conflicts.clone())
                .unwrap_or_default(),
            unsubscribed_tables: None,
            drifted_objects: None,
            side_gaps: None,
            ddl_gaps: None,
            suspects: sample.suspects.clone(),
            tables: sample.tables,
            status,
            message,
            sample,
        }
    }
}

/// What only a comparison of both databases tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Divergence {
    pub(crate) unsubscribed_tables: Option<Vec<String>>,
    pub(crate) drifted_objects: Option<Vec<String>>,
    pub(crate) side_gaps: Option<Vec<String>>,
    pub(crate) ddl_gaps: Option<Vec<String>>,
}

impl SubscriptionLag {
    /// Whether the subscription is there.
    pub(crate) fn is_subscribed(&self) -> bool {
        let there = self.sample.subscriber.as_ref();
        there.is_some_and(|sample| sample.subscription.is_some())
    }

    /// Both servers have answered, and whether the sides are the same is not known all the same.
    pub(crate) fn not_compared(&mut self, cause: &str) {
        let Sample {
            publisher_error,
            subscriber_error,
            ..
        } = &self.sample;
        if publisher_error.is_none() && subscriber_error.is_none() {
            self.status = self.status.max(LagStatus::Warning);
            self.message = format!(
                "whether tables or objects are missing on a side is not known ({cause}); {}",
                self.message
            );
        }
    }

    /// Takes in what a comparison found. What does not follow at all is said before it.
    pub(crate) fn diverges(&mut self, found: Divergence) {
        const SHOWN: usize = 5;
        let (_, to) = self.sample.sides();
        let some = |names: &[String]| match names.len().checked_sub(SHOWN) {
            Some(more @ 1..) => format!("{} and {more} more", names[..SHOWN].join(", ")),
            _ => names.join(", "),
        };
        let subname = ShellWord(&self.subname);
        let kinds = [
            (
                &found.side_gaps,
                LagStatus::Critical,
                format!("the {to} is not closed: "),
                " (flare status --repair closes it)".to_owned(),
            ),
            (
                &found.ddl_gaps,
                LagStatus::Critical,
                String::new(),
                String::new(),
            ),
            (
                &found.unsubscribed_tables,
                LagStatus::Critical,
                "published and not subscribed, rows are skipped in silence: ".to_owned(),
                format!(" (flare create_subscription {subname} takes them in)"),
            ),
            (
                &found.drifted_objects,
                LagStatus::Warning,
                "not the same on both sides: ".to_owned(),
                " (flare status has the statements)".to_owned(),
            ),
        ];
        let mut words = Vec::new();
        for (names, status, before, after) in kinds {
            if let Some(names) = names.as_ref().filter(|it| !it.is_empty()) {
                words.push(format!("{before}{}{after}", some(names)));
                self.status = self.status.max(status);
            }
        }
        words.push(std::mem::take(&mut self.message));
        self.message = words.join("; ");
        self.unsubscribed_tables = found.unsubscribed_tables;
        self.drifted_objects = found.drifted_objects;
        self.side_gaps = found.side_gaps;
        self.ddl_gaps = found.ddl_gaps;
    }
}

impl LagReport {
    /// The worst of its subscriptions, after something was found of one.
    pub(crate) fn judge_again(&mut self) {
        let worst = self.subscriptions.iter().map(|it| it.status).max();
        self.status = worst.unwrap_or(LagStatus::Unknown);
    }

    /// The error when neither server could be asked about anything.
    pub fn unreachable(&self) -> Option<Error> {
        let errors: Vec<Option<(&Unanswered, &Unanswered)>> = self
            .subscriptions
            .iter()
            .map(|it| {
                it.sample
                    .subscriber_error
                    .as_ref()
                    .zip(it.sample.publisher_error.as_ref())
            })
            .collect();
        let all = errors.iter().all(Option::is_some);
        let (one, other) = errors.into_iter().flatten().next().filter(|_| all)?;
        let mut hints: Vec<&str> = [one, other]
            .iter()
            .filter_map(|it| it.hint.as_deref())
            .collect();
        hints.dedup();
        let hint = if hints.is_empty() {
            "check that the servers run and can be reached from here, with flare verify_connectivity".to_owned()
        } else {
            hints.join("; ")
        };
        Some(
            Failure::new(format!("{one}; and {other}"))
                .hint(hint)
                .into(),
        )
    }

    /// The same in Prometheus's text format. What is not known has no line.
    pub fn prometheus(&self) -> String {
        prometheus::text(&self.subscriptions)
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
