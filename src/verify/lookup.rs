//! Tables whose key has another order on each side: the publisher's keys are looked up on the subscriber, then the
//! subscriber's on the publisher.

use std::collections::HashMap;

use super::pinned::Scan;
use super::ranges::{Outcome, hashed, key_of, walk};
use super::settle::{Work, cannot_be_spelled, settle};
use super::statement::{Key, Range};
use crate::error::{Result, WrapErr};
use crate::server::Side;

/// How many keys a statement looks up.
const AT_ONCE: usize = 5000;

/// Compares the whole table.
pub(super) fn compare(work: &Work<'_>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let what = || format!("compare {} by looking its keys up", work.table.name.plain());
    walk(work, Side::Publisher, &Range::default(), |part| {
        let (sql, arguments) = work.on(Side::Publisher).rows(part, None);
        let pinned = work.pinned(Side::Publisher);
        let rows = pinned.wait(&pinned.start(&sql, arguments, Scan::Index)?)?;
        outcome.rows += rows.len() as i64;
        let mut ours: Vec<(Key, i64)> = rows.iter().map(hashed).collect();
        drop(rows);
        while !ours.is_empty() {
            let some = ours.split_off(ours.len().saturating_sub(AT_ONCE));
            outcome.found.merge(settle(work, unlike(work, some)?)?);
        }
        Ok(true)
    })
    .wrap_err_with(what)?;
    walk(work, Side::Subscriber, &Range::default(), |part| {
        let keys: Vec<Key> = work
            .rows(Side::Subscriber, |on| on.keys(part))?
            .iter()
            .map(key_of)
            .collect();
        for some in keys.chunks(AT_ONCE) {
            let candidates = match work.rows(Side::Publisher, |on| on.missing(some)) {
                Err(report) if cannot_be_spelled(&report) => some.to_vec(),
                missing => missing?
                    .iter()
                    .filter_map(|row| some.get(row.get::<_, i64>(0) as usize - 1).cloned())
                    .collect(),
            };
            outcome.found.merge(settle(work, candidates)?);
        }
        Ok(true)
    })
    .wrap_err_with(what)?;
    Ok(outcome)
}

/// Those of the publisher's rows that the subscriber has with another hash, or not at all.
fn unlike(work: &Work<'_>, ours: Vec<(Key, i64)>) -> Result<Vec<Key>> {
    let (keys, hashes): (Vec<Key>, Vec<i64>) = ours.into_iter().unzip();
    let rows = work.rows(Side::Subscriber, |on| on.hashes(&keys))?;
    let theirs: HashMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let unlike = keys
        .into_iter()
        .zip(hashes)
        .enumerate()
        .filter(|(at, (_, hash))| theirs.get(&(*at as i64 + 1)) != Some(hash))
        .map(|(_, (key, _))| key);
    Ok(unlike.collect())
}
