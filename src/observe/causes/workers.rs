//! What stops a worker of the subscription: it ends again and again, or waits for a lock.

use std::collections::{BTreeMap, BTreeSet};

use super::super::sample::{Sample, SubscriberSample, Worker};
use super::super::window::Timed;
use super::{Cause, CauseKind, Evidence, cause, span};
use crate::server::Side;

/// A worker that ended and was started anew, seen in all samples that are kept since both servers answer: it ends with either
/// of them.
pub(super) fn restarts(samples: &[Timed]) -> Option<Cause> {
    let silent = |it: &Timed| it.sample.publisher.is_none() || it.sample.subscriber.is_none();
    let since = samples.iter().rposition(silent).map_or(0, |at| at + 1);
    let samples = &samples[since..];
    let (first, now) = (samples.first()?, samples.last()?);
    if has_all(&now.sample) {
        return None;
    }
    let enabled = |it: &Sample| {
        let subscription = it.subscriber.as_ref()?.subscription.as_ref()?;
        Some(subscription.subenabled)
    };
    if enabled(&now.sample) != Some(true) {
        return None;
    }
    // Each process that did the same work, the apply worker under no name.
    let mut workers: BTreeMap<Option<&str>, BTreeSet<i32>> = BTreeMap::new();
    let mut missing = 0;
    for Timed { sample, .. } in samples {
        let Some(subscriber) = sample.subscriber.as_ref() else {
            continue;
        };
        missing += usize::from(subscriber.apply().is_none() && enabled(sample) == Some(true));
        let all = subscriber
            .workers
            .iter()
            .filter(|it| it.leader_pid.is_none());
        for worker in all {
            let pids = workers.entry(worker.table.as_deref()).or_default();
            pids.insert(worker.pid);
        }
    }
    let errors = |it: &Sample| {
        let errors = it.subscriber.as_ref()?.errors.as_ref()?;
        Some(errors.apply_error_count + errors.sync_error_count)
    };
    let failed = errors(&now.sample)
        .zip(errors(&first.sample))
        .map_or(0, |(now, then)| now.saturating_sub(then));
    let again = workers
        .iter()
        .filter(|(_, pids)| pids.len() > 1)
        .max_by_key(|(_, pids)| pids.len());
    let seconds = span(now.at - first.at);
    let subname = &now.sample.subname;
    let counted = if failed > 0 {
        format!(", errors: {failed}")
    } else {
        String::new()
    };
    let message = match again {
        Some((None, pids)) => format!(
            "the apply worker of {subname:?} ended and was started again {} within {seconds}{counted}",
            times(pids.len() as u64 - 1)
        ),
        Some((Some(table), pids)) => format!(
            "the copy of {table} ended and was started again {} within {seconds}{counted}",
            times(pids.len() as u64 - 1)
        ),
        None if failed > 0 => {
            format!(
                "the workers of {subname:?} failed {} within {seconds}",
                times(failed)
            )
        }
        None if missing > 1 && missing == samples.len() => {
            format!("no apply worker of {subname:?} has run for {seconds} though it is enabled")
        }
        None => return None,
    };
    cause(CauseKind::WorkerRestarts, message)
}

/// Whether everything that was sent is applied and every table is copied: what has ended a worker is over.
fn has_all(sample: &Sample) -> bool {
    let runs = |it: &SubscriberSample| it.apply().is_some() && it.unready.is_empty();
    sample.lag_bytes == Some(0) && sample.subscriber.as_ref().is_some_and(runs)
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        many => format!("{many} times"),
    }
}

/// A worker that waits for a lock, now and a sample ago.
pub(super) fn waits_for_lock(evidence: &Evidence<'_>) -> Option<Cause> {
    let waits = |worker: &&Worker| worker.waits.is_for("Lock");
    let before = &evidence.samples[evidence.samples.len() - 2].sample;
    let waited = |worker: &&Worker| {
        let workers = before.subscriber.iter().flat_map(|it| &it.workers);
        workers
            .clone()
            .any(|it| it.pid == worker.pid && it.waits.is_for("Lock"))
    };
    let worker = evidence
        .subscriber()?
        .workers
        .iter()
        .filter(waits)
        .find(waited)?;
    let (_, to) = evidence.sides();
    cause(CauseKind::WaitsForLock, lock_in_words(worker, to))
}

/// Which lock a worker waits for, and who holds it.
pub(in crate::observe) fn lock_in_words(worker: &Worker, to: Side) -> String {
    let who = match (&worker.table, worker.leader_pid) {
        (Some(table), _) => format!("the copy of {table}"),
        (None, _) => "apply".to_owned(),
    };
    let what = match (&worker.locked_table, &worker.waits.wait_event) {
        (Some(table), Some(event)) if event == "transactionid" || event == "tuple" => {
            format!("a row of {table}")
        }
        (Some(table), _) => format!("a lock on {table}"),
        (None, Some(event)) if event == "transactionid" => {
            "a row that another transaction has changed".to_owned()
        }
        (None, _) => "a lock".to_owned(),
    };
    let whose = worker.blockers.iter().map(|it| {
        let state = it.state.as_deref().unwrap_or("state unknown");
        let age = it
            .seconds
            .map_or(String::new(), |it| format!(" for {}", span(it)));
        match (it.pid, &it.usename) {
            (0, _) => "a prepared transaction".to_owned(),
            (pid, Some(user)) => format!("pid {pid} (user {user}, {state}{age})"),
            (pid, None) => format!("pid {pid}"),
        }
    });
    let whose: Vec<String> = whose.collect();
    let whose = if whose.is_empty() {
        "somebody".to_owned()
    } else {
        whose.join(", ")
    };
    format!("{who} waits for {what}, held on the {to} by {whose}")
}
