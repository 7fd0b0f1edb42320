//! What a sample means: pure.

use std::fmt;

use serde::Serialize;

use super::age::seconds_in_words;
use super::causes::span;
use super::sample::{Sample, SubscriberSample};
use super::side_session::sides;
use super::suspects::{Suspect, SuspectKind, in_words};
use crate::config::{Lag, Thresholds};
use crate::journal::Direction;
use crate::value::{ShellWord, Size, counted};

/// How a subscription fares, as Nagios counts it; the worse the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LagStatus {
    /// All is well.
    Ok,
    /// Behind by more than is worth a warning.
    Warning,
    /// A server could not be asked.
    Unknown,
    /// Behind by more than is critical, or it will not catch up by itself.
    Critical,
}

impl fmt::Display for LagStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LagStatus::Ok => "OK",
            LagStatus::Warning => "WARNING",
            LagStatus::Critical => "CRITICAL",
            LagStatus::Unknown => "UNKNOWN",
        })
    }
}

/// The status of what was seen, and why, with the figures; `trouble` is what went wrong between several looks.
pub(super) fn judge(sample: &Sample, trouble: Option<&str>, limits: &Lag) -> (LagStatus, String) {
    let (status, mut words) = found(sample, trouble, limits);
    words.push(figures(sample));
    (status, words.join("; "))
}

/// The same without the figures: nothing where all is well.
pub(super) fn found(
    sample: &Sample,
    trouble: Option<&str>,
    limits: &Lag,
) -> (LagStatus, Vec<String>) {
    let mut findings = unreachable(sample);
    // What the other side says is no verdict then: a slot is not in use because its subscriber is down.
    if findings.is_empty() {
        findings.extend(broken(sample, trouble));
        findings.extend(locked(sample));
        findings.extend(uncopied(sample));
        findings.extend(too_much(sample, limits));
    }
    let status = findings.iter().map(|(status, _)| *status).max();
    let words = findings.into_iter().map(|(_, words)| words).collect();
    (status.unwrap_or(LagStatus::Ok), words)
}

type Finding = (LagStatus, String);

fn unreachable(sample: &Sample) -> Vec<Finding> {
    let (from, to) = sides(sample.direction);
    let sides = [
        (from, &sample.publisher_error),
        (to, &sample.subscriber_error),
    ];
    let silent = sides.into_iter().filter_map(|(side, error)| {
        let why = error.as_ref()?;
        Some((LagStatus::Unknown, why.of(side)))
    });
    silent.collect()
}

/// Why it will not catch up by itself; the first reason is the cause of the others.
fn broken(sample: &Sample, trouble: Option<&str>) -> Option<Finding> {
    let Sample {
        subname, dbname, ..
    } = sample;
    let (from, to) = sides(sample.direction);
    let anew = match sample.direction {
        Direction::Forward => format!(
            "start over with flare drop_subscription {}",
            ShellWord(subname)
        ),
        Direction::Back => "nothing leads back any more: see flare cleanup".to_owned(),
    };
    let subscriber = sample.subscriber.as_ref()?;
    let slot = sample.slot();
    let critical = |words: String| Some((LagStatus::Critical, words));
    let Some(subscription) = &subscriber.subscription else {
        if subscriber.copy_on_record {
            return Some((
                LagStatus::Warning,
                format!(
                    "there is no subscription {subname:?} in database {dbname:?} of the {to} yet: its copy is under way or was interrupted, flare status says how far it is"
                ),
            ));
        }
        return critical(match slot {
            Some(_) => format!(
                "there is no subscription {subname:?} in database {dbname:?} of the {to}, but its slot keeps WAL on the {from}"
            ),
            None => {
                format!("there is no subscription {subname:?} in database {dbname:?} of the {to}")
            }
        });
    };
    let Some(slot_name) = &subscription.subslotname else {
        return critical("the subscription has no slot (slot_name = NONE)".to_owned());
    };
    if let (None, Some(third)) = (slot, &sample.follows) {
        return critical(format!(
            "it follows {third}, and not the {from}, which has no slot {slot_name:?}: it is another migration's; name this migration's subscription otherwise in the configuration"
        ));
    }
    let Some(slot) = slot else {
        return critical(format!(
            "slot {slot_name:?} is missing on the {from}, and what it had not sent is unknown; {anew}"
        ));
    };
    if slot.is_lost() {
        let why = match &slot.invalidation_reason {
            Some(reason) => format!(" ({reason})"),
            None => String::new(),
        };
        return critical(format!(
            "slot {slot_name:?} is lost{why}: the {from} no longer has the WAL it needs; {anew}"
        ));
    }
    if !subscription.subenabled {
        return critical("the subscription is disabled".to_owned());
    }
    if subscriber.apply_pid().is_none() {
        return critical(format!(
            "no apply worker runs{}: {}",
            errors(subscriber),
            reason(sample)
        ));
    }
    if !slot.active {
        return critical(format!(
            "slot {slot_name:?} is not in use though an apply worker runs{}: it is starting, blocked, or connected to another server; {}",
            errors(subscriber),
            reason(sample)
        ));
    }
    if let Some(trouble) = trouble {
        return critical(format!("{trouble}: {}", reason(sample)));
    }
    match slot.wal_status.as_deref() {
        Some("unreserved") => critical(format!(
            "slot {slot_name:?} is about to be lost: it needs more WAL than max_slot_wal_keep_size keeps"
        )),
        _ => None,
    }
}

