//! A run from its first connection to its summary.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, after, bounded, never, select, tick};

use super::assignment::Assignment;
use super::client::{self, Session};
use super::dsn::Dsn;
use super::generator::{Generator, Mix};
use super::hosts::NextHost;
use super::ledger::{Entry, Ledger, Op, Outcome, Table};
use super::meter::Meter;
use super::pace::{Pace, Scouting, Stop};
use super::plot;
use super::shared::{Complaints, Shared, locked};
use super::summary::Summary;
use super::timeline::Timeline;
use crate::error::{Error, Failure, Report, Result, WrapErr, hint_of, message_of};
use crate::progress::Progress;
use crate::server::{SqlError, interrupt};
use crate::value::counted;

/// How long the run waits for answers that are under way when it ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long a client waits for a server that does not answer; what it has asked is of unknown outcome then.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked who waits for too long.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it says how far it is.
const EVERY: Duration = Duration::from_secs(10);
/// How many existing rows are recorded at a time.
const AT_A_TIME: usize = 1000;

/// What to write, where, how fast and for how long.
#[derive(Clone)]
pub struct Attack {
    /// Connection strings of the servers, in order.
    pub dsns: Vec<String>,
    /// When the next of them is tried.
    pub next_host: NextHost,
    /// The heartbeat's row.
    pub name: String,
    /// How many clients write at once.
    pub clients: usize,
    /// Operations per second over all clients; none: as fast as they can.
    pub rate: Option<f64>,
    /// For how long; none: until SIGINT or SIGTERM.
    pub duration: Option<Duration>,
    /// Where every acknowledged operation is recorded; with it rows are updated and deleted, too.
    pub ledger: Option<PathBuf>,
}

/// A run that is over.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attacked {
    /// What it ended with.
    pub summary: Summary,
    timeline: Timeline,
    servers: Vec<String>,
}

impl Attacked {
    /// The picture of the run, an SVG: throughput, latency and the longest gap.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn plot(&self) -> Result<String, Error> {
        Ok(plot::svg(&self.summary, &self.timeline, &self.servers)?)
    }
}

/// Writes until the time is over or a signal comes.
///
/// # Errors
/// When no server can be connected to at the start, one holds tables that are not the generator's, or the ledger
/// cannot be written. What the servers answer later is counted.
pub fn attack(attack: &Attack, progress: &dyn Progress) -> Result<Attacked, Error> {
    let dsns: Vec<Dsn> = attack
        .dsns
        .iter()
        .map(|text| Dsn::read(text))
        .collect::<Result<_>>()?;
    let ledger = attack.ledger.as_deref().map(Ledger::open).transpose()?;
    // Whoever holds the sender decides when the run is over.
    let (running, over) = bounded::<()>(0);
    let shared = Arc::new(Shared {
        checked: dsns.iter().map(|_| Mutex::new(false)).collect(),
        dsns,
        next_host: attack.next_host,
        ledger,
        meter: Mutex::new(Meter::new(Instant::now())),
        pace: Pace::new(attack.rate, Instant::now()),
        scouting: Scouting::default(),
        stop: Stop::when(over),
        complaints: Mutex::new(Complaints::default()),
        fatal: Mutex::new(None),
    });
    let first = knock(&shared)?;
    if let Some(ledger) = &shared.ledger {
        record_existing(&shared, first, &attack.name)?;
        ledger.begins_with(attack.clients)?;
    }
    progress.announce(&format!(
        "attack writes to {} as {} client(s); Ctrl-C ends it",
        shared
            .dsns
            .iter()
            .map(|dsn| dsn.shown.as_str())
            .collect::<Vec<_>>()
            .join(", then "),
        attack.clients
    ));
    let started = Instant::now();
    *locked(&shared.meter) = Meter::new(started);
    let (clients, ended) = start(&shared, attack, first);
    watch(&shared, &clients, attack.duration, &ended, progress);
    let stopped = Instant::now();
    shared.stop.raise();
    drop(running);
    let all_ended = ended.recv_timeout(LAST_ANSWERS) != Err(RecvTimeoutError::Timeout);
    if !all_ended {
        log::warn!("a server has not answered its last statement; its outcome is unknown");
    }
    for client in &clients {
        shared.record_unknown(client.assignment.give_up());
    }
    if let Some(report) = locked(&shared.fatal).take() {
        return Err(report.into());
    }
    if let (Some(ledger), true) = (&shared.ledger, all_ended) {
        ledger.is_complete()?;
    }
    let mut meter = locked(&shared.meter).clone();
    meter.timeline.over(stopped);
    let servers = shared.dsns.iter().map(|dsn| dsn.server.clone());
    Ok(Attacked {
        summary: Summary::of(&meter, attack.clients, stopped - started),
        timeline: meter.timeline,
        servers: servers.collect(),
    })
}

