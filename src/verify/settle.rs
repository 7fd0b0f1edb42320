//! Rounds: candidates are looked at on both sides, with a probe between, until each is proven equal or different.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use postgres::Row;
use postgres::error::SqlState;

use super::arbiter::{Ruling, arbitrate};
use super::evidence::{Evidence, Look, Verdict};
use super::findings::{Found, KeyValue, Kind, RowDifference};
use super::hash::Hash;
use super::hot;
use super::pinned::{Asked, Both, Pinned, Scan};
use super::probe::Probe;
use super::rounds::{Looked, Looks, ROUNDS, wait_before};
use super::statement::{Key, On};
use super::table::Table;
use crate::error::{Report, Result};
use crate::server::{Side, sqlstate_of};

/// Whether values are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// Shortened.
    #[default]
    Shown,
    /// Only the names of columns; the key is named all the same.
    Hidden,
}

/// What a worker needs to compare one table.
pub(super) struct Work<'a> {
    pub(super) both: &'a Both,
    pub(super) table: &'a Table,
    pub(super) hash: Hash,
    pub(super) probe: &'a Probe<'a>,
    pub(super) values: Values,
    /// Whose keys bound the chunks.
    pub(super) bounds: Side,
    /// Rows of the table that have been found to differ.
    pub(super) confirmed: &'a AtomicU64,
}

/// How many keys one round looks at.
const AT_ONCE: usize = 500;
/// With so many rows named in a table, the rest is only counted.
pub(super) const ENOUGH: u64 = 1000;

impl<'a> Work<'a> {
    pub(super) fn on(&self, side: Side) -> On<'a> {
        On {
            table: self.table,
            side,
            hash: self.hash,
        }
    }

    pub(super) fn pinned(&self, side: Side) -> &Pinned {
        match side {
            Side::Publisher => &self.both.publisher,
            Side::Subscriber => &self.both.subscriber,
        }
    }

    /// Asks both sides at once.
    pub(super) fn ask(
        &self,
        of: impl Fn(On<'_>) -> Asked,
        scan: Scan,
    ) -> Result<(Vec<Row>, Vec<Row>)> {
        let (publisher, subscriber) = (of(self.on(Side::Publisher)), of(self.on(Side::Subscriber)));
        self.both.ask(publisher, subscriber, scan)
    }

    /// Asks one side.
    pub(super) fn rows(&self, side: Side, of: impl Fn(On<'_>) -> Asked) -> Result<Vec<Row>> {
        let (sql, arguments) = of(self.on(side));
        self.pinned(side).rows(&sql, arguments)
    }

    pub(super) fn key_values(&self, key: &Key) -> Vec<KeyValue> {
        let columns = self.table.key.iter().flat_map(|key| &key.columns);
        let values = columns.zip(key).map(|(column, value)| KeyValue {
            column: column.as_str().to_owned(),
            value: value.shown(),
        });
        values.collect()
    }

    /// A row that is named, without its columns.
    pub(super) fn named(&self, key: &Key, kind: Kind) -> RowDifference {
        RowDifference {
            kind,
            key: self.key_values(key),
            columns: Vec::new(),
            occurrences: None,
            reason: None,
        }
    }
}

/// Looks at keys on one side; numbers count from 1.
pub(super) fn look(work: &Work<'_>, side: Side, keys: &[Key]) -> Result<Looks<Look>> {
    let rows = match work.rows(side, |on| on.looks(keys)) {
        // What this encoding cannot spell is not here.
        Err(report) if cannot_be_spelled(&report) && keys.len() == 1 => {
            work.rows(side, |on| on.looks(&[]))?
        }
        looked => looked?,
    };
    Ok(Looks::read(&rows, |row| Look {
        hash: row.get(3),
        version: row.get(4),
        untouched: row.get(5),
    }))
}

/// Settles candidates: those that differ, and those that stay undecided.
pub(super) fn settle(work: &Work<'_>, candidates: Vec<Key>) -> Result<Found> {
    let mut found = Found::default();
    for batch in candidates.chunks(AT_ONCE) {
        for row in settle_halves(work, batch)? {
            found.add(row);
        }
    }
    Ok(found)
}

/// A key with characters that the publisher's encoding lacks fails the statement for all: the others go without it.
fn settle_halves(work: &Work<'_>, batch: &[Key]) -> Result<Vec<RowDifference>> {
    match settle_batch(work, batch) {
        Err(report) if cannot_be_spelled(&report) && batch.len() > 1 => {
            let (one, other) = batch.split_at(batch.len() / 2);
            let mut found = settle_halves(work, one)?;
            found.extend(settle_halves(work, other)?);
            Ok(found)
        }
        settled => settled,
    }
}

/// Whether a value has characters that the server's encoding lacks.
pub(super) fn cannot_be_spelled(report: &Report) -> bool {
    sqlstate_of(report) == Some(&SqlState::UNTRANSLATABLE_CHARACTER)
}

fn settle_batch(work: &Work<'_>, batch: &[Key]) -> Result<Vec<RowDifference>> {
    let mut open: BTreeMap<Key, Evidence<Look>> = batch
        .iter()
        .map(|key| (key.clone(), Evidence::default()))
        .collect();
    // Two spellings of one key find the same row: it is named once.
    let mut named: Vec<(Option<String>, Option<String>)> = Vec::new();
    let mut found = Vec::new();
    for round in 0..ROUNDS {
        if open.is_empty() {
            return Ok(found);
        }
        wait_before(round)?;
        let keys: Vec<Key> = open.keys().cloned().collect();
        let looked = Looked::take(work, |side| look(work, side, &keys))?;
        for (key, number) in keys.iter().zip(1..) {
            let Some(evidence) = open.get_mut(key) else {
                continue;
            };
            let round = looked.at(number);
            let versions = (
                round.after.version.clone(),
                round.subscriber.version.clone(),
            );
            match evidence.judge(round) {
                Verdict::Open => continue,
                Verdict::Equal => {}
                Verdict::Different if named.contains(&versions) => {}
                Verdict::Different => match rule(work, key, &versions)? {
                    Ruling::Changed => continue,
                    Ruling::Equal => {}
                    Ruling::Different(difference) => {
                        work.confirmed.fetch_add(1, Ordering::SeqCst);
                        found.push(difference);
                        named.push(versions);
                    }
                },
            }
            open.remove(key);
        }
    }
    for (key, evidence) in open {
        found.extend(hot::decide(work, &key, evidence)?);
    }
    Ok(found)
}

/// What a proven difference is called.
fn rule(work: &Work<'_>, key: &Key, versions: &(Option<String>, Option<String>)) -> Result<Ruling> {
    let (publisher, subscriber) = versions;
    Ok(match (publisher, subscriber) {
        (None, None) => Ruling::Changed,
        (Some(_), None) => Ruling::Different(work.named(key, Kind::Missing)),
        (None, Some(_)) => Ruling::Different(work.named(key, Kind::Extra)),
        (Some(_), Some(_)) if work.confirmed.load(Ordering::SeqCst) >= ENOUGH => {
            Ruling::Different(work.named(key, Kind::Different))
        }
        (Some(publisher), Some(subscriber)) => arbitrate(work, key, publisher, subscriber)?,
    })
}
