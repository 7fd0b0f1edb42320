//! What keeps the initial copy, and the subscriber's disk.

use super::{Cause, CauseKind, Evidence, cause};

/// Tables wait, and no worker is free to take one.
pub(super) fn waits_for_workers(evidence: &Evidence<'_>) -> Option<Cause> {
    let subscriber = evidence.subscriber()?;
    let waiting = *subscriber.table_states.get("i").filter(|it| **it > 0)?;
    let (_, to) = evidence.sides();
    let slots = subscriber.worker_slots;
    let busy = subscriber.syncs().count() as u64;
    let tables = match waiting {
        1 => "1 table waits".to_owned(),
        many => format!("{many} tables wait"),
    };
    let here = subscriber.workers.len() as u64;
    let others = slots.running.saturating_sub(here);
    let message = if busy >= slots.max_sync_workers_per_subscription {
        format!(
            "{tables} for a sync worker: {busy} copy at once, as max_sync_workers_per_subscription = {} of the {to} allows",
            slots.max_sync_workers_per_subscription
        )
    } else if slots.running >= slots.max_logical_replication_workers {
        format!(
            "{tables} for a sync worker: all {} of the {to}'s max_logical_replication_workers are taken, {others} of them by other subscriptions",
            slots.max_logical_replication_workers
        )
    } else if busy == 0
        && evidence.share(|it| Some(!it.subscriber.as_ref()?.copies())) >= 1.0
        && subscriber.apply().is_some()
    {
        format!(
            "{tables} and no sync worker runs: none of the {to}'s max_worker_processes = {} is free, or each ends at once (its log says why)",
            slots.max_worker_processes
        )
    } else {
        return None;
    };
    cause(CauseKind::CopyWaitsForWorkers, message)
}

/// Workers wait for the disk most of the time.
pub(super) fn disk(evidence: &Evidence<'_>) -> Option<Cause> {
    let on_disk = |worker: &super::Worker| {
        worker.waits.is_for("IO") && !worker.waits.is("CopyFileRead")
            || worker.waits.is("WALWrite")
            || worker.waits.is("WALWriteLock")
    };
    let share = evidence.share(|it| {
        let workers = &it.subscriber.as_ref()?.workers;
        (!workers.is_empty()).then(|| workers.iter().any(on_disk))
    });
    if share < 0.5 {
        return None;
    }
    let mut events: Vec<&str> = evidence
        .samples
        .iter()
        .flat_map(|it| it.sample.subscriber.iter().flat_map(|it| &it.workers))
        .filter(|worker| on_disk(worker))
        .filter_map(|worker| worker.waits.wait_event.as_deref())
        .collect();
    events.sort_unstable();
    events.dedup();
    let (_, to) = evidence.sides();
    cause(
        CauseKind::SubscriberDisk,
        format!(
            "the disk of the {to} is the limit: its workers waited for it in {:.0} % of the last looks ({})",
            share * 100.0,
            events.join(", ")
        ),
    )
}
