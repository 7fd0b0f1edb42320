//! The rows: workers, each with one session on either side, take jobs from one queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postgres::error::SqlState;

use super::pipe::{self, Copied, Traffic};
use super::plan::{Job, batches};
use super::{record, rewritten};
use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::progress::{Eta, Part, Unit};
use crate::replicate::Run;
use crate::server::{
    ActAs, Login, Publisher, Session, Subscriber, Timeout, interrupt, params, sqlstate_of,
};
use crate::value::{Literal, TableName};

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// As many tables are shown by themselves.
const SHOWN: usize = 3;
/// Those that are larger than this.
const SHOWN_ABOVE: u64 = 64 << 20;

/// What every worker needs.
pub(super) struct Workers<'a> {
    pub(super) publisher: &'a Publisher,
    pub(super) subscriber: &'a Subscriber,
    pub(super) dbname: &'a str,
    /// Who reads.
    pub(super) reader: Login,
    pub(super) snapshot: &'a str,
    pub(super) jobs: usize,
    pub(super) max_rate: Option<u64>,
}

/// How far one worker is.
#[derive(Default)]
struct Place {
    /// Bytes of finished batches, as planned.
    done: AtomicU64,
    /// Those of the batch at hand.
    size: AtomicU64,
    /// What of it has passed.
    moved: Arc<AtomicU64>,
    /// The table that it is of.
    table: Mutex<Option<TableName>>,
}

/// How finished batches travelled, beside what was planned: compressed values travel whole, what was deleted does not.
#[derive(Default)]
struct Expansion {
    planned: AtomicU64,
    travelled: AtomicU64,
}

impl Expansion {
    fn take_in(&self, planned: u64, travelled: u64) {
        self.planned.fetch_add(planned, Ordering::Relaxed);
        self.travelled.fetch_add(travelled, Ordering::Relaxed);
    }

    /// How much of a batch of this size is done once so much has passed.
    fn done(&self, moved: u64, size: u64) -> u64 {
        let planned = self.planned.load(Ordering::Relaxed);
        let travelled = self.travelled.load(Ordering::Relaxed);
        let of_planned = match (planned, travelled) {
            (0, _) | (_, 0) => 1.0,
            _ => planned as f64 / travelled as f64,
        };
        nearly(moved as f64 * of_planned, size as f64) as u64
    }
}

/// What is more than was foreseen comes nearer to the whole, and never stands still.
fn nearly(done: f64, size: f64) -> f64 {
    const AS_IT_IS: f64 = 0.9;
    if done <= size * AS_IT_IS {
        return done;
    }
    let rest = 1.0 - AS_IT_IS;
    size * (1.0 - rest * rest / (done / size - AS_IT_IS + rest))
}

/// A large table, and how much of it is done.
struct Large {
    name: TableName,
    total: u64,
    done: AtomicU64,
}

impl Large {
    /// The largest tables of what is left.
    fn of(left: &[Job]) -> Vec<Large> {
        let mut sizes: BTreeMap<&TableName, u64> = BTreeMap::new();
        for job in left {
            *sizes.entry(&job.table).or_default() += job.size.unsigned_abs();
        }
        let mut sizes: Vec<(&TableName, u64)> = sizes.into_iter().collect();
        sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        sizes.retain(|(_, size)| *size > SHOWN_ABOVE);
        let largest = sizes.into_iter().take(SHOWN);
        largest
            .map(|(name, total)| Large {
                name: name.clone(),
                total,
                done: AtomicU64::new(0),
            })
            .collect()
    }

    /// What is said of it while it is not done.
    fn part(&self, places: &[Place], expansion: &Expansion, eta: &mut Eta) -> Option<Part> {
        let at_hand = places.iter().filter(|place| {
            let table = place.table.lock().unwrap_or_else(PoisonError::into_inner);
            table.as_ref() == Some(&self.name)
        });
        let at_hand: u64 = at_hand.map(|place| place.at_hand(expansion)).sum();
        let done = (self.done.load(Ordering::Relaxed) + at_hand).min(self.total);
        let left = eta.look(Instant::now(), done, self.total);
        (done < self.total).then(|| Part {
            what: self.name.plain(),
            done_bytes: done,
            total_bytes: self.total,
            left,
        })
    }
}

