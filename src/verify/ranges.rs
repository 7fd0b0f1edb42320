//! A range of the key on both sides: sums first, and only where they differ the rows themselves.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use postgres::Row;

use super::findings::Found;
use super::pinned::{Scan, Text};
use super::settle::{Work, settle};
use super::statement::{Key, Range};
use crate::error::{Result, WrapErr};
use crate::server::Side;

/// Rows of a chunk, but where keys are large.
pub(super) const CHUNK: usize = 20_000;
/// A range with more rows than so many chunks is walked in chunks before its rows are listed.
const TOO_MANY: usize = 4;
/// Into how many buckets a chunk that differs is divided, so that only some of its keys are listed.
const BUCKETS: i64 = 64;
/// A larger part of a chunk's rows that only one side has in its range, and that are equal, comes from another order there.
const SCATTERED: usize = 20;

/// What has come of comparing a range or a table.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// On the publisher.
    pub(super) rows: i64,
    pub(super) found: Found,
    /// The two sides order the key differently.
    pub(super) scattered: bool,
}

/// Compares a range.
pub(super) fn compare(work: &Work<'_>, range: &Range) -> Result<Outcome> {
    // What has no bounds is the whole table: no index is of use.
    let scan = if *range == Range::default() {
        Scan::Any
    } else {
        Scan::Index
    };
    let (ours, theirs) = work
        .ask(|on| on.sum(range), scan)
        .wrap_err_with(|| format!("compare {}", work.table.name.plain()))?;
    let sum = |rows: &[Row]| -> (i64, String) {
        rows.first()
            .map_or((0, String::new()), |row| (row.get(0), row.get(1)))
    };
    let (ours, theirs) = (sum(&ours), sum(&theirs));
    let mut outcome = Outcome {
        rows: ours.0,
        ..Outcome::default()
    };
    if ours == theirs {
        return Ok(outcome);
    }
    if ours.0.max(theirs.0) > (TOO_MANY * work.table.chunk) as i64 {
        // The side that has more rows divides them: on the other they may all be between two keys.
        let divides = match ours.0.cmp(&theirs.0) {
            Ordering::Greater => Side::Publisher,
            Ordering::Less => Side::Subscriber,
            Ordering::Equal => work.bounds,
        };
        walk(work, divides, range, |part| {
            let part = compare(work, part)?;
            outcome.found.merge(part.found);
            outcome.scattered |= part.scattered;
            Ok(true)
        })?;
        return Ok(outcome);
    }
    let differing = differing(work, range)?;
    outcome.found = differing.found;
    outcome.scattered = differing.scattered;
    Ok(outcome)
}

/// Goes through a range chunk by chunk in the order of one side, until `visit` says that it is enough.
pub(super) fn walk(
    work: &Work<'_>,
    side: Side,
    range: &Range,
    mut visit: impl FnMut(&Range) -> Result<bool>,
) -> Result<()> {
    let mut rest = range.clone();
    loop {
        let rows = work
            .rows(side, |on| on.bound(&rest, work.table.chunk))
            .wrap_err("find the end of a chunk")?;
        let bound = rows.first().map(key_of);
        let part = Range {
            after: rest.after.clone(),
            to: bound.clone().or_else(|| range.to.clone()),
        };
        if !visit(&part)? || bound.is_none() {
            return Ok(());
        }
        rest.after = bound;
    }
}

/// The key in all columns of a row.
pub(super) fn key_of(row: &Row) -> Key {
    (0..row.len()).map(|at| row.get(at)).collect()
}

/// The key behind the first column, and the hash in it.
pub(super) fn hashed(row: &Row) -> (Key, i64) {
    let key = (1..row.len()).map(|at| row.get::<_, Text>(at)).collect();
    (key, row.get(0))
}

/// Lists and settles what differs in a range whose sums differ.
fn differing(work: &Work<'_>, range: &Range) -> Result<Outcome> {
    let (ours, theirs) = work.ask(|on| on.sums_by_key(range, BUCKETS), Scan::Index)?;
    let buckets = differing_buckets(&ours, &theirs);
    if buckets.is_empty() {
        return Ok(Outcome::default());
    }
    let (ours, theirs) = work.ask(|on| on.rows(range, Some((BUCKETS, &buckets))), Scan::Index)?;
    let ours: HashMap<Key, i64> = ours.iter().map(hashed).collect();
    let theirs: HashMap<Key, i64> = theirs.iter().map(hashed).collect();
    let alone = ours.keys().filter(|key| !theirs.contains_key(*key)).count()
        + theirs.keys().filter(|key| !ours.contains_key(*key)).count();
    let candidates = candidates(ours, theirs);
    let found = settle(work, candidates)?;
    Ok(Outcome {
        rows: 0,
        scattered: alone > work.table.chunk / SCATTERED && (found.count() as usize) < alone / 10,
        found,
    })
}

/// Buckets whose rows do not add up to the same.
pub(super) fn differing_buckets(ours: &[Row], theirs: &[Row]) -> Vec<i64> {
    let sums = |rows: &[Row]| -> BTreeMap<i64, (i64, String)> {
        let of = |row: &Row| (row.get(0), (row.get(1), row.get(2)));
        rows.iter().map(of).collect()
    };
    let (ours, theirs) = (sums(ours), sums(theirs));
    let all: BTreeSet<i64> = ours.keys().chain(theirs.keys()).copied().collect();
    all.into_iter()
        .filter(|bucket| ours.get(bucket) != theirs.get(bucket))
        .collect()
}

/// Keys whose hashes differ, or that one side lacks.
pub(super) fn candidates(ours: HashMap<Key, i64>, mut theirs: HashMap<Key, i64>) -> Vec<Key> {
    let mut candidates = Vec::new();
    for (key, hash) in ours {
        if theirs.remove(&key) != Some(hash) {
            candidates.push(key);
        }
    }
    candidates.extend(theirs.into_keys());
    candidates.sort();
    candidates
}
