//! `verify_data`: every row of every published table, on both sides, while the application writes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use super::choice::{bounding, cached_bytes, walk_of};
use super::following::Following;
use super::hash::Hash;
use super::pace::Pace;
use super::pinned::{Both, Pinned};
use super::probe::Probe;
use super::ranges::CHUNK;
use super::record::{Kept, Reached, Record, Resume};
use super::report::{DataVerification, TableStatus, VerifiedTable};
use super::settle::Values;
use super::state::State;
use super::subject::Subject;
use super::table::Table;
use super::workers::Shared;
use crate::error::{Advise, Failure, Report, Result, WrapErr, message_of};
use crate::journal::{Direction, Stream};
use crate::replicate::Run;
use crate::server::{Pair, Server, Side, interrupt, is_lost};
use crate::value::{Size, TableName};

/// What is compared, and how hard.
#[derive(Clone, Debug, Default)]
pub struct DataOptions {
    /// Only these tables.
    pub tables: Vec<TableName>,
    /// Only this part of each table with a key, in percent, in chunks chosen at random.
    pub sample_percent: Option<f64>,
    /// How many chunks at once, however busy the servers are; none: two, which pause as long as writers need it.
    pub jobs: Option<usize>,
    /// At most so many bytes a second, of the tables as they are on disk, however busy the servers are.
    pub max_rate: Option<Size>,
    /// Whether values of rows that differ are shown.
    pub values: Values,
    /// Whether a run that was cut off goes on.
    pub resume: Resume,
}

/// Two chunks in flight keep both servers busy while one is looked at here.
const JOBS: usize = 2;

/// Compares the tables of a stream; `pair` has the side that is written as its publisher, `configured` is the
/// configuration's.
pub(crate) fn verify(
    configured: &Pair,
    pair: &Pair,
    stream: &Stream,
    direction: Direction,
    options: &DataOptions,
    run: &Run,
    again: impl FnOnce() -> String,
) -> Result<DataVerification> {
    let since = Instant::now();
    let jobs = options.jobs.unwrap_or(JOBS).max(1);
    let open = |server: &Server| -> Result<Pinned> {
        let session = Pinned::open(server, &stream.dbname)?;
        match options.values {
            Values::Hidden => session.silenced(),
            Values::Shown => Ok(session),
        }
    };
    let mut sessions = open_all(pair, jobs, open)?;
    let first = &sessions[0];
    let bounds_of = bounding(&first.publisher, &first.subscriber)?;
    let bounds = open(match bounds_of {
        Side::Publisher => &pair.publisher,
        Side::Subscriber => &pair.subscriber,
    })?;
    let subject = subject_of((&first.publisher, &first.subscriber), stream, options)?;
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
    let signatures: Vec<String> = subject.tables.iter().map(Table::signature).collect();
    let states: Vec<State> = subject
        .tables
        .iter()
        .zip(&signatures)
        .map(|(table, signature)| {
            let kept = kept.iter().find(|it| it.name == table.name);
            State::new(walk_of(table, options, cached)).going_on(table, signature, kept)
        })
        .collect();
    let earlier_bytes = states.iter().map(|it| it.bytes_done.max(0) as u64).sum();
    let shared = Shared {
        tables: &subject.tables,
        states: states.into_iter().map(Mutex::new).collect(),
        record,
        signatures,
        confirmed: subject.tables.iter().map(|_| AtomicU64::new(0)).collect(),
        hash,
        bounds_of,
        values: options.values,
        stop: AtomicBool::new(false),
        earlier_bytes,
        done_bytes: AtomicU64::new(earlier_bytes),
        total_bytes: subject
            .tables
            .iter()
            .map(|it| to_compare(it, options))
            .sum(),
        since,
        max_rate: options.max_rate,
        pace: match (options.jobs, options.max_rate) {
            (None, None) => Some(Pace::new()),
            _ => None,
        },
        run,
    };
    let following = Following {
        pair,
        stream,
        slot_name: &subject.slot_name,
        run,
    };
    let (identifier, this_run) = (pair.publisher.identifier(), uuid::Uuid::new_v4());
    let probes: Vec<Probe> = (0..jobs)
        .map(|worker| {
            let name = format!("{identifier}/verify/{this_run}/{worker}");
            Probe::new(&subject.way, &name, following)
        })
        .collect();
    let outcome = shared.work(&bounds, &sessions, &probes, options.sample_percent);
    let removed = probes
        .iter()
        .try_for_each(|probe| probe.remove(&sessions[0].publisher));
    match &shared.record {
        Some(_) => outcome.hint_first(again)?,
        None => outcome?,
    }
    removed?;
    shared.advance(shared.total_bytes);
    let paused = shared.pace.as_ref().map_or(Duration::ZERO, Pace::paused);
    let record = shared.record;
    let tables: Vec<VerifiedTable> = shared
        .tables
        .iter()
        .zip(shared.states)
        .map(|(table, state)| {
            let state = state.into_inner().unwrap_or_else(|e| e.into_inner());
            state.verified(table, options.sample_percent.is_some())
        })
        .chain(
            subject
                .unverified
                .iter()
                .map(|it| VerifiedTable::left_out(&it.name, &it.why)),
        )
        .collect();
    let sum = |of: &dyn Fn(&VerifiedTable) -> u64| tables.iter().map(of).sum::<u64>();
    let (differences, undecided) = (sum(&|it| it.differences), sum(&|it| it.undecided));
    if let Some(record) = record {
        let worst = [
            TableStatus::Failed,
            TableStatus::Different,
            TableStatus::Unverified,
            TableStatus::Undecided,
        ];
        let has = |status: &TableStatus| tables.iter().any(|it| it.status == *status);
        for it in &subject.unverified {
            let reached = Reached {
                status: Some(TableStatus::Unverified),
                ..Reached::default()
            };
            record.write(&it.name, "", &reached)?;
        }
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
        seconds: seconds(since.elapsed()),
        paused_seconds: seconds(paused),
    })
}

