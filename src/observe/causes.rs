//! Why replication is slow, or stands: judged by the last samples alone. Pure.
//!
//! Each cause is one sentence that names its object. What a process waits for is seen only at the moment of a sample,
//! so what is said of waiting rests on most of the samples of the last seconds.

mod apply;
mod copy;
mod publisher;
mod workers;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub(super) use self::workers::lock_in_words;

use super::sample::{Sample, SubscriberSample, Survey, Waits, Walsender, Worker};
use super::side_session::sides;
use super::window::{Timed, last};
use crate::server::Side;

/// What is judged lies in this many seconds.
const SECONDS: f64 = 8.0;
/// A worker that fails is started again each `wal_retrieve_retry_interval`, 5 s unless it was set.
const RESTART_SECONDS: f64 = 20.0;

/// A reason for slowness, with its object's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cause {
    /// Which.
    pub cause: CauseKind,
    /// The sentence.
    pub message: String,
}

/// Reasons for slowness; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CauseKind {
    /// A worker ends and is started again and again.
    WorkerRestarts,
    /// Apply, or a copy, waits for a lock.
    WaitsForLock,
    /// A table is changed whose rows apply finds only by reading all of it.
    NoUsableIndex,
    /// One huge transaction is being decoded.
    HugeTransactionDecoded,
    /// One huge transaction is being applied.
    HugeTransactionApplied,
    /// A long transaction on the publisher holds the slot back.
    LongTransaction,
    /// Tables wait for a sync worker.
    CopyWaitsForWorkers,
    /// The subscriber's disk is the limit.
    SubscriberDisk,
    /// The network is the limit, or gone.
    Network,
    /// Nothing is sent, since nothing is written.
    PublisherIdle,
    /// Apply is at work all the time.
    ApplyBusy,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What the causes are judged by: the last samples of one subscription, the newest last.
pub(super) struct Evidence<'s> {
    samples: &'s [Timed],
    survey: &'s Survey,
}

impl<'s> Evidence<'s> {
    fn now(&self) -> &'s Sample {
        &self.samples[self.samples.len() - 1].sample
    }

    fn subscriber(&self) -> Option<&'s SubscriberSample> {
        self.now().subscriber.as_ref()
    }

    fn apply(&self) -> Option<&'s Worker> {
        self.subscriber()?.apply()
    }

    /// How the two servers are called in the configuration.
    fn sides(&self) -> (Side, Side) {
        sides(self.now().direction)
    }

    /// The share of samples in which this was so, of those in which it could be seen.
    fn share(&self, holds: impl Fn(&Sample) -> Option<bool>) -> f64 {
        let seen: Vec<bool> = self
            .samples
            .iter()
            .filter_map(|it| holds(&it.sample))
            .collect();
        match seen.len() {
            0 | 1 => 0.0,
            all => seen.iter().filter(|it| **it).count() as f64 / all as f64,
        }
    }

    fn share_of_walsender(&self, holds: impl Fn(&Walsender) -> bool) -> f64 {
        self.share(|it| it.walsender().map(&holds))
    }

    fn share_of_apply(&self, holds: impl Fn(&Worker) -> bool) -> f64 {
        self.share(|it| Some(holds(it.subscriber.as_ref()?.apply()?)))
    }

    /// A figure of the first sample that has it, and of the last one.
    fn change<T>(&self, figure: impl Fn(&'s Sample) -> Option<T>) -> Option<(T, T)> {
        let mut known = self.samples.iter().filter_map(|it| figure(&it.sample));
        let first = known.next()?;
        Some((first, known.next_back()?))
    }

    fn seconds(&self) -> f64 {
        self.samples[self.samples.len() - 1].at - self.samples[0].at
    }
}

/// The causes at the last of these samples. A single one says nothing of movement, and so nothing of causes.
pub(super) fn causes(samples: &[Timed], survey: &Survey) -> Vec<Cause> {
    let restarts = workers::restarts(last(samples, RESTART_SECONDS));
    let samples = last(samples, SECONDS);
    if samples.len() < 2 {
        return Vec::new();
    }
    let evidence = Evidence { samples, survey };
    let found = [
        restarts,
        workers::waits_for_lock(&evidence),
        apply::no_usable_index(&evidence),
        publisher::huge_transaction(&evidence)
            .or_else(|| publisher::huge_open_transaction(&evidence)),
        apply::huge_transaction(&evidence),
        publisher::long_transaction(&evidence),
        copy::waits_for_workers(&evidence),
        copy::disk(&evidence),
        publisher::network(&evidence),
    ];
    let mut causes: Vec<Cause> = found.into_iter().flatten().collect();
    let now = evidence.now();
    if causes.is_empty() && now.publisher.is_some() && now.subscriber.is_some() {
        causes.extend(publisher::idle(&evidence).or_else(|| apply::busy(&evidence)));
    }
    causes
}

fn cause(cause: CauseKind, message: String) -> Option<Cause> {
    Some(Cause { cause, message })
}

/// Whether apply waits for the next message: it has nothing to do.
fn waits_for_data(worker: &Worker) -> bool {
    worker.waits.is("LogicalApplyMain") || worker.waits.is("LogicalParallelApplyMain")
}

/// Whether a walsender waits for the next WAL record: it has sent everything.
fn waits_for_wal(waits: &Waits) -> bool {
    waits.is("WalSenderWaitForWAL") || waits.is("WalSenderMain")
}

/// Whether a walsender waits until the other end takes what it sends.
fn waits_to_send(waits: &Waits) -> bool {
    waits.is("WalSenderWriteData") || waits.is("ClientWrite")
}

/// A duration for a person: `42 s`, `7 min`, `3.5 h`.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}