/// Tries every server once; the first that takes the generator.
fn knock(shared: &Shared) -> Result<usize> {
    let mut first = None;
    let mut failures: Vec<Report> = Vec::new();
    for at in 0..shared.dsns.len() {
        match shared.connect(at) {
            Ok(_) => first = first.or(Some(at)),
            // What it is told to write to is not its own.
            Err(report) if report.downcast_ref::<Failure>().is_some() => return Err(report),
            Err(report) => failures.push(report),
        }
    }
    match first {
        Some(first) => {
            for report in &failures {
                log::warn!(
                    "{}; it is tried again when another fails",
                    message_of(report)
                );
            }
            Ok(first)
        }
        None => {
            let all: Vec<String> = failures.iter().map(message_of).collect();
            let hint = failures.iter().find_map(hint_of).map(str::to_owned);
            Failure::new(all.join("; and "))
                .hint(hint.unwrap_or_else(|| {
                    "correct --dsn; flare create_attack_db makes the database to write to".into()
                }))
                .err()
        }
    }
}

/// The ledger has every row of the tables, so it begins with the rows that are there.
fn record_existing(shared: &Shared, at: usize, name: &str) -> Result<()> {
    let mut sql = shared.connect(at)?;
    for table in [Table::Items, Table::Sessions] {
        let text = format!(
            "SELECT id, {} FROM public.{}",
            table.as_text(),
            table.name()
        );
        let read = || format!("read the rows of {} that are there", table.name());
        let none: [&str; 0] = [];
        let mut rows = sql
            .query_raw(&text, none)
            .map_err(SqlError::from)
            .wrap_err_with(read)?;
        let mut entries = Vec::new();
        loop {
            use postgres::fallible_iterator::FallibleIterator;
            let row = rows.next().map_err(SqlError::from).wrap_err_with(read)?;
            if let Some(row) = &row {
                entries.push(Entry {
                    op: Op::Existing,
                    table,
                    id: row.get(0),
                    name: Some(row.get(1)),
                    client: 0,
                    seq: 0,
                    outcome: Outcome::Existing,
                });
            }
            if row.is_none() || entries.len() >= AT_A_TIME {
                if !shared.record(&entries) {
                    break;
                }
                entries.clear();
            }
            if row.is_none() {
                break;
            }
        }
    }
    shared.record(&[client::heartbeat(name, Outcome::Unknown)]);
    match locked(&shared.fatal).take() {
        None => Ok(()),
        Some(report) => Err(report),
    }
}

/// One that writes, and what a thread does that serves it.
struct Client {
    assignment: Arc<Assignment>,
    serve: Arc<dyn Fn(Session) + Send + Sync>,
}

impl Client {
    /// On a thread that may be left behind.
    fn start(&self, session: Session) {
        let serve = self.serve.clone();
        std::thread::spawn(move || serve(session));
    }
}

/// Starts the clients and the heartbeat; the receiver is disconnected when all have ended.
fn start(shared: &Arc<Shared>, attack: &Attack, first: usize) -> (Vec<Client>, Receiver<()>) {
    let (alive, ended) = bounded::<()>(0);
    let mix = match attack.ledger {
        None => Mix::Inserts,
        Some(_) => Mix::Everything,
    };
    let served = |serve: Arc<dyn Fn(Session) + Send + Sync>| {
        let assignment = Arc::new(Assignment::new(alive.clone()));
        let session = Session::new(shared.clone(), assignment.clone(), first);
        let client = Client { assignment, serve };
        client.start(session);
        client
    };
    let mut clients: Vec<Client> = (0..attack.clients)
        .map(|number| {
            let generator = Mutex::new(Generator::new(number, mix));
            served(Arc::new(move |session| client::write(session, &generator)))
        })
        .collect();
    let name = attack.name.clone();
    clients.push(served(Arc::new(move |session| {
        client::keep_alive(session, &name);
    })));
    (clients, ended)
}

/// Waits for the end: a signal, the time, or clients that cannot go on.
fn watch(
    shared: &Arc<Shared>,
    clients: &[Client],
    duration: Option<Duration>,
    ended: &Receiver<()>,
    progress: &dyn Progress,
) {
    let started = Instant::now();
    let time_is_over = duration.map_or_else(never, after);
    let (every, look) = (tick(EVERY), tick(LOOK_EVERY));
    loop {
        select! {
            recv(time_is_over) -> _ => return,
            recv(interrupt::channel()) -> _ => return,
            recv(ended) -> _ => return,
            recv(look) -> _ => clients.iter().for_each(|client| relieve(shared, client)),
            recv(every) -> _ => {
                let meter = locked(&shared.meter);
                progress.step(&format!(
                    "{} acknowledged, {} in {} s",
                    counted(meter.acknowledged, "operation"),
                    counted(meter.errors, "error"),
                    started.elapsed().as_secs()
                ));
            }
        }
        if locked(&shared.fatal).is_some() {
            return;
        }
    }
}

/// Leaves a thread that a server does not answer behind, and lets another go on with the next server.
fn relieve(shared: &Arc<Shared>, client: &Client) {
    let Some(abandoned) = client.assignment.take_over(TIMEOUT, Instant::now()) else {
        return;
    };
    shared.record_unknown(abandoned.entries);
    shared.complain(&Report::from(Failure::new(format!(
        "write to {}: no answer within {}",
        shared.dsns[abandoned.server].shown,
        humantime::format_duration(TIMEOUT)
    ))));
    client.start(Session::after(
        shared.clone(),
        client.assignment.clone(),
        abandoned.ticket,
        abandoned.server,
    ));
}
