//! The initial copy as the subscriber's catalog shows it: how far it is, and whether it gets anywhere.

pub(crate) mod truncated;
pub(crate) mod waiting;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::catalog::subscriptions::{self, Health, Relation};
use crate::catalog::tables;
use crate::error::{Advise, Failure, Result, message_of};
use crate::observe::{Stopped, in_words, suspects};
use crate::progress::Unit;
use crate::server::{Login, Pair, interrupt};
use crate::value::{ShellWord, TableName};

use super::Run;
use super::nudge::{self, Nudge};

/// How often the catalog is read, at most; less often where that takes long.
const EVERY: Duration = Duration::from_millis(200);
/// Without a worker and without a step forward for this long, it goes nowhere.
const STANDSTILL: Duration = Duration::from_secs(60);
/// Without a step forward for this long, the publisher is asked whether it answers, and again after as long.
const ASKED_AFTER: Duration = Duration::from_secs(5);
/// Errors or new beginnings without a table that came further.
const ATTEMPTS: i64 = 3;
/// Errors count only after this long without a table that came further: one each, of many tables, may be a moment's.
const PATIENCE: Duration = Duration::from_secs(15);

/// What one look told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ready,
    Going,
    /// Why it will not end by itself.
    Stuck(String),
}

/// What was seen until now.
#[derive(Default)]
pub(super) struct Watch {
    states: String,
    bytes: i64,
    moved_at: Duration,
    stepped_at: Duration,
    errors: Option<i64>,
    workers: HashMap<Option<TableName>, (i32, i64)>,
}

impl Watch {
    /// One more look, `at` after the first.
    pub(super) fn observe(
        &mut self,
        at: Duration,
        relations: &[Relation],
        health: &Health,
    ) -> Verdict {
        if relations.iter().all(|relation| relation.srsubstate == 'r') {
            return Verdict::Ready;
        }
        let waiting: Vec<&TableName> = relations
            .iter()
            .filter(|relation| relation.srsubstate != 'r')
            .map(|relation| &relation.name)
            .collect();
        let waiting = tables::listed(waiting);
        if !health.subenabled {
            return Verdict::Stuck(format!(
                "the subscription is disabled, and not ready yet are {waiting}"
            ));
        }
        let states: String = relations
            .iter()
            .map(|relation| relation.srsubstate)
            .collect();
        let bytes: i64 = relations.iter().map(|relation| relation.bytes).sum();
        let errors = health.apply_error_count.unwrap_or(0) + health.sync_error_count.unwrap_or(0);
        if states != self.states {
            self.states = states;
            self.workers.clear();
            self.errors = None;
            self.moved_at = at;
            self.stepped_at = at;
        }
        if bytes != self.bytes {
            self.bytes = bytes;
            self.moved_at = at;
        }
        let failed = errors - *self.errors.get_or_insert(errors);
        if failed >= ATTEMPTS && at.saturating_sub(self.stepped_at) >= PATIENCE {
            return Verdict::Stuck(format!(
                "its workers failed {failed} times, and not ready yet are {waiting}"
            ));
        }
        let workers = relations
            .iter()
            .map(|relation| (Some(relation.name.clone()), relation.pid))
            .chain([(None, health.pid)]);
        let mut at_work = false;
        for (whose, pid) in workers {
            let Some(pid) = pid else { continue };
            at_work |= whose.is_some();
            let (last, restarts) = self.workers.entry(whose.clone()).or_insert((pid, 0));
            if *last != pid {
                *last = pid;
                *restarts += 1;
            }
            if *restarts >= ATTEMPTS {
                return Verdict::Stuck(match whose {
                    Some(table) => format!("the copy of {} begins again and again", table.plain()),
                    None => format!(
                        "its apply worker starts again and again, and not ready yet are {waiting}"
                    ),
                });
            }
        }
        if !at_work && at.saturating_sub(self.moved_at) >= STANDSTILL {
            Verdict::Stuck(format!(
                "nothing has moved for {}, and not ready yet are {waiting}",
                humantime::format_duration(STANDSTILL)
            ))
        } else {
            Verdict::Going
        }
    }
}

/// Whether the publisher answers while nothing comes from it.
#[derive(Default)]
struct Source {
    asked: Option<Instant>,
    silent: bool,
}