impl Place {
    fn is_at(&self, table: Option<TableName>) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table;
    }

    fn at_hand(&self, expansion: &Expansion) -> u64 {
        let moved = self.moved.load(Ordering::Relaxed);
        expansion.done(moved, self.size.load(Ordering::Relaxed))
    }

    fn bytes(&self, expansion: &Expansion) -> u64 {
        self.done.load(Ordering::Relaxed) + self.at_hand(expansion)
    }
}

impl Workers<'_> {
    /// Copies what is left; `before` bytes of `total` were there already. `look` is called all along.
    pub(super) fn copy(
        &self,
        left: Vec<Job>,
        before: u64,
        run: &Run,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let total = before + left.iter().map(|job| job.size.unsigned_abs()).sum::<u64>();
        let largest = Large::of(&left);
        let mut etas: Vec<Eta> = largest.iter().map(|_| Eta::default()).collect();
        let queue: Mutex<VecDeque<Vec<Job>>> = Mutex::new(batches(left).into());
        let traffic = Arc::new(Traffic::new(self.max_rate));
        let places: Vec<Place> = (0..self.jobs.max(1)).map(|_| Place::default()).collect();
        let expansion = Expansion::default();
        let what = format!("copy the rows of database {:?}", self.dbname);
        let mut failed: Option<Report> = None;
        std::thread::scope(|scope| {
            let (ended, ends) = crossbeam_channel::unbounded();
            for place in &places {
                let (ended, queue, traffic) = (ended.clone(), &queue, &traffic);
                let (largest, expansion) = (&largest, &expansion);
                scope.spawn(move || {
                    let outcome = self.work(queue, traffic, place, (largest, expansion));
                    ended.send(outcome).unwrap_or_default();
                });
            }
            drop(ended);
            let mut running = places.len();
            while running > 0 {
                let outcome = match ends.recv_timeout(SHOW_EVERY) {
                    Ok(outcome) => {
                        running -= 1;
                        outcome
                    }
                    Err(_) => interrupt::check().and_then(|()| look()),
                };
                if let Err(report) = outcome {
                    traffic.stop();
                    failed.get_or_insert(report);
                }
                let parts = largest.iter().zip(&mut etas);
                let parts = parts.filter_map(|(large, eta)| large.part(&places, &expansion, eta));
                run.progress.parts(&parts.collect::<Vec<Part>>());
                let here = places.iter().map(|place| place.bytes(&expansion));
                let done: u64 = before + here.sum::<u64>();
                run.progress
                    .advance(&what, done.min(total.saturating_sub(1)), total, Unit::Bytes);
            }
        });
        run.progress.advance(&what, total, total, Unit::Bytes);
        match failed {
            None => Ok(()),
            Some(report) => Err(report),
        }
    }

    fn work(
        &self,
        queue: &Mutex<VecDeque<Vec<Job>>>,
        traffic: &Arc<Traffic>,
        place: &Place,
        (largest, expansion): (&[Large], &Expansion),
    ) -> Result<()> {
        let next = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop_front().filter(|_| !traffic.is_stopped())
        };
        let mut sides: Option<(Session, Session)> = None;
        while let Some(batch) = next() {
            let (from, to) = match &sides {
                Some(sides) => sides,
                None => sides.insert(self.sides()?),
            };
            let size: i64 = batch.iter().map(|job| job.size).sum();
            place.size.store(size.unsigned_abs(), Ordering::Relaxed);
            let table = match batch.as_slice() {
                [only] => Some(only.table.clone()),
                _ => None,
            };
            let large = largest.iter().find(|it| Some(&it.name) == table.as_ref());
            place.is_at(table);
            to.batch("BEGIN")?;
            let copied = pipe::copy(from, to, &batch, traffic, &place.moved).or_else(advise)?;
            rewritten::refuse(from, &batch, || {
                self.publisher.connect(self.reader, self.dbname)
            })?;
            on_record(to, &batch, &copied)?;
            let travelled = copied.iter().map(|it| it.bytes).sum();
            expansion.take_in(size.unsigned_abs(), travelled);
            place.is_at(None);
            if let Some(large) = large {
                large.done.fetch_add(size.unsigned_abs(), Ordering::Relaxed);
            }
            place.moved.store(0, Ordering::Relaxed);
            place.done.fetch_add(size.unsigned_abs(), Ordering::Relaxed);
            place.size.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn sides(&self) -> Result<(Session, Session)> {
        let from = self.publisher.connect(self.reader, self.dbname)?;
        let encoding: String =
            from.value("SELECT current_setting('server_encoding')", params![])?;
        let encoding = format!("SET client_encoding = {}", Literal(&encoding));
        from.batch(&format!(
            "{encoding}; SET synchronize_seqscans = off; SET extra_float_digits = 3"
        ))?;
        from.batch(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            Literal(self.snapshot)
        ))
        .wrap_err("take the snapshot")
        .hint(|| {
            "run the command again: it goes on, or says what it can do without the snapshot".into()
        })?;
        let to = writer(self.subscriber, self.dbname)?;
        to.batch(&encoding)?;
        Ok((
            from.with_timeout(Timeout::WhileServerAnswers),
            to.with_timeout(Timeout::WhileServerAnswers),
        ))
    }
}

