//! What keeps apply at work.

use super::{Cause, CauseKind, Evidence, cause, span, waits_for_data, waits_to_send};
use crate::value::Size;

/// A transaction that has been applied for this long is a huge one.
const HUGE_SECONDS: f64 = 2.0;

/// Apply changes a table in which it finds each row by reading all of it.
pub(super) fn no_usable_index(evidence: &Evidence<'_>) -> Option<Cause> {
    let apply = evidence.apply()?;
    if waits_for_data(apply) || apply.waits.is_for("Lock") {
        return None;
    }
    let unindexed = &evidence.survey.unindexed;
    let changed = |worker: &super::Worker| {
        let mut changes = worker.changes.iter();
        changes.find(|table| unindexed.contains(table)).cloned()
    };
    let table = changed(apply)?;
    // Inserts alone read nothing: a while with one table, and nearly always at work.
    let often = evidence.share(|it| {
        let apply = it.subscriber.as_ref()?.apply()?;
        Some(apply.changes.contains(&table) && !waits_for_data(apply))
    });
    let rows = evidence.change(|it| Some(it.subscriber.as_ref()?.rows?.tup_inserted));
    let inserts = rows.is_some_and(|(then, now)| now > then + 1000);
    (often >= 0.5 && !inserts).then_some(())?;
    let (_, to) = evidence.sides();
    cause(
        CauseKind::NoUsableIndex,
        format!(
            "apply changes {table}, which has REPLICA IDENTITY FULL and no usable index on the {to}: each row is found by reading the whole table"
        ),
    )
}

/// One transaction that has been applied for a while.
pub(super) fn huge_transaction(evidence: &Evidence<'_>) -> Option<Cause> {
    let apply = evidence.apply()?;
    let seconds = apply.xact_seconds.filter(|it| *it >= HUGE_SECONDS)?;
    if waits_for_data(apply) && evidence.share_of_apply(waits_for_data) > 0.8
        || apply.waits.is_for("Lock")
    {
        return None;
    }
    let written = evidence.change(|it| it.subscriber.as_ref()?.wal_insert_lsn);
    let size = written.map_or(String::new(), |(then, now)| {
        let rate = now.bytes_since(then) as f64 / evidence.seconds();
        let so_far = Size((rate * seconds) as u64);
        format!(", about {} of WAL there so far", so_far.rounded())
    });
    let tables = match apply.changes.as_slice() {
        [] => String::new(),
        some => format!(" in {}", some.join(", ")),
    };
    let (_, to) = evidence.sides();
    cause(
        CauseKind::HugeTransactionApplied,
        format!(
            "one huge transaction{tables} has been applied on the {to} for {}{size}",
            span(seconds)
        ),
    )
}

/// Apply is never idle, and nothing else explains the lag.
pub(super) fn busy(evidence: &Evidence<'_>) -> Option<Cause> {
    let grown = evidence.change(|it| it.lag_bytes);
    let behind = grown.is_some_and(|(_, now)| now > 1 << 20);
    let busy = evidence.share_of_apply(|it| !waits_for_data(it)) > 0.8;
    let pushed = evidence.share_of_walsender(|it| waits_to_send(&it.waits)) > 0.5;
    (behind && (busy || pushed)).then_some(())?;
    cause(
        CauseKind::ApplyBusy,
        "apply is at work all the time: one process applies what all sessions of the publisher write".to_owned(),
    )
}
