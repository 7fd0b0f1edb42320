//! The last word on a row that is about to be named: the publisher's values go to the subscriber as text and are read
//! there as replication reads them. That names the columns, and lets go what only spelling differs in.

use std::collections::BTreeMap;

use super::carry::{carry, forget, values};
use super::findings::{ColumnDifference, Kind, RowDifference, Shown, shown_pair, shown_parts};
use super::pinned::Text;
use super::settle::{Values, Work};
use super::statement::{Key, PIECE, RowAt, Value};
use crate::error::{Result, WrapErr};
use crate::server::Side;

/// What has come of it.
pub(super) enum Ruling {
    /// Only spelled in another way.
    Equal,
    Different(RowDifference),
    /// The row is another by now.
    Changed,
}

/// Position of each column that differs, with both values.
type Differing = BTreeMap<usize, (Value, Value)>;

/// The columns of a row, compared on the subscriber.
struct Compared {
    subscriber_version: String,
    differing: Differing,
}

/// Rules on a row whose versions differ on the two sides.
pub(super) fn arbitrate(
    work: &Work<'_>,
    key: &Key,
    publisher: &str,
    subscriber: &str,
) -> Result<Ruling> {
    let row = RowAt::Key(key);
    let Some((version, values)) = values(work, &row)? else {
        return Ok(Ruling::Changed);
    };
    let Some(mut compared) = compare(work, key, &values)? else {
        return Ok(Ruling::Changed);
    };
    if version != publisher || compared.subscriber_version != subscriber {
        return Ok(Ruling::Changed);
    }
    let mut parts = Parts::new();
    let large: Vec<usize> = compared
        .differing
        .iter()
        .filter(|(_, (ours, theirs))| ours.is_large() || theirs.is_large())
        .map(|(at, _)| *at)
        .collect();
    for at in large {
        let pieces = match in_pieces(work, key, at, (publisher, subscriber))? {
            // What is spelled in another way need not be another value.
            Pieces::Different(shown) if values[at].is_large() && !work.table.columns[at].plain => {
                match same_there(work, key, &values[at], (publisher, subscriber), at)? {
                    Some(true) => Pieces::Equal,
                    Some(false) => Pieces::Different(shown),
                    None => Pieces::Changed,
                }
            }
            pieces => pieces,
        };
        match pieces {
            Pieces::Changed => return Ok(Ruling::Changed),
            Pieces::Equal => drop(compared.differing.remove(&at)),
            Pieces::Different(shown) => drop(parts.insert(at, shown)),
        }
    }
    if compared.differing.is_empty() {
        return Ok(Ruling::Equal);
    }
    Ok(Ruling::Different(name(
        work,
        key,
        compared.differing,
        parts,
    )))
}

/// What is shown of large values.
type Parts = BTreeMap<usize, (Shown, Shown)>;

/// What has come of comparing a large value where it is.
enum Pieces {
    Equal,
    Different((Shown, Shown)),
    /// The row is another by now.
    Changed,
}

/// Compares a value that is large on one side at least by the digests of its pieces.
fn in_pieces(work: &Work<'_>, key: &Key, at: usize, versions: (&str, &str)) -> Result<Pieces> {
    type Digests = (String, i64, Vec<String>);
    let column = &work.table.columns[at];
    let digests = |side: Side| -> Result<Option<Digests>> {
        let rows = work
            .rows(side, |on| on.pieces(key, column))
            .wrap_err("compare a large value")?;
        Ok(rows.first().map(|row| (row.get(0), row.get(1), row.get(2))))
    };
    let (Some(ours), Some(theirs)) = (digests(Side::Publisher)?, digests(Side::Subscriber)?) else {
        return Ok(Pieces::Changed);
    };
    if (ours.0.as_str(), theirs.0.as_str()) != versions {
        return Ok(Pieces::Changed);
    }
    if (ours.1, &ours.2) == (theirs.1, &theirs.2) {
        return Ok(Pieces::Equal);
    }
    let null = |bytes: i64| bytes < 0;
    if work.values == Values::Hidden || null(ours.1) || null(theirs.1) {
        let shown = |bytes: i64| match bytes {
            ..0 => Shown::Null(()),
            bytes => Shown::Value(format!("... ({bytes} bytes)")),
        };
        return Ok(Pieces::Different((shown(ours.1), shown(theirs.1))));
    }
    let alike = ours.2.iter().zip(&theirs.2).take_while(|(a, b)| a == b);
    let number = alike.count();
    let piece = |side: Side| -> Result<Vec<u8>> {
        let rows = work
            .rows(side, |on| on.piece(key, column, number))
            .wrap_err("read a piece of a large value")?;
        Ok(rows.first().map_or_else(Vec::new, |row| row.get(0)))
    };
    let (one, other) = (piece(Side::Publisher)?, piece(Side::Subscriber)?);
    Ok(Pieces::Different(shown_parts(
        (&one, ours.1),
        (&other, theirs.1),
        number * PIECE,
    )))
}

