//! Tables without a key: how often each row occurs, by its hash. Buckets first, then the hashes of those that differ,
//! then rounds as for rows with a key.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;

use postgres::Row;

use super::buckets::{at_once, buckets_for, counted};
use super::carry::{carry, forget, values};
use super::evidence::{Bag, Evidence, Verdict};
use super::findings::{ColumnDifference, Kind, RowDifference, Shown};
use super::hot::waits_for;
use super::pinned::{Asked, Scan, Text};
use super::ranges::{Outcome, differing_buckets};
use super::rounds::{Looked, Looks, ROUNDS, wait_before};
use super::settle::{ENOUGH, Values, Work};
use super::state::EXAMPLES;
use super::statement::{RowAt, Value};
use crate::error::{Result, WrapErr};
use crate::server::Side;

/// How many hashes a round looks at: each round reads the table three times.
const AT_ONCE: usize = 5000;
/// How much of rows' values is read in one pass. The values of a row that is larger by itself are carried.
const BYTES_AT_ONCE: i64 = 4 << 20;

/// How many rows wait for another spelling of theirs.
const MOST_APART: usize = 300_000;

/// Compares the whole table.
pub(super) fn compare(work: &Work<'_>) -> Result<Outcome> {
    let buckets = buckets_for(work.table.reltuples);
    let (ours, theirs) = work
        .ask(|on| on.sums_by_row(buckets), Scan::Any)
        .wrap_err_with(|| format!("compare {}", work.table.name.plain()))?;
    let (rows, theirs_in_all) = (counted(&ours), counted(&theirs));
    let differing = differing_buckets(&ours, &theirs);
    drop((ours, theirs));
    let mut apart = Apart::default();
    let mut outcome = Outcome {
        rows,
        ..Outcome::default()
    };
    for some in differing.chunks(at_once(work.table.chunk, rows.max(theirs_in_all), buckets)) {
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
            for row in settle(work, batch, &mut apart)? {
                outcome.found.add(row);
            }
        }
    }
    for row in apart.end(work)? {
        outcome.found.add(row);
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

fn settle(work: &Work<'_>, batch: &[i64], apart: &mut Apart) -> Result<Vec<RowDifference>> {
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
    unequal.sort_unstable_by_key(|it| it.hash);
    let mut found = apart.take_in(work, unequal)?;
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

/// Rows that differ by their hashes, and may be two spellings of one: the two hashes are in one batch by chance alone.
#[derive(Default)]
struct Apart {
    /// Rows that the publisher has more often, by the hash that the subscriber has of their values, which is another.
    respelled: HashMap<i64, Vec<Unequal>>,
    /// Rows that the subscriber has more often.
    extra: Vec<Unequal>,
}

impl Apart {
    /// Names what the publisher has and the subscriber does not spell in another way. With enough rows named, that is not
    /// asked of the rest.
    fn take_in(&mut self, work: &Work<'_>, sorted: Vec<Unequal>) -> Result<Vec<RowDifference>> {
        let (lacking, extra): (Vec<Unequal>, Vec<Unequal>) = sorted
            .into_iter()
            .partition(|it| it.publisher > it.subscriber);
        self.extra.extend(extra);
        let mut spelled = Spelled::of(work, &lacking);
        let mut missing = Vec::new();
        for it in lacking {
            let there = match spelled.values(it.hash, missing.len() as u64)? {
                Some(values) => respelled(work, values)?,
                None => None,
            };
            match there.filter(|there| *there != it.hash) {
                Some(there) => self.respelled.entry(there).or_default().push(it),
                None => missing.push(it),
            }
        }
        let mut found = named(work, Kind::Missing, &missing, Side::Publisher)?;
        if self.extra.len() > MOST_APART {
            found.extend(self.name_extra(work)?);
        }
        Ok(found)
    }

    /// A row of the publisher that the subscriber spells as one that it has more often is that row: the others are named.
    fn name_extra(&mut self, work: &Work<'_>) -> Result<Vec<RowDifference>> {
        let mut extra = std::mem::take(&mut self.extra);
        extra.retain(|it| {
            let mut more = it.subscriber - it.publisher;
            if let Some(rows) = self.respelled.get_mut(&it.hash) {
                rows.retain(|row| {
                    let missing = row.publisher - row.subscriber;
                    let is_there = missing <= more;
                    more -= if is_there { missing } else { 0 };
                    !is_there
                });
            }
            more > 0
        });
        named(work, Kind::Extra, &extra, Side::Subscriber)
    }

    /// Names what is left.
    fn end(mut self, work: &Work<'_>) -> Result<Vec<RowDifference>> {
        let mut found = self.name_extra(work)?;
        let missing: Vec<Unequal> = self.respelled.into_values().flatten().collect();
        found.extend(named(work, Kind::Missing, &missing, Side::Publisher)?);
        Ok(found)
    }
}

/// A row of the publisher's.
enum Read {
    Values(Vec<Option<Text>>),
    /// Too large to come along: its version.
    Vast(String),
}

/// The hash that the subscriber would have of the publisher's values; none when the row is gone.
fn respelled(work: &Work<'_>, read: Read) -> Result<Option<i64>> {
    let rehashed = |values: &[Value]| -> Result<Option<i64>> {
        let (sql, arguments) = work.on(Side::Subscriber).rehash(values);
        let rows = work.both.subscriber.rows(&sql, arguments)?;
        Ok(rows.first().map(|row| row.get(0)))
    };
    let version = match read {
        Read::Values(texts) => {
            let values: Vec<Value> = texts.into_iter().map(Value::of).collect();
            return rehashed(&values);
        }
        // Another hash is another row.
        Read::Vast(_) if work.table.columns.iter().all(|it| it.plain) => return Ok(None),
        Read::Vast(version) => version,
    };
    let row = RowAt::Version(&version);
    let Some((_, values)) = values(work, &row)? else {
        return Ok(None);
    };
    let large: Vec<usize> = (0..values.len())
        .filter(|at| values[*at].is_large())
        .collect();
    if !carry(work, &row, &version, &large)? {
        return Ok(None);
    }
    let hash = rehashed(&values);
    forget(work, &large)?;
    hash
}

/// The values of the publisher's rows by their hashes, in the hashes' order: as many at a time as take little room.
struct Spelled<'a> {
    work: &'a Work<'a>,
    /// Hashes that were not asked for yet, sorted.
    ahead: VecDeque<i64>,
    /// How many are asked for next.
    next: usize,
    read: HashMap<i64, Read>,
}

impl<'a> Spelled<'a> {
    fn of(work: &'a Work<'a>, sorted: &[Unequal]) -> Spelled<'a> {
        Spelled {
            work,
            ahead: sorted.iter().map(|it| it.hash).collect(),
            next: 1000,
            read: HashMap::new(),
        }
    }

    /// The values of a row of this hash, the hashes being asked for in their order; none when it is gone, or enough rows
    /// of the table are named, `more` of them just now.
    fn values(&mut self, hash: i64, more: u64) -> Result<Option<Read>> {
        if self.work.confirmed.load(Ordering::SeqCst) + more >= ENOUGH {
            return Ok(None);
        }
        while self.ahead.front().is_some_and(|next| *next <= hash) {
            self.read_ahead()?;
        }
        Ok(self.read.remove(&hash))
    }

    /// The next of them, in one pass through the table. Those for which there was no room are asked for again.
    fn read_ahead(&mut self) -> Result<()> {
        let some: Vec<i64> = self.ahead.iter().take(self.next).copied().collect();
        let asked = self.work.on(Side::Publisher).whole(&some, BYTES_AT_ONCE);
        let rows = whole_table(self.work, Side::Publisher, asked)?;
        self.read.clear();
        let mut through = some.len();
        for row in &rows {
            let hash: i64 = row.get(0);
            let read = match row.get(3) {
                Some(values) => Read::Values(values),
                None if row.get(2) => Read::Vast(row.get(1)),
                None => {
                    through = some.partition_point(|it| *it < hash);
                    break;
                }
            };
            self.read.insert(hash, read);
        }
        self.ahead.drain(..through);
        // What has no room is sorted by the server for nothing.
        self.next = (2 * through).min(self.next);
        Ok(())
    }
}