impl Source {
    /// Asks it where the copy has not moved for some time; whether it is back after it did not answer.
    fn is_back(&mut self, quiet: Duration, (pair, dbname): (&Pair, &str), run: &Run) -> bool {
        if quiet < ASKED_AFTER && !self.silent
            || self.asked.is_some_and(|at| at.elapsed() < ASKED_AFTER)
        {
            return false;
        }
        let before = self.silent;
        let answer = pair.publisher.connect(Login::Superuser, dbname);
        self.asked = Some(Instant::now());
        self.silent = answer.is_err();
        match answer {
            Err(report) if !before => run.progress.step(&format!(
                "the copy waits for the publisher: {}",
                message_of(&report)
            )),
            Ok(_) if before => run.progress.step("the publisher answers again"),
            _ => {}
        }
        before && !self.silent
    }
}

/// Whoever is interrupted after the subscription was made, while it waits or while it reads, leaves the copy to itself, and
/// says so.
pub(super) fn goes_on<T>(outcome: Result<T>, subname: &str) -> Result<T> {
    if !interrupt::caught() {
        return outcome;
    }
    outcome.hint(|| {
        format!(
            "the subscription goes on copying by itself: flare create_subscription --wait {} waits for it again",
            ShellWord(subname)
        )
    })
}

/// Waits until every table is ready, showing how far the copy is; `sizes` are the publisher's, in bytes.
pub(super) fn until_ready(
    (pair, dbname): (&Pair, &str),
    copied: &Stopped<'_>,
    sizes: &HashMap<TableName, i64>,
    nudge: &mut Nudge<'_>,
    run: &Run,
) -> Result<usize> {
    waiting::seen(copied.to, || {
        wait((pair, dbname), copied, sizes, nudge, run)
    })
}

fn wait(
    (pair, dbname): (&Pair, &str),
    copied: &Stopped<'_>,
    sizes: &HashMap<TableName, i64>,
    nudge: &mut Nudge<'_>,
    run: &Run,
) -> Result<usize> {
    let since = Instant::now();
    let (session, subname) = (copied.to, copied.subname);
    let mut watch = Watch::default();
    let mut source = Source::default();
    let mut before = Vec::new();
    let mut hanging = Vec::new();
    let what = format!("copy the tables of subscription {subname:?}");
    loop {
        let looking = Instant::now();
        let relations = subscriptions::relations(session, subname)?;
        let health = subscriptions::health(session, subname, pair.subscriber.major())?;
        let Some(health) = health else {
            return Failure::new(format!(
                "wait for subscription {subname:?}: it has been dropped"
            ))
            .err();
        };
        hanging = truncated::free(session, subname, &hanging, run)?;
        let verdict = watch.observe(since.elapsed(), &relations, &health);
        let (done, total, unit) = progress_of(&relations, sizes);
        match verdict {
            Verdict::Ready => {
                run.progress.advance(&what, total, total, unit);
                return Ok(relations.len());
            }
            Verdict::Going => run.progress.advance(&what, done, total, unit),
            Verdict::Stuck(why) => {
                if let Err(report) = pair.publisher.connect(Login::Superuser, dbname) {
                    return Failure::new(format!("{what}: {why}: {}", message_of(&report)))
                        .hint("start the publisher again: the workers go on by themselves, and the same command waits for them")
                        .err();
                }
                if let Some(words) = in_words(&suspects(copied)) {
                    return Failure::new(format!("{what}: {why}: {words}"))
                        .hint("mend it, the workers try again by themselves; or start over with flare drop_subscription")
                        .err();
                }
                return Failure::new(format!("{what}: {why}"))
                    .hint("the reason is in the subscriber's server log (rows that are there already, a missing column or privilege, a full disk, a publisher that cannot be reached): mend it, the workers try again by themselves; or start over with flare drop_subscription")
                    .err();
            }
        }
        let quiet = since.elapsed().saturating_sub(watch.moved_at);
        if source.is_back(quiet, (pair, dbname), run) {
            nudge.begin_anew();
        }
        let wakes = waits_for_records(&before, &relations);
        before = relations;
        // A look at ten thousand tables is no cheap one.
        let next = EVERY.max(looking.elapsed() * 5);
        loop {
            if wakes {
                nudge.give();
            }
            let left = next.saturating_sub(looking.elapsed());
            if left.is_zero() {
                break;
            }
            interrupt::sleep(left.min(nudge::EVERY))?;
        }
    }
}

