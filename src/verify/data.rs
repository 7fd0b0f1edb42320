//! `verify_data`: every row of every published table, on both sides, while the application writes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::findings::{Kind, RowDifference};
use super::hash::Hash;
use super::pinned::{Both, Pinned, Text};
use super::probe::Probe;
use super::ranges::{CHUNK, Outcome, key_of};
use super::record::{Kept, Record, Resume, Row};
use super::report::{DataVerification, TableStatus, VerifiedTable, Walk};
use super::settle::{Values, Work, settle};
use super::statement::{Key, On, Range};
use super::subject::Subject;
use super::table::Table;
use super::{bags, buckets, lookup, ranges};
use crate::error::{Failure, Report, Result, WrapErr, message_of};
use crate::journal::{Direction, Stream};
use crate::progress::Unit;
use crate::replicate::Run;
use crate::server::{Pair, Server, Side, interrupt, is_lost, params, sqlstate_of};
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
    /// Whether a run that was cut off goes on.
    pub resume: Resume,
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
    /// A chunk of a table, and which one it is.
    Range(usize, u64, Range),
    Whole(usize, Walk),
    /// Keys that an earlier part of the run has named.
    Again(usize, Vec<Key>),
}

/// How often a table's progress is written down.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// With more rows named, a table that is cut off begins anew.
const KEPT_KEYS: usize = 1000;

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
    /// Found in an earlier part of the run to be what it is.
    settled: Option<TableStatus>,
    /// Where an earlier part of the run had come to.
    begins_after: Option<Key>,
    /// Keys that it had named.
    again: Vec<Key>,
    /// Chunks that are compared, behind one that is not: where they end, and their rows.
    ahead: BTreeMap<u64, (Option<Key>, i64)>,
    /// The chunk before which all are compared.
    next: u64,
    /// Where it begins, and the rows before it.
    reached: (Option<Key>, i64),
    /// Keys of rows that were named.
    named: Vec<Key>,
    kept_at: Option<Instant>,
}

/// What all threads share.
struct Shared<'a> {
    tables: &'a [Table],
    states: Vec<Mutex<State>>,
    confirmed: Vec<AtomicU64>,
    hash: Hash,
    bounds_of: Side,
    values: Values,
    stop: AtomicBool,
    done_bytes: AtomicU64,
    total_bytes: u64,
    since: Instant,
    max_rate: Option<Size>,
    run: &'a Run,
    record: Option<Record<'a>>,
    signatures: Vec<String>,
}

/// Compares the tables of a stream; `pair` has the side that is written as its publisher, `configured` is the
/// configuration's.
pub(crate) fn verify(
    configured: &Pair,
    pair: &Pair,
    stream: &Stream,
    direction: Direction,
    options: &DataOptions,
    run: &Run,
) -> Result<DataVerification> {
    let since = Instant::now();
    let jobs = options.jobs.unwrap_or(JOBS).max(1);
    let open = |server: &Server| Pinned::open(server, &stream.dbname);
    let mut sessions = open_all(pair, stream, jobs)?;
    let first = &sessions[0];
    let bounds_of = bounding(&first.publisher, &first.subscriber)?;
    let bounds = open(match bounds_of {
        Side::Publisher => &pair.publisher,
        Side::Subscriber => &pair.subscriber,
    })?;
    let subject = Subject::read(&first.publisher, &first.subscriber, stream, &options.tables)?;
    let hash = Hash::agreed(
        (first.publisher.session(), first.publisher.major()),
        (first.subscriber.session(), first.subscriber.major()),
    )?;
    Probe::sweep(&subject.way, &first.publisher)
        .wrap_err("take the rows of an earlier run away")?;
    let cached = cached_bytes(&first.publisher)?.min(cached_bytes(&first.subscriber)?);
    sessions.truncate(jobs);
    let mut notes = Vec::new();
    let (record, kept) = match options.sample_percent {
        // A sample is no proof.
        Some(_) => (None, None),
        None => begin(configured, stream, direction, &subject, options, &mut notes)?,
    };
    let resumed = kept.is_some();
    let kept = kept.unwrap_or_default();
    let signatures: Vec<String> = subject.tables.iter().map(signature).collect();
    let shared = Shared {
        tables: &subject.tables,
        states: subject
            .tables
            .iter()
            .zip(&signatures)
            .map(|(table, signature)| {
                let kept = kept.iter().find(|it| it.name == table.name);
                Mutex::new(
                    State::new(walk_of(table, options, cached)).going_on(table, signature, kept),
                )
            })
            .collect(),
        record,
        signatures,
        confirmed: subject.tables.iter().map(|_| AtomicU64::new(0)).collect(),
        hash,
        bounds_of,
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
    let record = shared.record;
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
    if let Some(record) = record {
        let worst = [
            TableStatus::Failed,
            TableStatus::Different,
            TableStatus::Undecided,
        ];
        let has = |status: &TableStatus| tables.iter().any(|it| it.status == *status);
        record.end(worst.into_iter().find(has).unwrap_or(TableStatus::Equal))?;
    }
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
        resumed,
        notes,
        finished_at: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        seconds: (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
    })
}

