//! `verify_data`: every row of every published table, on both sides, while the application writes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::findings::{Kind, RowDifference};
use super::hash::Hash;
use super::pinned::{Both, Pinned};
use super::probe::Probe;
use super::ranges::{CHUNK, Outcome, key_of};
use super::report::{DataVerification, TableStatus, VerifiedTable, Walk};
use super::settle::{Values, Work};
use super::statement::{On, Range};
use super::subject::Subject;
use super::table::Table;
use super::{bags, buckets, lookup, ranges};
use crate::error::{Failure, Report, Result, WrapErr, message_of};
use crate::journal::{Direction, Stream};
use crate::progress::Unit;
use crate::replicate::Run;
use crate::server::{Pair, Side, interrupt, is_lost, params, sqlstate_of};
use crate::value::{Size, TableName};

/// What is compared, and how hard.
#[derive(Clone, Debug, Default)]
pub struct DataOptions {
    /// Only these tables.
    pub tables: Vec<TableName>,
    /// Only this part of each table with a key, in percent, in chunks chosen at random.
    pub sample_percent: Option<f64>,
    /// How many chunks at once; none: two.
    pub jobs: Option<usize>,
    /// At most so many bytes a second, of the tables as they are on disk.
    pub max_rate: Option<Size>,
    /// Whether values of rows that differ are shown.
    pub values: Values,
}

/// Two chunks in flight keep both servers busy while one is looked at here.
const JOBS: usize = 2;
/// How many rows that differ are named for each table.
const EXAMPLES: usize = 100;
/// Tables of fewer rows and bytes are one chunk, without looking for its end.
const SMALL: (f64, i64) = (10_000.0, 4 << 20);
/// Below this correlation a range of the key is all over the disk.
const RANDOM: f64 = 0.5;

/// A piece of work.
enum Task {
    Range(usize, Range),
    Whole(usize, Walk),
}

/// How far a table has come.
struct State {
    walk: Walk,
    /// Chunks that are under way or waiting.
    outstanding: usize,
    /// No more chunks will come.
    complete: bool,
    scattered: bool,
    rows: i64,
    differences: u64,
    undecided: u64,
    examples: Vec<RowDifference>,
    error: Option<String>,
    bytes_done: i64,
}

/// What all threads share.
struct Shared<'a> {
    tables: &'a [Table],
    states: Vec<Mutex<State>>,
    confirmed: Vec<AtomicU64>,
    hash: Hash,
    values: Values,
    stop: AtomicBool,
    done_bytes: AtomicU64,
    total_bytes: u64,
    since: Instant,
    max_rate: Option<Size>,
    run: &'a Run,
}