/// Whether a large value is the subscriber's, once it is read there; none: the row is another by now.
fn same_there(
    work: &Work<'_>,
    key: &Key,
    value: &Value,
    (publisher, subscriber): (&str, &str),
    at: usize,
) -> Result<Option<bool>> {
    if !carry(work, &RowAt::Key(key), publisher, &[at])? {
        return Ok(None);
    }
    let rows = work
        .rows(Side::Subscriber, |on| on.arbiter_of_large(key, at, value))
        .wrap_err("compare a large value");
    forget(work, &[at])?;
    let rows = rows?;
    let row = rows.first().filter(|it| it.get::<_, &str>(0) == subscriber);
    Ok(row.map(|it| it.get::<_, Option<bool>>(1) == Some(true)))
}

fn compare(work: &Work<'_>, key: &Key, values: &[Value]) -> Result<Option<Compared>> {
    let rows = work
        .rows(Side::Subscriber, |on| on.arbiter(key, values))
        .wrap_err("compare the values of a row")?;
    Ok(rows.first().map(|row| {
        let same: Vec<Option<bool>> = row.get(1);
        let theirs = Value::all(row.get(2), row.get(3));
        let differing = same.into_iter().zip(values.iter().cloned().zip(theirs));
        let differing = differing
            .enumerate()
            .filter(|(_, (same, _))| *same != Some(true))
            .map(|(at, (_, pair))| (at, pair));
        Compared {
            subscriber_version: row.get(0),
            differing: differing.collect(),
        }
    }))
}

fn name(work: &Work<'_>, key: &Key, differing: Differing, mut parts: Parts) -> RowDifference {
    let columns = differing.into_iter().map(|(at, (ours, theirs))| {
        let text = |value: &Value| value.text.as_ref().map(Text::shown);
        let (publisher, subscriber) = match (work.values, parts.remove(&at)) {
            (Values::Hidden, _) => (Shown::Hidden, Shown::Hidden),
            (Values::Shown, Some(shown)) => shown,
            (Values::Shown, None) => shown_pair(text(&ours).as_deref(), text(&theirs).as_deref()),
        };
        ColumnDifference {
            column: work.table.columns[at].name.clone(),
            publisher,
            subscriber,
        }
    });
    RowDifference {
        columns: columns.collect(),
        ..work.named(key, Kind::Different)
    }
}

/// How often a row that never stands still is read.
const TRIES: usize = 5;

/// The columns of a row that changes all the time which stand still on both sides, and differ.
pub(super) fn standing_columns(work: &Work<'_>, key: &Key) -> Result<Option<RowDifference>> {
    let mut standing: Option<Differing> = None;
    for _ in 0..TRIES {
        let Some((_, before)) = values(work, &RowAt::Key(key))? else {
            return Ok(None);
        };
        work.probe
            .pass(&work.both.publisher, &work.both.subscriber)?;
        let Some(compared) = compare(work, key, &before)? else {
            return Ok(None);
        };
        let Some((_, after)) = values(work, &RowAt::Key(key))? else {
            return Ok(None);
        };
        let mut differing = compared.differing;
        // Whether large ones are equal takes longer than such a row stands still.
        differing.retain(|at, pair| {
            !(pair.0.is_large() || pair.1.is_large())
                && before[*at] == after[*at]
                && standing.as_ref().is_none_or(|it| it.get(at) == Some(pair))
        });
        standing = Some(differing);
    }
    let differing = standing.filter(|it| !it.is_empty());
    Ok(differing.map(|differing| name(work, key, differing, Parts::new())))
}
