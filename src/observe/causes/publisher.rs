//! What keeps the sending side, and the way between the two.

use super::super::sample::Sample;
use super::{
    Cause, CauseKind, Evidence, cause, span, waits_for_data, waits_for_wal, waits_to_send,
};
use crate::value::Size;

/// Less lag than this is none.
const NOTHING_BYTES: u64 = 64 << 10;
/// A transaction this old holds the slot back.
const LONG_SECONDS: f64 = 5.0;
/// Decoding that has written this much to disk for one transaction, and goes on.
const HUGE_BYTES: u64 = 16 << 20;
/// Shorter transactions are none to speak of, however much they write.
const OPEN_SECONDS: f64 = 2.0;
/// A walsender says something at least this often while anything happens.
const SILENT_SECONDS: f64 = 15.0;

/// Decoding one transaction: it writes to disk what it may not send yet, or reads on without sending.
pub(super) fn huge_transaction(evidence: &Evidence<'_>) -> Option<Cause> {
    let (from, _) = evidence.sides();
    let spilled = evidence.change(|it| Some(it.slot()?.decoding?.spill_bytes));
    let all_sent = evidence.share_of_walsender(|it| waits_for_wal(&it.waits)) >= 0.8;
    if all_sent {
        return None;
    }
    if let Some((then, now)) = spilled.filter(|(then, now)| now.saturating_sub(*then) >= HUGE_BYTES)
    {
        let whose = open_since(evidence.now()).map_or(String::new(), |it| format!(", by {it}"));
        return cause(
            CauseKind::HugeTransactionDecoded,
            format!(
                "one huge transaction is being decoded on the {from}{whose}: {} of it went to disk within {}, {} since the slot's statistics began",
                Size(now - then).rounded(),
                span(evidence.seconds()),
                Size(now).rounded()
            ),
        );
    }
    // Older servers count nothing: what is sent stands still while the walsender reads on.
    let walsender = evidence.now().walsender()?;
    let (then, sent) = evidence.change(|it| it.walsender()?.sent_lsn)?;
    let behind = evidence.now().lag?.unsent_bytes;
    let spills = |it: &super::Walsender| {
        it.waits.is("ReorderBufferWrite") || it.waits.is("ReorderBufferRead")
    };
    let works = evidence
        .share_of_walsender(|it| !waits_for_wal(&it.waits) && !waits_to_send(&it.waits))
        >= 0.8;
    let stands = then == sent && works && behind > HUGE_BYTES;
    if !(stands || evidence.share_of_walsender(spills) >= 0.5) {
        return None;
    }
    cause(
        CauseKind::HugeTransactionDecoded,
        format!(
            "one huge transaction is being decoded on the {from}: walsender {} is at {sent}, {} before the end of the WAL",
            walsender.pid,
            Size(behind).rounded()
        ),
    )
}

/// Its changes are counted only when it ends: much WAL and no row changed, while apply has nothing to do.
pub(super) fn huge_open_transaction(evidence: &Evidence<'_>) -> Option<Cause> {
    let sample = evidence.now();
    let oldest = sample.publisher.as_ref()?.old_transactions.first()?;
    if oldest.seconds < OPEN_SECONDS || evidence.share_of_apply(waits_for_data) < 0.5 {
        return None;
    }
    let now = evidence.samples.last()?.at;
    let since = evidence
        .samples
        .iter()
        .find(|it| it.at >= now - oldest.seconds)?;
    let (then, now) = (since.sample.publisher.as_ref()?, sample.publisher.as_ref()?);
    let written = now.current_wal_lsn.bytes_since(then.current_wal_lsn);
    let changed = now.rows?.changed().saturating_sub(then.rows?.changed());
    if written < HUGE_BYTES || written / (changed + 1) < HUGE_BYTES / 100 {
        return None;
    }
    let (from, _) = evidence.sides();
    cause(
        CauseKind::HugeTransactionDecoded,
        format!(
            "one huge transaction is being decoded on the {from}, and sent when it ends: {}, {} of WAL within {}",
            open_since(sample)?,
            Size(written).rounded(),
            span(oldest.seconds.min(evidence.seconds()))
        ),
    )
}

fn open_since(sample: &Sample) -> Option<String> {
    let oldest = sample.publisher.as_ref()?.old_transactions.first()?;
    let user = oldest.usename.as_deref().unwrap_or("unknown");
    Some(match (&oldest.gid, oldest.pid) {
        (Some(gid), _) => format!(
            "prepared transaction {gid:?} (user {user}, for {})",
            span(oldest.seconds)
        ),
        (None, pid) => format!(
            "pid {} (user {user}, database {}, {}, open for {})",
            pid.unwrap_or(0),
            oldest.datname.as_deref().unwrap_or("unknown"),
            oldest.state.as_deref().unwrap_or("state unknown"),
            span(oldest.seconds)
        ),
    })
}