/// Compares the tables of a stream; `pair` has the side that is written as its publisher.
pub(crate) fn verify(
    pair: &Pair,
    stream: &Stream,
    direction: Direction,
    options: &DataOptions,
    run: &Run,
) -> Result<DataVerification> {
    let since = Instant::now();
    let jobs = options.jobs.unwrap_or(JOBS).max(1);
    let open = |server| Pinned::open(server, &stream.dbname);
    let mut sessions = open_all(pair, stream, jobs)?;
    let bounds = open(&pair.subscriber)?;
    let first = &sessions[0];
    let subject = Subject::read(&first.publisher, &first.subscriber, stream, &options.tables)?;
    let hash = Hash::agreed(
        (first.publisher.session(), first.publisher.major()),
        (first.subscriber.session(), first.subscriber.major()),
    )?;
    let cached = cached_bytes(&first.publisher)?.min(cached_bytes(&first.subscriber)?);
    sessions.truncate(jobs);
    let shared = Shared {
        tables: &subject.tables,
        states: subject
            .tables
            .iter()
            .map(|table| Mutex::new(State::new(walk_of(table, options, cached))))
            .collect(),
        confirmed: subject.tables.iter().map(|_| AtomicU64::new(0)).collect(),
        hash,
        values: options.values,
        stop: AtomicBool::new(false),
        done_bytes: AtomicU64::new(0),
        total_bytes: subject.tables.iter().map(|it| it.bytes.max(0) as u64).sum(),
        since,
        max_rate: options.max_rate,
        run,
    };
    let probes: Vec<Probe> = (0..jobs)
        .map(|worker| Probe::new(subject.way.clone(), pair.publisher.identifier(), worker))
        .collect();
    let outcome = shared.work(&bounds, &sessions, &probes, options.sample_percent);
    let removed = probes
        .iter()
        .try_for_each(|probe| probe.remove(&sessions[0].publisher));
    outcome?;
    removed?;
    shared.advance(shared.total_bytes);
    let tables: Vec<VerifiedTable> = shared
        .tables
        .iter()
        .zip(shared.states)
        .map(|(table, state)| {
            let state = state.into_inner().unwrap_or_else(|e| e.into_inner());
            state.verified(table)
        })
        .collect();
    let sum = |of: &dyn Fn(&VerifiedTable) -> u64| tables.iter().map(of).sum::<u64>();
    let (differences, undecided) = (sum(&|it| it.differences), sum(&|it| it.undecided));
    Ok(DataVerification {
        subname: stream.subname.clone(),
        dbname: stream.dbname.clone(),
        direction,
        equal: tables.iter().all(|it| it.status == TableStatus::Equal)
            && options.sample_percent.is_none(),
        rows_compared: tables.iter().map(|it| it.rows).sum(),
        bytes_compared: tables
            .iter()
            .filter(|it| it.status != TableStatus::Failed)
            .map(|it| it.bytes)
            .sum(),
        differences,
        undecided,
        tables,
        sample_percent: options.sample_percent,
        finished_at: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        seconds: (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
    })
}

/// The workers' sessions, all connected at once.
fn open_all(pair: &Pair, stream: &Stream, jobs: usize) -> Result<Vec<Both>> {
    let ended = |_| Report::from(Failure::new("connect: a thread has ended"));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| -> Result<Both> {
                    Ok(Both {
                        publisher: Pinned::open(&pair.publisher, &stream.dbname)?,
                        subscriber: Pinned::open(&pair.subscriber, &stream.dbname)?,
                    })
                })
            })
            .collect();
        let opened = threads
            .into_iter()
            .map(|thread| thread.join().map_err(ended)?);
        opened.collect()
    })
}

fn cached_bytes(pinned: &Pinned) -> Result<i64> {
    pinned
        .session()
        .value(
            "SELECT pg_size_bytes(current_setting('shared_buffers'))",
            params![],
        )
        .wrap_err("read shared_buffers")
}

/// How a table is gone through.
fn walk_of(table: &Table, options: &DataOptions, cached_bytes: i64) -> Walk {
    let random = table
        .correlation
        .is_some_and(|it| it.abs() < RANDOM && table.bytes > cached_bytes / 4);
    match (&table.key, random && options.sample_percent.is_none()) {
        (None, _) => Walk::Rows,
        (Some(_), true) => Walk::Buckets,
        (Some(_), false) => Walk::Ranges,
    }
}

