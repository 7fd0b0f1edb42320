//! The last word on a row that is about to be named: the publisher's values go to the subscriber as text and are read
//! there as replication reads them. That names the columns, and lets go what only spelling differs in.

use std::collections::BTreeMap;

use super::findings::{ColumnDifference, Kind, RowDifference, Shown, shown_pair};
use super::pinned::Text;
use super::settle::{Values, Work};
use super::statement::Key;
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
type Differing = BTreeMap<usize, (Option<Text>, Option<Text>)>;

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
    let Some((version, values)) = values(work, key)? else {
        return Ok(Ruling::Changed);
    };
    let Some(compared) = compare(work, key, &values)? else {
        return Ok(Ruling::Changed);
    };
    if version != publisher || compared.subscriber_version != subscriber {
        return Ok(Ruling::Changed);
    }
    if compared.differing.is_empty() {
        return Ok(Ruling::Equal);
    }
    Ok(Ruling::Different(name(work, key, compared.differing)))
}

/// The publisher's version and values of a row.
fn values(work: &Work<'_>, key: &Key) -> Result<Option<(String, Vec<Option<Text>>)>> {
    let rows = work
        .rows(Side::Publisher, |on| on.values(key))
        .wrap_err("read the values of a row")?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1))))
}

fn compare(work: &Work<'_>, key: &Key, values: &[Option<Text>]) -> Result<Option<Compared>> {
    let rows = work
        .rows(Side::Subscriber, |on| on.arbiter(key, values))
        .wrap_err("compare the values of a row")?;
    Ok(rows.first().map(|row| {
        let same: Vec<Option<bool>> = row.get(1);
        let theirs: Vec<Option<Text>> = row.get(2);
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

fn name(work: &Work<'_>, key: &Key, differing: Differing) -> RowDifference {
    let columns = differing.into_iter().map(|(at, (ours, theirs))| {
        let text = |value: &Option<Text>| value.as_ref().map(Text::shown);
        let (publisher, subscriber) = match work.values {
            Values::Shown => shown_pair(text(&ours).as_deref(), text(&theirs).as_deref()),
            Values::Hidden => (Shown::Hidden, Shown::Hidden),
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
        let Some((_, before)) = values(work, key)? else {
            return Ok(None);
        };
        work.probe
            .pass(&work.both.publisher, &work.both.subscriber)?;
        let Some(compared) = compare(work, key, &before)? else {
            return Ok(None);
        };
        let Some((_, after)) = values(work, key)? else {
            return Ok(None);
        };
        let mut differing = compared.differing;
        differing.retain(|at, pair| {
            before[*at] == after[*at] && standing.as_ref().is_none_or(|it| it.get(at) == Some(pair))
        });
        standing = Some(differing);
    }
    let differing = standing.filter(|it| !it.is_empty());
    Ok(differing.map(|differing| name(work, key, differing)))
}