/// Whether a table waits for the publisher's next record: any but those whose rows are arriving. A row written all through
/// a long copy would be one of many versions that the copy's snapshot keeps.
fn waits_for_records(before: &[Relation], now: &[Relation]) -> bool {
    let bytes: HashMap<&TableName, i64> = before.iter().map(|it| (&it.name, it.bytes)).collect();
    let arriving = |it: &Relation| {
        it.srsubstate == 'd' && bytes.get(&it.name).is_some_and(|bytes| it.bytes > *bytes)
    };
    now.iter().any(|it| it.srsubstate != 'r' && !arriving(it))
}

/// Bytes where there are any, else tables; never quite done before every table is.
fn progress_of(relations: &[Relation], sizes: &HashMap<TableName, i64>) -> (u64, u64, Unit) {
    let size = |relation: &Relation| sizes.get(&relation.name).copied().unwrap_or(0);
    let total: i64 = relations.iter().map(size).sum();
    if total <= 0 {
        let ready = relations.iter().filter(|r| r.srsubstate == 'r').count();
        return (ready as u64, relations.len() as u64, Unit::Tables);
    }
    let here = |relation: &Relation| match relation.srsubstate {
        'i' | 'd' => relation.bytes.min(size(relation)),
        _ => size(relation),
    };
    let done: i64 = relations.iter().map(here).sum();
    (done.clamp(0, total - 1) as u64, total as u64, Unit::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(state: char, bytes: i64, pid: Option<i32>) -> Relation {
        Relation {
            name: TableName::new("public", "a"),
            srsubstate: state,
            bytes,
            pid,
        }
    }

    fn healthy() -> Health {
        Health {
            subenabled: true,
            pid: Some(1),
            ..Health::default()
        }
    }

    fn look(watch: &mut Watch, seconds: u64, relation: Relation, health: &Health) -> Verdict {
        watch.observe(Duration::from_secs(seconds), &[relation], health)
    }

    #[test]
    fn a_long_copy_is_not_stuck() {
        let mut watch = Watch::default();
        for at in 0..500 {
            let relation = relation('d', at as i64 / 100, Some(7));
            assert_eq!(look(&mut watch, at, relation, &healthy()), Verdict::Going);
        }
        let ready = relation('r', 5, None);
        assert_eq!(look(&mut watch, 501, ready, &healthy()), Verdict::Ready);
    }

    #[test]
    fn rows_are_written_unless_all_that_is_left_is_arriving() {
        let copying = |bytes| vec![relation('d', bytes, Some(7))];
        assert!(waits_for_records(&[], &copying(8)));
        assert!(waits_for_records(&copying(8), &copying(8)));
        assert!(!waits_for_records(&copying(8), &copying(16)));
        assert!(waits_for_records(&copying(8), &[relation('f', 0, Some(7))]));
        assert!(!waits_for_records(&copying(8), &[relation('r', 0, None)]));
    }

    #[test]
    fn errors_new_beginnings_standstill_and_disabling_are_noticed() {
        let stuck = |verdict| matches!(verdict, Verdict::Stuck(_));
        let mut watch = Watch::default();
        let failing = |errors| Health {
            sync_error_count: Some(errors),
            ..healthy()
        };
        assert!(!stuck(look(
            &mut watch,
            0,
            relation('d', 0, None),
            &failing(5)
        )));
        assert!(!stuck(look(
            &mut watch,
            5,
            relation('d', 0, None),
            &failing(7)
        )));
        assert!(stuck(look(
            &mut watch,
            15,
            relation('d', 0, None),
            &failing(8)
        )));

        let mut watch = Watch::default();
        for (at, pid) in [(0, 1), (5, 2), (10, 3)] {
            assert!(!stuck(look(
                &mut watch,
                at,
                relation('d', 0, Some(pid)),
                &healthy()
            )));
        }
        assert!(stuck(look(
            &mut watch,
            15,
            relation('d', 0, Some(4)),
            &healthy()
        )));

        let mut watch = Watch::default();
        assert!(!stuck(look(
            &mut watch,
            0,
            relation('i', 0, None),
            &healthy()
        )));
        assert!(stuck(look(
            &mut watch,
            60,
            relation('i', 0, None),
            &healthy()
        )));

        let disabled = Health::default();
        assert!(stuck(look(
            &mut Watch::default(),
            0,
            relation('d', 0, None),
            &disabled
        )));
    }
}