/// A session that may write into the closed database, and counts as one of the copy's.
pub(super) fn writer(subscriber: &Subscriber, dbname: &str) -> Result<Session> {
    let session = subscriber.connect(ActAs::Tables, dbname)?;
    session.execute(&record::join_work(), params![])?;
    if subscriber.facts().superuser {
        // Triggers are the application's, and the fence is one.
        session.batch("SET session_replication_role = replica")?;
    }
    Ok(session)
}

/// A statement of the application's that came meanwhile: the snapshot keeps rows as they were, not what their tables are.
fn advise<T>(report: Report) -> Result<T> {
    let changed = sqlstate_of(&report)
        .is_some_and(|it| [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE].contains(it));
    let failed = Err(report);
    if changed {
        failed.hint(|| {
            "somebody has changed or dropped the table since the copy began: do the same to it on the subscriber, then run flare initial_copy with --restart, which copies everything anew; let nobody run ALTER TABLE until it has ended".into()
        })
    } else {
        failed
    }
}

/// What is on record of a batch, in one transaction with its rows.
fn on_record(to: &Session, batch: &[Job], copied: &[Copied]) -> Result<()> {
    let ids: Vec<i32> = batch.iter().map(|job| job.job).collect();
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let rows: Vec<i64> = copied.iter().map(|it| count(it.rows)).collect();
    let bytes: Vec<i64> = copied.iter().map(|it| count(it.bytes)).collect();
    let recorded = to.execute(
        "UPDATE flare.copy c SET rows = d.rows, bytes = d.bytes, done_at = clock_timestamp()
           FROM unnest($1, $2, $3) d(job, rows, bytes) WHERE c.job = d.job AND c.done_at IS NULL",
        params![ids, rows, bytes],
    )?;
    if recorded != batch.len() as u64 {
        return Failure::new("record the rows: another flare has copied them").err();
    }
    to.batch("COMMIT")
}

/// Has a watch look once in a while, the first time at once.
pub(super) struct Every {
    period: Duration,
    last: Option<Instant>,
}

impl Every {
    pub(super) fn new(period: Duration) -> Every {
        Every { period, last: None }
    }

    /// Whether it is time again.
    pub(super) fn is_due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= self.period);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_longer_than_was_planned_never_stands_still() {
        let expansion = Expansion::default();
        let size = 64 << 20;
        let mut last = 0;
        for block in 1..=5 * 1024 {
            let done = expansion.done(block * (64 << 10), size);
            assert!(done > last && done < size, "{block}: {done}");
            last = done;
        }
        assert!(last > size / 10 * 9, "{last}");
        // Known from those that are finished.
        expansion.take_in(size, size * 5);
        assert_eq!(expansion.done(size, size), size / 5);
        assert_eq!(expansion.done(0, 0), 0);
    }
}