/// How long a statement may be on its way that only the publisher has seen: a carried one, or a table that is about to be
/// followed.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// What is compared, once both sides have it.
fn subject_of(
    (publisher, subscriber): (&Pinned, &Pinned),
    stream: &Stream,
    options: &DataOptions,
) -> Result<Subject> {
    let since = Instant::now();
    loop {
        match Subject::read(publisher, subscriber, stream, &options.tables) {
            Err(report) if since.elapsed() < ON_ITS_WAY && !is_lost(&report) => {
                log::debug!("{report:#}; looking again");
                interrupt::sleep(Duration::from_millis(50))?;
            }
            Ok(read) if since.elapsed() < ON_ITS_WAY && !read.unverified.is_empty() => {
                interrupt::sleep(Duration::from_millis(50))?;
            }
            read => return read,
        }
    }
}

/// Milliseconds are exact enough.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The bytes of a table, or of the part of it that a sample takes.
fn to_compare(table: &Table, options: &DataOptions) -> u64 {
    let part = match (options.sample_percent, &table.key) {
        (Some(percent), Some(_)) if table.reltuples > CHUNK as f64 => {
            (percent / 100.0).max(CHUNK as f64 / table.reltuples)
        }
        _ => 1.0,
    };
    (table.bytes.max(0) as f64 * part) as u64
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

/// The workers' sessions, all connected at once.
fn open_all(
    pair: &Pair,
    jobs: usize,
    open: impl Fn(&Server) -> Result<Pinned> + Sync,
) -> Result<Vec<Both>> {
    let open = &open;
    let ended = |_| Report::from(Failure::new("connect: a thread has ended"));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(move || -> Result<Both> {
                    Ok(Both {
                        publisher: open(&pair.publisher)?,
                        subscriber: open(&pair.subscriber)?,
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
