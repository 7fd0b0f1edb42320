//! The work on all tables at once: one thread divides them into chunks, workers compare these.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::hash::Hash;
use super::pace::Pace;
use super::pinned::{Both, Pinned};
use super::probe::Probe;
use super::ranges::{Outcome, key_of};
use super::record::Record;
use super::report::Walk;
use super::settle::{Values, Work, settle};
use super::state::State;
use super::statement::{Key, On, Range};
use super::table::Table;
use super::{bags, buckets, lookup, ranges};
use crate::error::{Failure, Report, Result, WrapErr, message_of};
use crate::progress::Unit;
use crate::replicate::Run;
use crate::server::{Side, interrupt, is_lost, sqlstate_of};
use crate::value::Size;

/// Tables of fewer rows and bytes are one chunk, without looking for its end.
const SMALL: (f64, i64) = (10_000.0, 4 << 20);

/// A piece of work.
enum Task {
    /// A chunk of a table, and which one it is.
    Range(usize, u64, Range),
    Whole(usize, Walk),
    /// Keys that an earlier part of the run has named.
    Again(usize, Vec<Key>),
}

/// What all threads share.
pub(super) struct Shared<'a> {
    pub(super) tables: &'a [Table],
    pub(super) states: Vec<Mutex<State>>,
    pub(super) confirmed: Vec<AtomicU64>,
    pub(super) hash: Hash,
    pub(super) bounds_of: Side,
    pub(super) values: Values,
    pub(super) stop: AtomicBool,
    /// Compared in an earlier part of the run.
    pub(super) earlier_bytes: u64,
    pub(super) done_bytes: AtomicU64,
    pub(super) total_bytes: u64,
    pub(super) since: Instant,
    pub(super) max_rate: Option<Size>,
    /// None where it is told how hard to work.
    pub(super) pace: Option<Pace>,
    pub(super) run: &'a Run,
    pub(super) record: Option<Record<'a>>,
    pub(super) signatures: Vec<String>,
}