/// Why the workers end, as far as the catalogs show it.
fn reason(sample: &Sample) -> String {
    why(sample, &sample.suspects)
}

fn why(sample: &Sample, suspects: &[Suspect]) -> String {
    in_words(suspects).unwrap_or_else(|| {
        let (_, to) = sides(sample.direction);
        format!("the reason is in the {to}'s log")
    })
}

/// Whether its workers end and nothing explains it yet.
pub(super) fn is_unexplained(sample: &Sample, trouble: Option<&str>) -> bool {
    let words = broken(sample, trouble).into_iter().chain(uncopied(sample));
    let reason = reason(sample);
    sample.suspects.is_empty()
        && sample.publisher.is_some()
        && words.map(|(_, words)| words).any(|it| it.contains(&reason))
}

fn errors(subscriber: &SubscriberSample) -> String {
    match &subscriber.errors {
        Some(errors) if errors.apply_error_count > 0 => {
            format!(" ({} apply errors so far)", errors.apply_error_count)
        }
        _ => String::new(),
    }
}

/// A worker that waits for a lock is told; how far that has taken it is judged by the limits of the lag.
fn locked(sample: &Sample) -> Option<Finding> {
    let mut suspects = sample.suspects.iter();
    let lock = suspects.find(|it| it.suspect == SuspectKind::Lock)?;
    Some((LagStatus::Ok, lock.message.clone()))
}

/// Tables that wait to be copied by nobody. One whose copy has ended (`f`) waits for nothing but its own worker: where that
/// finds its slot no more, it never will.
fn uncopied(sample: &Sample) -> Option<Finding> {
    let subscriber = sample.subscriber.as_ref()?;
    let waiting = subscriber
        .unready
        .iter()
        .find(|table| matches!(table.srsubstate.as_str(), "i" | "d" | "f"))?;
    let idle = subscriber.apply_pid().is_some() && !subscriber.copies();
    let for_ever = |it: &Suspect| it.suspect == SuspectKind::CopySlot;
    let status = if sample.suspects.iter().any(for_ever) {
        LagStatus::Critical
    } else {
        LagStatus::Warning
    };
    idle.then(|| {
        let table = &waiting.table;
        let suspects = sample.suspects.iter().filter(|it| it.may_concern(table));
        let suspects: Vec<Suspect> = suspects.cloned().collect();
        let words = format!(
            "nobody copies {table}, which is not ready: {}",
            why(sample, &suspects)
        );
        (status, words)
    })
}

fn too_much(sample: &Sample, limits: &Lag) -> Option<Finding> {
    let above = |limits: &Thresholds, word: &str| {
        let mut words = Vec::new();
        if sample.lag_bytes.is_some_and(|bytes| bytes > limits.bytes.0) {
            words.push(format!("the lag is above {} ({word})", limits.bytes));
        }
        if sample
            .lag_seconds
            .is_some_and(|seconds| seconds > limits.seconds)
        {
            words.push(format!("the lag is above {} s ({word})", limits.seconds));
        }
        if sample
            .retained_wal_bytes
            .is_some_and(|bytes| bytes > limits.retained_wal.0)
        {
            words.push(format!(
                "the slot retains more than {} of WAL ({word})",
                limits.retained_wal
            ));
        }
        let hours = sample.retention.and_then(|it| it.hours_left);
        if let Some(hours) = hours.filter(|hours| *hours < limits.hours_left) {
            words.push(format!(
                "{} are left until the WAL that the slot retains reaches its limit ({word})",
                span(hours * 3600.0)
            ));
        }
        words.join(", ")
    };
    let critical = above(&limits.critical, "critical");
    let warning = above(&limits.warning, "warning");
    match (critical.is_empty(), warning.is_empty()) {
        (false, _) => Some((LagStatus::Critical, critical)),
        (true, false) => Some((LagStatus::Warning, warning)),
        (true, true) => None,
    }
}