/// Nothing that a transaction with an xid may still need is let go of, in whatever database it is.
pub(super) fn long_transaction(evidence: &Evidence<'_>) -> Option<Cause> {
    let sample = evidence.now();
    let oldest = sample.publisher.as_ref()?.old_transactions.first()?;
    let slot = sample.slot()?;
    if oldest.seconds < LONG_SECONDS {
        return None;
    }
    let (from, _) = evidence.sides();
    let kept = slot.retained_wal_bytes.map_or(String::new(), |it| {
        format!(", which keeps {}", Size(it).rounded())
    });
    cause(
        CauseKind::LongTransaction,
        format!(
            "a long transaction on the {from} holds slot {:?} back{kept}: {}",
            slot.slot_name,
            open_since(sample)?
        ),
    )
}

/// The walsender waits to send, and apply to receive; or nothing has come for a while.
pub(super) fn network(evidence: &Evidence<'_>) -> Option<Cause> {
    let sample = evidence.now();
    let apply = evidence.apply()?;
    let lag = sample.lag_bytes?;
    if let Some(silent) = apply.silent_seconds.filter(|it| *it > SILENT_SECONDS)
        && lag > NOTHING_BYTES
        && waits_for_data(apply)
        && evidence.share_of_apply(waits_for_data) >= 0.8
    {
        return cause(
            CauseKind::Network,
            format!(
                "the network: nothing has come from the publisher for {}, and {} wait there",
                span(silent),
                Size(lag).rounded()
            ),
        );
    }
    let full = evidence.share_of_walsender(|it| waits_to_send(&it.waits));
    let hungry = evidence.share_of_apply(waits_for_data);
    let copied = copy_is_hungry(evidence);
    let applied = full >= 0.5 && hungry >= 0.5 && lag > NOTHING_BYTES;
    (applied || copied).then_some(())?;
    let rate = evidence.change(|it| it.slot()?.confirmed_flush_lsn);
    let rate = rate.map_or(String::new(), |(then, now)| {
        let rate = now.bytes_since(then) as f64 / evidence.seconds();
        format!(" ({}/s confirmed)", Size(rate as u64).rounded())
    });
    cause(
        CauseKind::Network,
        format!(
            "the network between the servers is the limit: the publisher waits to send while the subscriber waits for data{rate}"
        ),
    )
}

/// The same of copies: every walsender that sends a table waits, and every worker that takes one does.
fn copy_is_hungry(evidence: &Evidence<'_>) -> bool {
    let hungry = evidence.share(|it| {
        let subscriber = it.subscriber.as_ref()?;
        let copying = subscriber.copies();
        copying.then(|| {
            let mut syncs = subscriber.syncs();
            syncs.all(|it| it.waits.is("LogicalSyncData") || it.waits.is("LibPQWalReceiverReceive"))
        })
    });
    let full = evidence.share(|it| {
        let own = it.slot()?.active_pid;
        let walsenders = &it.publisher.as_ref()?.walsenders;
        let mut others = walsenders
            .iter()
            .filter(|it| Some(it.pid) != own)
            .peekable();
        others.peek()?;
        Some(others.all(|it| waits_to_send(&it.waits)))
    });
    hungry >= 0.5 && full >= 0.5
}

/// Everything is sent, and nothing more is written.
pub(super) fn idle(evidence: &Evidence<'_>) -> Option<Cause> {
    let sample = evidence.now();
    let sent = evidence.share_of_walsender(|it| waits_for_wal(&it.waits)) >= 0.8;
    let applied = evidence.share_of_apply(waits_for_data) >= 0.8;
    let copies = sample.tables.is_some_and(|it| it.ready < it.total);
    if !sent || !applied || copies || sample.lag_bytes? > NOTHING_BYTES {
        return None;
    }
    let (then, now) = evidence.change(|it| Some(it.publisher.as_ref()?.rows?.changed()))?;
    if now > then {
        return None;
    }
    let (from, _) = evidence.sides();
    cause(
        CauseKind::PublisherIdle,
        format!(
            "nothing is slow: the {from} sends nothing, since no row of {:?} has changed there for {}",
            sample.dbname,
            span(evidence.seconds())
        ),
    )
}