impl Shared<'_> {
    /// Goes through all tables.
    fn work(
        &self,
        bounds: &Pinned,
        sessions: &[Both],
        probes: &[Probe],
        sample: Option<f64>,
    ) -> Result<()> {
        let (tasks, inbox) = bounded::<Task>(sessions.len());
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
            let walk = self.state(at, |state| state.walk);
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
        if (0.0..SMALL.0).contains(&table.reltuples) && table.bytes < SMALL.1 {
            return self.hand_out(at, tasks, Task::Range(at, Range::default()));
        }
        let on = On {
            table,
            side: Side::Subscriber,
            hash: self.hash,
        };
        let mut rest = Range::default();
        let mut first = true;
        loop {
            let (sql, arguments) = on.bound(&rest, CHUNK);
            let rows = bounds
                .rows(&sql, arguments)
                .wrap_err("find the end of a chunk")?;
            let bound = rows.first().map(key_of);
            let range = Range {
                after: rest.after.clone(),
                to: bound.clone(),
            };
            if first || sample.is_none_or(chosen) {
                self.hand_out(at, tasks, Task::Range(at, range))?;
            }
            first = false;
            let scattered = self.state(at, |state| state.scattered || state.error.is_some());
            if bound.is_none() || scattered || self.stopped() {
                return Ok(());
            }
            rest.after = bound;
        }
    }

    fn worker(&self, both: &Both, probe: &Probe, inbox: &Receiver<Task>) -> Result<()> {
        for task in inbox {
            if self.stopped() {
                return Ok(());
            }
            interrupt::check()?;
            let at = match &task {
                Task::Range(at, _) | Task::Whole(at, _) => *at,
            };
            let work = Work {
                both,
                table: &self.tables[at],
                hash: self.hash,
                probe,
                values: self.values,
                confirmed: &self.confirmed[at],
            };
            let mut compared = match &task {
                Task::Range(_, range) => ranges::compare(&work, range),
                Task::Whole(_, walk) => self.whole(&work, at, *walk),
            };
            loop {
                match compared {
                    Ok(outcome) => self.count(at, outcome)?,
                    Err(report) => self.failed(at, report)?,
                }
                // The last chunk of a table whose key has two orders: all of it again, by lookup.
                if !self.state(at, State::one_less) {
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
    fn count(&self, at: usize, outcome: Outcome) -> Result<()> {
        let table = &self.tables[at];
        let bytes = self.state(at, |state| state.add(outcome, table));
        let done = self.done_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.advance(done.min(self.total_bytes.saturating_sub(1)));
        if let Some(Size(rate)) = self.max_rate {
            let due = Duration::from_secs_f64(done as f64 / rate.max(1) as f64);
            let early = due.saturating_sub(self.since.elapsed());
            interrupt::sleep(early)?;
        }
        Ok(())
    }

    fn advance(&self, done: u64) {
        let progress = &self.run.progress;
        progress.advance("compare rows", done, self.total_bytes, Unit::Bytes);
    }
}

/// Whether a chunk is among the share that is compared.
fn chosen(percent: f64) -> bool {
    let dice = uuid::Uuid::new_v4().as_u128() % 10_000;
    (dice as f64) < percent * 100.0
}

impl State {
    fn new(walk: Walk) -> State {
        State {
            walk,
            outstanding: 0,
            complete: false,
            scattered: false,
            rows: 0,
            differences: 0,
            undecided: 0,
            examples: Vec::new(),
            error: None,
            bytes_done: 0,
        }
    }

    /// Adds a chunk; the bytes that it stands for.
    fn add(&mut self, outcome: Outcome, table: &Table) -> u64 {
        self.rows += outcome.rows;
        self.scattered |= outcome.scattered && self.walk == Walk::Ranges;
        for found in outcome.found {
            match found.kind {
                Kind::Undecided => self.undecided += 1,
                _ => self.differences += 1,
            }
            if self.examples.len() < EXAMPLES {
                self.examples.push(found);
            }
        }
        let share = self.rows as f64 / table.reltuples.max(1.0).max(self.rows as f64);
        let done = (share * table.bytes as f64) as i64;
        let more = (done - self.bytes_done).max(0);
        self.bytes_done += more;
        more as u64
    }

    /// No more chunks will come; whether the table is still to be gone through by lookup, by whoever hears this.
    fn completes(&mut self) -> bool {
        self.complete = true;
        self.falls_to_lookup()
    }

    /// One chunk less is under way.
    fn one_less(&mut self) -> bool {
        self.outstanding -= 1;
        self.falls_to_lookup()
    }

    fn falls_to_lookup(&mut self) -> bool {
        let due = self.complete
            && self.outstanding == 0
            && self.scattered
            && self.error.is_none()
            && self.walk == Walk::Ranges;
        if due {
            self.walk = Walk::Lookup;
        }
        due
    }

    fn begin_lookup(&mut self) {
        self.walk = Walk::Lookup;
        self.rows = 0;
        self.differences = 0;
        self.undecided = 0;
        self.examples.clear();
    }

    fn verified(self, table: &Table) -> VerifiedTable {
        VerifiedTable {
            schema: table.name.schema.as_str().to_owned(),
            table: table.name.table.as_str().to_owned(),
            status: match (&self.error, self.differences, self.undecided) {
                (Some(_), ..) => TableStatus::Failed,
                (None, 0, 0) => TableStatus::Equal,
                (None, 0, _) => TableStatus::Undecided,
                (None, ..) => TableStatus::Different,
            },
            rows: self.rows,
            bytes: table.bytes,
            walk: self.walk,
            differences: self.differences,
            undecided: self.undecided,
            examples: self.examples,
            notes: table.notes.clone(),
            error: self.error,
        }
    }
}
