//! How far the initial copy is, and what is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::Serialize;

use super::sample::{Sample, Survey};
use crate::progress::Eta;

/// The initial copy, measured in bytes of the publisher's tables without their indexes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Copying {
    /// All published tables.
    pub bytes_total: u64,
    /// What is there.
    pub bytes_done: u64,
    /// How fast it went, over the last minute.
    pub bytes_per_second: Option<f64>,
    /// What is left; never more than was said before, while bytes flow.
    pub seconds_left: Option<f64>,
    /// The tables at work, then those that wait, the largest first; twenty at most.
    pub tables: Vec<CopiedTable>,
}

/// A table whose copy is not complete.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CopiedTable {
    /// The table.
    pub table: String,
    /// `srsubstate`.
    pub srsubstate: String,
    /// Its size on the publisher.
    pub bytes_total: Option<u64>,
    /// What is there.
    pub bytes_done: u64,
    /// How fast it went, over the last minute.
    pub bytes_per_second: Option<f64>,
    /// What is left of it.
    pub seconds_left: Option<f64>,
}

const SHOWN: usize = 20;

/// What was seen of copies before.
#[derive(Default)]
pub(super) struct Copies {
    all: Pace,
    tables: BTreeMap<String, Pace>,
}

/// How fast something grows.
#[derive(Default)]
struct Pace {
    seen: std::collections::VecDeque<(Instant, u64)>,
    eta: Eta,
}

impl Pace {
    /// Bytes a second over the last minute, and seconds left.
    fn look(&mut self, now: Instant, done: u64, total: u64) -> (Option<f64>, Option<f64>) {
        self.seen.push_back((now, done));
        while self.seen.len() > 2 && (now - self.seen[0].0).as_secs() > 60 {
            self.seen.pop_front();
        }
        let (at, before) = self.seen[0];
        let seconds = (now - at).as_secs_f64();
        let rate = (seconds > 0.0).then(|| done.saturating_sub(before) as f64 / seconds);
        let left = self
            .eta
            .look(now, done, total)
            .map(|left| left.as_secs_f64());
        (rate, left)
    }
}

impl Copies {
    /// Takes in a sample; none when no table is being copied, or sizes are not known.
    pub(super) fn look(
        &mut self,
        sample: &Sample,
        survey: &Survey,
        now: Instant,
    ) -> Option<Copying> {
        let subscriber = sample.subscriber.as_ref()?;
        let waits = |state: &str| matches!(state, "i" | "d");
        let waiting: u64 = ["i", "d"]
            .iter()
            .filter_map(|state| subscriber.table_states.get(*state))
            .sum();
        if waiting == 0 || survey.published.is_empty() {
            *self = Copies::default();
            return None;
        }
        let published: BTreeMap<&str, _> = survey
            .published
            .iter()
            .map(|it| (it.table.as_str(), it))
            .collect();
        let size = |table: &str| published.get(table).and_then(|it| it.bytes);
        let shown: Vec<_> = subscriber
            .unready
            .iter()
            .filter(|it| waits(&it.srsubstate))
            .collect();
        // More than were listed: the others as the last survey found them.
        let mut uncopied: BTreeSet<&str> = shown.iter().map(|it| it.table.as_str()).collect();
        if waiting > shown.len() as u64 {
            uncopied.extend(survey.uncopied.iter().map(String::as_str));
        }
        let bytes_total = survey.published.iter().filter_map(|it| it.bytes).sum();
        let missing: u64 = uncopied.iter().filter_map(|table| size(table)).sum();
        let mut partly = 0;
        let mut tables: Vec<CopiedTable> = shown
            .iter()
            .map(|it| {
                let rows = subscriber
                    .copies
                    .iter()
                    .find(|copy| copy.table.as_ref() == Some(&it.table))
                    .map(|copy| copy.tuples_processed);
                let total = size(&it.table);
                let done = done(
                    it.bytes,
                    rows,
                    published.get(it.table.as_str()).map(|it| it.reltuples),
                    total,
                );
                partly += done;
                let (rate, left) = match (it.srsubstate.as_str(), total) {
                    ("d", Some(total)) => {
                        let pace = self.tables.entry(it.table.clone()).or_default();
                        pace.look(now, done, total)
                    }
                    _ => (None, None),
                };
                CopiedTable {
                    table: it.table.clone(),
                    srsubstate: it.srsubstate.clone(),
                    bytes_total: total,
                    bytes_done: done,
                    bytes_per_second: rate,
                    seconds_left: left,
                }
            })
            .collect();
        self.tables
            .retain(|table, _| uncopied.contains(table.as_str()));
        tables.sort_by_key(|it| (it.srsubstate != "d", std::cmp::Reverse(it.bytes_total)));
        tables.truncate(SHOWN);
        let bytes_done = u64::min(bytes_total, bytes_total.saturating_sub(missing) + partly);
        let (bytes_per_second, seconds_left) = self.all.look(now, bytes_done, bytes_total);
        Some(Copying {
            bytes_total,
            bytes_done,
            bytes_per_second,
            seconds_left,
            tables,
        })
    }
}

/// Rows say it better than bytes: a table that is bloated on the publisher is smaller here.
fn done(bytes: Option<u64>, rows: Option<u64>, reltuples: Option<f64>, total: Option<u64>) -> u64 {
    let share = rows
        .zip(reltuples)
        .filter(|(_, all)| *all > 0.0)
        .map(|(rows, all)| (rows as f64 / all).min(1.0));
    match (share, total) {
        (Some(share), Some(total)) => (total as f64 * share) as u64,
        _ => bytes.unwrap_or(0).min(total.unwrap_or(u64::MAX)),
    }
}
