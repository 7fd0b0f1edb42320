//! Tables without a key: how often each row occurs, by its hash. Buckets first, then the hashes of those that differ,
//! then rounds as for rows with a key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use postgres::Row;

use super::buckets::{at_once, buckets_for, counted};
use super::evidence::{Bag, Evidence, Verdict};
use super::findings::{ColumnDifference, Kind, RowDifference, Shown};
use super::hot::waits_for;
use super::pinned::{Scan, Text};
use super::ranges::{Outcome, differing_buckets};
use super::rounds::{Looked, Looks, ROUNDS, wait_before};
use super::settle::{Values, Work};
use crate::error::{Result, WrapErr};
use crate::server::Side;

/// How many hashes a round looks at: each round reads the table three times.
const AT_ONCE: usize = 5000;
/// How many rows are compared by their values, too.
const EXAMPLES: usize = 1000;

/// Compares the whole table.
pub(super) fn compare(work: &Work<'_>) -> Result<Outcome> {
    let buckets = buckets_for(work.table.reltuples);
    let (ours, theirs) = work
        .ask(|on| on.sums_by_row(buckets), Scan::Any)
        .wrap_err_with(|| format!("compare {}", work.table.name.plain()))?;
    let (rows, theirs_in_all) = (counted(&ours), counted(&theirs));
    let differing = differing_buckets(&ours, &theirs);
    drop((ours, theirs));
    let mut outcome = Outcome {
        rows,
        ..Outcome::default()
    };
    for some in differing.chunks(at_once(rows.max(theirs_in_all), buckets)) {
        let (ours, theirs) = work.ask(|on| on.counts(buckets, some), Scan::Any)?;
        let counts = |rows: &[Row]| -> HashMap<i64, i64> {
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        };
        let (ours, theirs) = (counts(&ours), counts(&theirs));
        let all: BTreeSet<i64> = ours.keys().chain(theirs.keys()).copied().collect();
        let candidates: Vec<i64> = all
            .into_iter()
            .filter(|hash| ours.get(hash) != theirs.get(hash))
            .collect();
        for batch in candidates.chunks(AT_ONCE) {
            for row in settle(work, batch)? {
                outcome.found.add(row);
            }
        }
    }
    Ok(outcome)
}

fn look(work: &Work<'_>, side: Side, hashes: &[i64]) -> Result<Looks<Bag>> {
    let (sql, arguments) = work.on(side).bags(hashes);
    let pinned = work.pinned(side);
    let rows = pinned.wait(&pinned.start(&sql, arguments, Scan::Any)?)?;
    Ok(Looks::read(&rows, |row| Bag {
        count: row.get(3),
        versions: row.get(4),
        untouched: row.get(5),
    }))
}

/// A hash that is proven to occur more often on one side.
struct Unequal {
    hash: i64,
    publisher: i64,
    subscriber: i64,
}

fn settle(work: &Work<'_>, batch: &[i64]) -> Result<Vec<RowDifference>> {
    let mut open: BTreeMap<i64, (Evidence<Bag>, i64, i64)> = batch
        .iter()
        .map(|hash| (*hash, (Evidence::default(), 0, 0)))
        .collect();
    let mut unequal = Vec::new();
    for round in 0..ROUNDS {
        if open.is_empty() {
            break;
        }
        wait_before(round)?;
        let hashes: Vec<i64> = open.keys().copied().collect();
        let looked = Looked::take(work, |side| look(work, side, &hashes))?;
        open.retain(|hash, (evidence, ours, theirs)| {
            let round = looked.at(*hash);
            (*ours, *theirs) = (round.after.count, round.subscriber.count);
            match evidence.judge(round) {
                Verdict::Open => return true,
                Verdict::Equal => {}
                Verdict::Different => unequal.push(Unequal {
                    hash: *hash,
                    publisher: *ours,
                    subscriber: *theirs,
                }),
            }
            false
        });
    }
    let mut found = name(work, unequal)?;
    for (evidence, ours, theirs) in open.into_values() {
        let reason = if evidence.waits_for_transactions() {
            waits_for(work)?
        } else {
            "rows like this one come and go all the time".into()
        };
        found.push(RowDifference {
            kind: Kind::Undecided,
            occurrences: Some((ours, theirs)),
            reason: Some(reason),
            ..nameless(Kind::Undecided)
        });
    }
    Ok(found)
}