impl Shared<'_> {
    /// Goes through all tables.
    pub(super) fn work(
        &self,
        bounds: &Pinned,
        sessions: &[Both],
        probes: &[Probe<'_>],
        sample: Option<f64>,
    ) -> Result<()> {
        let (tasks, inbox) = bounded::<Task>(sessions.len());
        self.advance(self.earlier_bytes);
        let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
            let workers: Vec<_> = sessions
                .iter()
                .zip(probes)
                .map(|(both, probe)| {
                    let inbox = inbox.clone();
                    scope.spawn(move || self.stopping(self.worker(both, probe, &inbox)))
                })
                .collect();
            drop(inbox);
            let mut outcomes = vec![self.stopping(self.produce(bounds, &tasks, sample))];
            drop(tasks);
            for worker in workers {
                let ended = |_| Report::from(Failure::new("compare rows: a thread has ended"));
                outcomes.push(worker.join().map_err(ended).and_then(|outcome| outcome));
            }
            outcomes
        });
        // The workers first: the channel closes for whoever fills it once they have failed.
        outcomes.into_iter().rev().collect::<Result<Vec<()>>>()?;
        Ok(())
    }

    fn stopping(&self, outcome: Result<()>) -> Result<()> {
        if outcome.is_err() {
            self.stop.store(true, Ordering::SeqCst);
        }
        outcome
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn state<T>(&self, at: usize, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.states[at].lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Divides all tables into tasks, each bound looked up while earlier chunks are compared.
    fn produce(&self, bounds: &Pinned, tasks: &Sender<Task>, sample: Option<f64>) -> Result<()> {
        for (at, table) in self.tables.iter().enumerate() {
            let (walk, settled) = self.state(at, |state| (state.walk, state.settled));
            if settled.is_some() {
                continue;
            }
            let again = self.state(at, |state| std::mem::take(&mut state.again));
            if !again.is_empty() {
                self.hand_out(at, tasks, Task::Again(at, again))?;
            }
            let produced = match walk {
                Walk::Ranges => self.produce_ranges(at, bounds, tasks, sample),
                walk => self.hand_out(at, tasks, Task::Whole(at, walk)),
            };
            if self.stopped() {
                return Ok(());
            }
            if let Err(report) = produced {
                self.failed(
                    at,
                    report.wrap_err(format!("compare {}", table.name.plain())),
                )?;
            }
            // The last chunk may be compared already: then nobody else closes the table.
            if self.state(at, State::completes) {
                self.hand_out(at, tasks, Task::Whole(at, Walk::Lookup))?;
            } else {
                self.keep(at)?;
            }
        }
        Ok(())
    }

    fn hand_out(&self, at: usize, tasks: &Sender<Task>, task: Task) -> Result<()> {
        self.state(at, |state| state.outstanding += 1);
        if tasks.send(task).is_err() {
            self.state(at, |state| state.outstanding -= 1);
            return Failure::new("compare rows: all workers have ended").err();
        }
        Ok(())
    }

    fn produce_ranges(
        &self,
        at: usize,
        bounds: &Pinned,
        tasks: &Sender<Task>,
        sample: Option<f64>,
    ) -> Result<()> {
        let table = &self.tables[at];
        let begins_after = self.state(at, |state| state.begins_after.clone());
        if (0.0..SMALL.0).contains(&table.reltuples)
            && table.bytes < SMALL.1
            && begins_after.is_none()
        {
            return self.hand_out(at, tasks, Task::Range(at, 0, Range::default()));
        }
        let on = On {
            table,
            side: self.bounds_of,
            hash: self.hash,
        };
        let mut rest = Range {
            after: begins_after,
            to: None,
        };
        let mut number = 0;
        loop {
            let (sql, arguments) = on.bound(&rest, table.chunk);
            let rows = bounds
                .rows(&sql, arguments)
                .wrap_err("find the end of a chunk")?;
            let bound = rows.first().map(key_of);
            let range = Range {
                after: rest.after.clone(),
                to: bound.clone(),
            };
            if number == 0 || sample.is_none_or(chosen) {
                self.hand_out(at, tasks, Task::Range(at, number, range))?;
            }
            number += 1;
            let scattered = self.state(at, |state| state.scattered || state.error.is_some());
            if bound.is_none() || scattered || self.stopped() {
                return Ok(());
            }
            rest.after = bound;
        }
    }

    fn worker(&self, both: &Both, probe: &Probe<'_>, inbox: &Receiver<Task>) -> Result<()> {
        for task in inbox {
            if self.stopped() {
                return Ok(());
            }
            interrupt::check()?;
            let at = match &task {
                Task::Range(at, ..) | Task::Whole(at, _) | Task::Again(at, _) => *at,
            };
            let work = Work {
                both,
                table: &self.tables[at],
                hash: self.hash,
                probe,
                values: self.values,
                bounds: self.bounds_of,
                confirmed: &self.confirmed[at],
            };
            let turn = match (&self.pace, &task) {
                (Some(pace), Task::Range(..)) => Some(pace.turn(both.publisher.session())?),
                // A pass over a whole table would keep the others waiting.
                _ => None,
            };
            let mut compared = match &task {
                Task::Range(_, _, range) => ranges::compare(&work, range),
                Task::Whole(_, walk) => self.whole(&work, at, *walk),
                Task::Again(_, keys) => settle(&work, keys.clone()).map(|found| Outcome {
                    found,
                    ..Outcome::default()
                }),
            };
            drop(turn);
            let mut chunk = match task {
                Task::Range(_, number, range) => Some((number, range.to)),
                Task::Whole(..) | Task::Again(..) => None,
            };
            loop {
                match compared {
                    Ok(outcome) => self.count(at, outcome, chunk.take())?,
                    Err(report) => self.failed(at, report)?,
                }
                // The last chunk of a table whose key has two orders: all of it again, by lookup.
                if !self.state(at, State::one_less) {
                    self.keep(at)?;
                    break;
                }
                self.state(at, |state| state.outstanding += 1);
                compared = self.whole(&work, at, Walk::Lookup);
            }
        }
        Ok(())
    }

    fn whole(&self, work: &Work<'_>, at: usize, walk: Walk) -> Result<Outcome> {
        match walk {
            Walk::Buckets => buckets::compare(work),
            Walk::Rows => bags::compare(work),
            Walk::Ranges => ranges::compare(work, &Range::default()),
            Walk::Lookup => {
                self.confirmed[at].store(0, Ordering::SeqCst);
                self.state(at, State::begin_lookup);
                lookup::compare(work)
            }
        }
    }

    /// A failure of one table leaves the others; a lost session or a signal ends all.
    fn failed(&self, at: usize, report: Report) -> Result<()> {
        if is_lost(&report) || sqlstate_of(&report).is_none() {
            return Err(report);
        }
        self.state(at, |state| {
            state.error.get_or_insert_with(|| message_of(&report));
        });
        Ok(())
    }

    /// Adds what a chunk has come to, and keeps to the rate.
    fn count(&self, at: usize, outcome: Outcome, chunk: Option<(u64, Option<Key>)>) -> Result<()> {
        let table = &self.tables[at];
        let bytes = self.state(at, |state| {
            if let Some((number, to)) = chunk {
                state.reach(number, to, outcome.rows);
            }
            state.add(outcome, table)
        });
        let done = self.done_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if let Some(Size(rate)) = self.max_rate {
            let done_now = done.saturating_sub(self.earlier_bytes);
            let due = Duration::from_secs_f64(done_now as f64 / rate.max(1) as f64);
            let early = due.saturating_sub(self.since.elapsed());
            interrupt::sleep(early)?;
        }
        // Behind the sleep: a burst before it would be taken for the rate, and what is left would never be said to be more.
        self.advance(done.min(self.total_bytes.saturating_sub(1)));
        Ok(())
    }

    /// Writes down how far a table has come: each second, and when it is through. Under its lock, so that what another thread
    /// has seen before the end is not written after it.
    fn keep(&self, at: usize) -> Result<()> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        self.state(at, |state| {
            state.due().map_or(Ok(()), |reached| {
                record.write(&self.tables[at].name, &self.signatures[at], &reached)
            })
        })
    }

    pub(super) fn advance(&self, done: u64) {
        let progress = &self.run.progress;
        progress.advance("compare rows", done, self.total_bytes, Unit::Bytes);
    }
}

/// Whether a chunk is among the share that is compared.
fn chosen(percent: f64) -> bool {
    let dice = uuid::Uuid::new_v4().as_u128() % 10_000;
    (dice as f64) < percent * 100.0
}
