//! Tables whose keys are random: one pass in the order of the disk, in buckets of the key's hash, then the rows of those
//! that differ.

use std::collections::HashMap;

use postgres::Row;

use super::pinned::Scan;
use super::ranges::{Outcome, candidates, differing_buckets, hashed};
use super::settle::{Work, settle};
use super::statement::{Key, Range};
use crate::error::{Result, WrapErr};

/// Rows of a bucket, about.
const PER_BUCKET: f64 = 2000.0;

/// How many buckets a table of so many rows is divided into: a power of two.
pub(super) fn buckets_for(rows: f64) -> i64 {
    let wanted = (rows / PER_BUCKET).clamp(4096.0, 65_536.0);
    (wanted as u64).next_power_of_two() as i64
}

/// The rows of all buckets.
pub(super) fn counted(sums: &[Row]) -> i64 {
    sums.iter().map(|row| row.get::<_, i64>(1)).sum()
}

/// How many buckets are listed at once, so that they hold two chunks at most on the side that has more rows.
pub(super) fn at_once(chunk: usize, rows: i64, buckets: i64) -> usize {
    let per_bucket = (rows / buckets).max(1) as usize;
    (2 * chunk / per_bucket).max(1)
}

/// Compares the whole table.
pub(super) fn compare(work: &Work<'_>) -> Result<Outcome> {
    let buckets = buckets_for(work.table.reltuples);
    let whole = Range::default();
    let (ours, theirs) = work
        .ask(|on| on.sums_by_key(&whole, buckets), Scan::Any)
        .wrap_err_with(|| format!("compare {}", work.table.name.plain()))?;
    let (rows, theirs_in_all) = (counted(&ours), counted(&theirs));
    let mut outcome = Outcome {
        rows,
        ..Outcome::default()
    };
    let differing = differing_buckets(&ours, &theirs);
    drop((ours, theirs));
    for some in differing.chunks(at_once(work.table.chunk, rows.max(theirs_in_all), buckets)) {
        let (ours, theirs) = work.ask(|on| on.rows(&whole, Some((buckets, some))), Scan::Any)?;
        let ours: HashMap<Key, i64> = ours.iter().map(hashed).collect();
        let theirs: HashMap<Key, i64> = theirs.iter().map(hashed).collect();
        outcome.found.merge(settle(work, candidates(ours, theirs))?);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_with_the_table() {
        assert_eq!(buckets_for(-1.0), 4096);
        assert_eq!(buckets_for(20e6), 16_384);
        assert_eq!(buckets_for(1e12), 65_536);
    }
}