fn nameless(kind: Kind) -> RowDifference {
    RowDifference {
        kind,
        key: Vec::new(),
        columns: Vec::new(),
        occurrences: None,
        reason: None,
    }
}

/// Names rows by their values. A row of the publisher that the subscriber spells as one that it has more often is that
/// row.
fn name(work: &Work<'_>, unequal: Vec<Unequal>) -> Result<Vec<RowDifference>> {
    let mut surplus: HashMap<i64, i64> = unequal
        .iter()
        .map(|it| (it.hash, it.subscriber - it.publisher))
        .collect();
    let (lacking, extra): (Vec<Unequal>, Vec<Unequal>) = unequal
        .into_iter()
        .partition(|it| it.publisher > it.subscriber);
    let mut found = Vec::new();
    let mut values = examples(work, Side::Publisher, &lacking)?;
    for it in lacking {
        let values = values.remove(&it.hash);
        let missing = it.publisher - it.subscriber;
        let there = values.as_ref().map(|it| respelled(work, it)).transpose()?;
        if let Some(there) = there.flatten().filter(|there| *there != it.hash)
            && let Some(more) = surplus.get_mut(&there)
            && *more >= missing
        {
            *more -= missing;
            continue;
        }
        found.push(named(work, Kind::Missing, &it, values, Side::Publisher));
    }
    let mut values = examples(work, Side::Subscriber, &extra)?;
    for it in extra {
        if surplus.get(&it.hash).is_some_and(|left| *left > 0) {
            let values = values.remove(&it.hash);
            found.push(named(work, Kind::Extra, &it, values, Side::Subscriber));
        }
    }
    work.confirmed
        .fetch_add(found.len() as u64, Ordering::SeqCst);
    Ok(found)
}

/// The hash that the subscriber would have of the publisher's values.
fn respelled(work: &Work<'_>, values: &[Option<Text>]) -> Result<Option<i64>> {
    let (sql, arguments) = work.on(Side::Subscriber).rehash(values);
    let rows = work.both.subscriber.rows(&sql, arguments)?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// The values of a row for each of these hashes, in one pass; of the first thousand.
fn examples(
    work: &Work<'_>,
    side: Side,
    unequal: &[Unequal],
) -> Result<HashMap<i64, Vec<Option<Text>>>> {
    let hashes: Vec<i64> = unequal.iter().take(EXAMPLES).map(|it| it.hash).collect();
    if hashes.is_empty() {
        return Ok(HashMap::new());
    }
    let (sql, arguments) = work.on(side).examples(&hashes);
    let pinned = work.pinned(side);
    let rows = pinned.wait(&pinned.start(&sql, arguments, Scan::Any)?)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn named(
    work: &Work<'_>,
    kind: Kind,
    unequal: &Unequal,
    values: Option<Vec<Option<Text>>>,
    side: Side,
) -> RowDifference {
    let columns = work.table.columns.iter().zip(values.unwrap_or_default());
    let columns = columns.map(|(column, value)| {
        let shown = match work.values {
            Values::Shown => Shown::of(value.as_ref().map(Text::shown).as_deref()),
            Values::Hidden => Shown::Hidden,
        };
        let (publisher, subscriber) = match side {
            Side::Publisher => (shown, Shown::Hidden),
            Side::Subscriber => (Shown::Hidden, shown),
        };
        ColumnDifference {
            column: column.name.clone(),
            publisher,
            subscriber,
        }
    });
    RowDifference {
        columns: columns.collect(),
        occurrences: Some((unequal.publisher, unequal.subscriber)),
        ..nameless(kind)
    }
}