/// Puts the run on record; without the right to, it is said, and that is all.
fn begin<'a>(
    configured: &'a Pair,
    stream: &Stream,
    direction: Direction,
    subject: &Subject,
    options: &DataOptions,
    notes: &mut Vec<String>,
) -> Result<(Option<Record<'a>>, Option<Vec<Kept>>)> {
    let dbname = &stream.dbname;
    match Record::begin(
        configured,
        dbname,
        direction,
        &subject.subscription,
        options.resume,
    ) {
        Ok((record, kept)) => {
            if options.resume == Resume::LastRun && kept.is_none() {
                notes.push("no run was cut off: all tables were compared".into());
            }
            Ok((Some(record), kept))
        }
        Err(report) if is_lost(&report) => Err(report),
        Err(report) => {
            notes.push(format!(
                "not on record, so that it cannot be resumed and cutover --verified does not know of it: {}",
                message_of(&report)
            ));
            Ok((None, None))
        }
    }
}

/// What has to be the same for a table to go on where it was cut off.
fn signature(table: &Table) -> String {
    let key = table.key.iter().flat_map(|key| &key.columns);
    let key: Vec<String> = key.map(ToString::to_string).collect();
    format!(
        "{} | {} | {}",
        key.join(", "),
        table.publisher.row,
        table.subscriber.row
    )
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

/// Whose keys bound the chunks: the subscriber's, which has less to do, unless the publisher's encoding cannot spell all.
fn bounding(publisher: &Pinned, subscriber: &Pinned) -> Result<Side> {
    let encoding = |pinned: &Pinned| -> Result<String> {
        pinned
            .session()
            .value("SELECT current_setting('server_encoding')", params![])
            .wrap_err("read the encoding")
    };
    let ours = encoding(publisher)?;
    Ok(match ours == "UTF8" || ours == encoding(subscriber)? {
        true => Side::Subscriber,
        false => Side::Publisher,
    })
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
            let (sql, arguments) = on.bound(&rest, CHUNK);
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

    fn worker(&self, both: &Both, probe: &Probe, inbox: &Receiver<Task>) -> Result<()> {
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
            let mut compared = match &task {
                Task::Range(_, _, range) => ranges::compare(&work, range),
                Task::Whole(_, walk) => self.whole(&work, at, *walk),
                Task::Again(_, keys) => settle(&work, keys.clone()).map(|found| Outcome {
                    found,
                    ..Outcome::default()
                }),
            };
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
        self.advance(done.min(self.total_bytes.saturating_sub(1)));
        if let Some(Size(rate)) = self.max_rate {
            let due = Duration::from_secs_f64(done as f64 / rate.max(1) as f64);
            let early = due.saturating_sub(self.since.elapsed());
            interrupt::sleep(early)?;
        }
        Ok(())
    }

    /// Writes down how far a table has come: each second, and when it is through.
    fn keep(&self, at: usize) -> Result<()> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        let (row_rows, bound, candidates, status) = {
            let mut state = self.states[at].lock().unwrap_or_else(|e| e.into_inner());
            let through = state.complete && state.outstanding == 0;
            let due = state.kept_at.is_none_or(|it| it.elapsed() > KEEP_EVERY);
            if !through && (!due || state.walk != Walk::Ranges || state.named.len() > KEPT_KEYS) {
                return Ok(());
            }
            state.kept_at = Some(Instant::now());
            match through {
                true => (state.rows, None, Vec::new(), Some(state.status())),
                false => (
                    state.reached.1,
                    state.reached.0.clone(),
                    state.named.clone(),
                    None,
                ),
            }
        };
        record.write(
            &self.tables[at].name,
            &Row {
                signature: Some(&self.signatures[at]),
                bound: bound.as_ref(),
                rows: row_rows,
                candidates,
                status,
            },
        )
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
            settled: None,
            begins_after: None,
            again: Vec::new(),
            ahead: BTreeMap::new(),
            next: 0,
            reached: (None, 0),
            named: Vec::new(),
            kept_at: None,
        }
    }

    /// The same with what an earlier part of the run has found out.
    fn going_on(mut self, table: &Table, signature: &str, kept: Option<&Kept>) -> State {
        let Some(kept) = kept else {
            return self;
        };
        if kept.status == Some(TableStatus::Equal) {
            self.settled = kept.status;
            self.rows = kept.rows;
        } else if let (None, Walk::Ranges, Some(key)) = (kept.status, self.walk, &table.key)
            && let Some((bound, again)) = kept.goes_on(signature, key.columns.len())
        {
            self.rows = kept.rows;
            self.reached = (Some(bound.clone()), kept.rows);
            self.begins_after = Some(bound);
            self.again = again;
        }
        self
    }

    /// A chunk is compared: how far all before it are.
    fn reach(&mut self, number: u64, to: Option<Key>, rows: i64) {
        self.ahead.insert(number, (to, rows));
        while let Some((to, rows)) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.reached = (to, self.reached.1 + rows);
        }
    }

    fn status(&self) -> TableStatus {
        match (&self.error, self.differences, self.undecided) {
            (Some(_), ..) => TableStatus::Failed,
            (None, 0, 0) => TableStatus::Equal,
            (None, 0, _) => TableStatus::Undecided,
            (None, ..) => TableStatus::Different,
        }
    }

    fn falls_to_lookup_next(&self) -> bool {
        self.scattered && self.error.is_none() && self.walk == Walk::Ranges
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
            if self.named.len() <= KEPT_KEYS {
                let key = found.key.iter().map(|it| Text::from(it.value.as_str()));
                self.named.push(key.collect());
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
        let due = self.complete && self.outstanding == 0 && self.falls_to_lookup_next();
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
            status: self.status(),
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