/// Asks in one pass through the table.
fn whole_table(work: &Work<'_>, side: Side, (sql, arguments): Asked) -> Result<Vec<Row>> {
    let pinned = work.pinned(side);
    pinned.wait(&pinned.start(&sql, arguments, Scan::Any)?)
}

/// Rows that occur more often on `side`; the first of the table with their values.
fn named(
    work: &Work<'_>,
    kind: Kind,
    unequal: &[Unequal],
    side: Side,
) -> Result<Vec<RowDifference>> {
    let before = work
        .confirmed
        .fetch_add(unequal.len() as u64, Ordering::SeqCst);
    let first = EXAMPLES.saturating_sub(before) as usize;
    let hashes: Vec<i64> = unequal.iter().take(first).map(|it| it.hash).collect();
    let mut values: HashMap<i64, Vec<Shown>> = match work.values {
        Values::Shown if !hashes.is_empty() => {
            let rows = whole_table(work, side, work.on(side).shown(&hashes))?;
            rows.iter().map(|row| (row.get(0), shown(row))).collect()
        }
        _ => HashMap::new(),
    };
    let mut found = Vec::new();
    for (number, it) in unequal.iter().enumerate() {
        let values = match work.values {
            _ if number >= first => Vec::new(),
            Values::Shown => values.remove(&it.hash).unwrap_or_default(),
            Values::Hidden => vec![Shown::Hidden; work.table.columns.len()],
        };
        found.push(RowDifference {
            columns: columns(work, values, side),
            occurrences: Some((it.publisher, it.subscriber)),
            ..nameless(kind)
        });
    }
    Ok(found)
}

/// The values of a row as the server has cut them.
fn shown(row: &Row) -> Vec<Shown> {
    let values: Vec<Option<Text>> = row.get(1);
    let shown = |value: Option<Text>| value.map_or(Shown::Null(()), |it| Shown::Value(it.shown()));
    values.into_iter().map(shown).collect()
}

fn columns(work: &Work<'_>, values: Vec<Shown>, side: Side) -> Vec<ColumnDifference> {
    let columns = work.table.columns.iter().zip(values);
    let columns = columns.map(|(column, shown)| {
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
    columns.collect()
}