/// What was measured, in words.
fn figures(sample: &Sample) -> String {
    let bytes = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), |it| Size(it).to_string());
    let seconds = seconds_in_words(sample.lag_seconds, sample.lag_seconds_at_most);
    let tables = match sample.tables {
        Some(tables) => format!(
            "{} of {} ready",
            tables.ready,
            counted(tables.total, "table")
        ),
        None => "tables unknown".to_owned(),
    };
    format!(
        "lag {}, {seconds}; slot retains {}; {tables}",
        bytes(sample.lag_bytes),
        bytes(sample.retained_wal_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::super::age::Age;
    use super::super::sample::tests::sample;
    use super::*;
    use crate::observe::Unanswered;

    fn seen(change: impl FnOnce(&mut Sample)) -> Sample {
        let mut sample = sample();
        sample.with_age(Some(Age::exactly(0.2)));
        if let Some(subscriber) = &mut sample.subscriber {
            subscriber.unready.clear();
        }
        change(&mut sample);
        sample
    }

    fn verdict(change: impl FnOnce(&mut Sample)) -> (LagStatus, String) {
        judge(&seen(change), None, &Lag::default())
    }

    fn subscriber(sample: &mut Sample) -> &mut SubscriberSample {
        sample.subscriber.as_mut().unwrap()
    }

    fn slots(sample: &mut Sample) -> &mut Vec<super::super::sample::Slot> {
        &mut sample.publisher.as_mut().unwrap().slots
    }

    fn is(status: LagStatus, words: &str, change: impl FnOnce(&mut Sample)) {
        let (found, message) = verdict(change);
        assert_eq!(found, status, "{message}");
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn every_state_has_its_status_and_its_words() {
        use LagStatus::{Critical, Ok, Unknown, Warning};
        is(
            Ok,
            "lag 256 B, 0.2 s; slot retains 16 MB; 2 of 3 tables",
            |_| (),
        );
        is(Unknown, "the subscriber does not answer: refused", |it| {
            it.subscriber = None;
            it.subscriber_error = Some(Unanswered::silent("refused"));
            it.lag_bytes = Some(1 << 40);
        });
        is(
            Unknown,
            "the publisher answers with a refusal: FATAL: no such database (correct its name)",
            |it| {
                it.publisher = None;
                it.publisher_error = Some(Unanswered {
                    refused: true,
                    hint: Some("correct its name".into()),
                    ..Unanswered::silent("FATAL: no such database")
                });
            },
        );
        is(Critical, "but its slot keeps WAL", |it| {
            subscriber(it).subscription = None
        });
        is(Warning, "its copy is under way or was interrupted", |it| {
            subscriber(it).subscription = None;
            subscriber(it).copy_on_record = true;
        });
        is(Critical, "is disabled", |it| {
            subscriber(it).subscription.as_mut().unwrap().subenabled = false
        });
        is(Critical, "slot_name = NONE", |it| {
            subscriber(it).subscription.as_mut().unwrap().subslotname = None
        });
        is(Critical, "is missing", |it| slots(it).clear());
        is(Critical, "it follows third:5433, and not", |it| {
            slots(it).clear();
            it.follows = Some("third:5433".into());
        });
        is(Critical, "is lost", |it| {
            slots(it)[1].wal_status = Some("lost".into())
        });
        is(Critical, "about to be lost", |it| {
            slots(it)[1].wal_status = Some("unreserved".into())
        });
        is(Critical, "no apply worker", |it| {
            subscriber(it).workers.clear()
        });
        is(Critical, "not in use", |it| slots(it)[1].active = false);
        is(Warning, "nobody copies public.big", |it| {
            subscriber(it).unready = sample().subscriber.unwrap().unready
        });
        is(Warning, "nobody copies public.big", |it| {
            subscriber(it).unready = sample().subscriber.unwrap().unready;
            subscriber(it).unready[0].srsubstate = "f".into();
        });
        is(Critical, "looks for its slot", |it| {
            subscriber(it).unready = sample().subscriber.unwrap().unready;
            it.suspects = vec![Suspect {
                suspect: SuspectKind::CopySlot,
                message: "public.big looks for its slot".into(),
                statement: None,
                table: None,
            }];
        });
        is(
            Warning,
            "nobody copies public.\"Big\", which is not ready: public.\"Big\" has no",
            |it| {
                subscriber(it).unready = sample().subscriber.unwrap().unready;
                subscriber(it).unready[0].table = "public.\"Big\"".into();
                it.suspects = ["public.small", "public.\"Big\""]
                    .map(|table| Suspect {
                        suspect: SuspectKind::RequiredColumn,
                        message: format!("{table} has no column"),
                        statement: None,
                        table: Some(table.parse().unwrap()),
                    })
                    .into();
            },
        );
        is(Warning, "above 30 s (warning)", |it| {
            it.lag_seconds = Some(31.0)
        });
        is(Critical, "above 300 s (critical)", |it| {
            it.lag_seconds = Some(301.0)
        });
        is(Warning, "above 64 MB (warning)", |it| {
            it.lag_bytes = Some((64 << 20) + 1)
        });
        is(Ok, "", |it| it.lag_bytes = Some(64 << 20));
        is(Critical, "retains more than 50 GB", |it| {
            it.retained_wal_bytes = Some(51 << 30)
        });
    }

    #[test]
    fn what_the_second_look_found_is_critical() {
        let (status, message) = judge(&seen(|_| ()), Some("applying fails"), &Lag::default());
        assert_eq!(
            (status, message.contains("applying fails")),
            (LagStatus::Critical, true)
        );
    }
}
