//! guard: a process of the same program, in a session of its own, holding a pipe.
//!
//! When flare dies, by whatever means, the pipe closes, and the guard undoes the run, or finishes it past the point of
//! no return. It is told everything over that
//! pipe, so that nothing of it is in an argument or a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Write, stderr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use rustix::fs::{FileType, fstat};
use rustix::stdio::dup2_stderr;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::Config;
use crate::cutover::before::run_lock::{self, AtWork};
use crate::cutover::clients;
use crate::cutover::exits::settle::{self, Settled};
use crate::cutover::failpoint;
use crate::cutover::pause::backends::end;
use crate::error::{Failure, Result, WrapErr, message_of};
use crate::journal::{self, Direction, Entry, Step};
use crate::replicate::Run;
use crate::server::{Publisher, Server, Side, application_name, is_lost, open_both};
use crate::tools::flare_program;

/// The hidden command that this program is started with.
pub(crate) const COMMAND: &str = "guard";
/// What the guard says when it is ready.
const READY: &str = "ready";
/// How long the guard may take to connect.
const START_LIMIT: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(200);
/// For how long, after flare's death, the guard tries to reach the server.
const PERSISTENCE: Duration = Duration::from_secs(120);

/// What the guard is told.
#[derive(Serialize, Deserialize)]
struct Order {
    config: String,
    path: PathBuf,
    run: Uuid,
    direction: Direction,
}

/// What the guard hears when flare has done with the run; nothing when flare has died.
#[derive(Serialize, Deserialize)]
enum Said {
    /// The pause is decided; or how the run has ended that poolers could not be told of.
    Dismissed(Option<Settled>),
    /// Flare ends and leaves the rest of the run to the guard, as it has said.
    Left,
}

/// The guard process, as flare sees it. Dropped without [`GuardProcess::dismiss`], it undoes the pause.
pub(crate) struct GuardProcess {
    child: Option<Child>,
    /// None: it has heard how the run goes on.
    pipe: Option<ChildStdin>,
}

impl GuardProcess {
    /// Starts it and waits until it is connected and listens.
    pub(crate) fn start(config: &Config, entry: &Entry, context: &Run) -> Result<Self> {
        let order = Order {
            config: config.text.reveal().to_owned(),
            path: config.path.clone(),
            run: entry.run,
            direction: entry.direction,
        };
        let program = flare_program(context.guard_program.as_deref())?;
        let what = || format!("start the guard process {}", program.display());
        let mut child = Command::new(&program)
            .arg(COMMAND)
            // What tests stop flare at is not the guard's.
            .env_remove(failpoint::VARIABLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .wrap_err_with(what)?;
        let (Some(mut pipe), Some(said)) = (child.stdin.take(), child.stdout.take()) else {
            return Failure::new(format!("{}: it has no pipes", what())).err();
        };
        let order = serde_json::to_string(&order).wrap_err_with(what)?;
        writeln!(pipe, "{order}").wrap_err_with(what)?;
        let (heard, hears) = bounded(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(said).read_line(&mut line);
            heard.send(read.map(|_| line)).unwrap_or_default();
        });
        match hears.recv_timeout(START_LIMIT) {
            Ok(Ok(line)) if line.trim() == READY => Ok(GuardProcess {
                child: Some(child),
                pipe: Some(pipe),
            }),
            _ => {
                child.kill().wrap_err_with(what)?;
                child.wait().wrap_err_with(what)?;
                Failure::new(format!(
                    "{}: it did not get ready; nothing was paused",
                    what()
                ))
                .hint("its own words stand above")
                .err()
            }
        }
    }

    /// The pause is decided: the guard ends without doing anything, and nobody waits for that. Where poolers are still
    /// owed the end of the run, it sees to that first.
    pub(crate) fn dismiss(mut self, owed: Option<Settled>) {
        self.tell(&Said::Dismissed(owed));
    }

    fn tell(&mut self, said: &Said) {
        let Some(mut pipe) = self.pipe.take() else {
            return;
        };
        let told = serde_json::to_string(said)
            .map_err(std::io::Error::from)
            .and_then(|said| writeln!(pipe, "{said}"));
        if let Err(error) = told {
            log::warn!("tell the guard process that flare has done: {error}");
        }
    }
}

impl Drop for GuardProcess {
    fn drop(&mut self) {
        self.tell(&Said::Left);
        if let Some(mut child) = self.child.take() {
            std::thread::spawn(move || child.wait());
        }
    }
}

/// The guard itself: reads its order, connects, says so, and waits. `say` writes a line to whoever started it.
pub(crate) fn run(say: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    // The terminal's Ctrl-C is for flare; the guard has to outlive it. A process that leads its group already may not.
    if let Err(error) = rustix::process::setsid() {
        log::debug!("lead a session of its own: {error}");
    }
    let mut pipe = BufReader::new(std::io::stdin());
    let mut line = String::new();
    pipe.read_line(&mut line).wrap_err("read the order")?;
    let order: Order = serde_json::from_str(&line).map_err(|_| {
        Failure::usage("flare guard is started by flare itself, for the length of a pause")
    })?;
    let config = Config::parse(&order.config, &order.path)?;
    let from = open_from(&config, order.direction)?;
    say(READY)?;
    let mut rest = String::new();
    pipe.read_line(&mut rest)
        .wrap_err("wait for the end of the pause")?;
    let ended = match serde_json::from_str(&rest) {
        Ok(Said::Dismissed(owed)) => owed,
        Ok(Said::Left) => {
            let_go_of_stderr();
            act(&config, &order, from)?
        }
        Err(_) => act(&config, &order, from)?,
    };
    match ended {
        Some(ended) => {
            let_go_of_stderr();
            clients::let_go_late(&config, ended, || no_other_is_on_its_way(&config, &order))
        }
        None => Ok(()),
    }
}

/// Whoever reads what flare says from a pipe, to its end, would wait for the guard.
fn let_go_of_stderr() {
    let let_go = fstat(stderr())
        .map_err(std::io::Error::from)
        .and_then(|at| {
            if matches!(
                FileType::from_raw_mode(at.st_mode),
                FileType::Fifo | FileType::Socket
            ) {
                let nowhere = File::options().write(true).open("/dev/null")?;
                dup2_stderr(nowhere)?;
            }
            Ok(())
        });
    if let Err(error) = let_go {
        log::debug!("let go of standard error: {error}");
    }
}

/// Another run may hold the poolers meanwhile. Without this server there is none.
fn no_other_is_on_its_way(config: &Config, order: &Order) -> Result<bool> {
    let Ok(from) = open_from(config, order.direction) else {
        return Ok(true);
    };
    let entries = journal::entries(from.admin(), config)?;
    let others = entries.iter().filter(|entry| entry.run != order.run);
    Ok(!others
        .map(|it| it.step)
        .any(|step| Step::UNFINISHED.contains(&step)))
}

fn open_from(config: &Config, direction: Direction) -> Result<Publisher> {
    let (side, declared) = match direction {
        Direction::Forward => (Side::Publisher, &config.publisher),
        Direction::Back => (Side::Subscriber, &config.subscriber),
    };
    let server = Server::open(side, declared, &application_name(COMMAND))?;
    Ok(Publisher::from_journal(server))
}

/// flare is dead: *from* is opened, however often the server has to be asked, and then the rest is settled.
fn act(config: &Config, order: &Order, from: Publisher) -> Result<Option<Settled>> {
    let since = Instant::now();
    let anew = || {
        let from = open_from(config, order.direction)?;
        open_from_first(&from, order).and_then(|()| settle_all(config, order))
    };
    let mut settled = open_from_first(&from, order).and_then(|()| settle_all(config, order));
    if let Err(report) = &settled
        && is_lost(report)
    {
        // The server may have been restarted since this session was opened.
        log::info!("guard: {report:#}; going on by a new session");
        settled = anew();
    }
    let mut told = String::new();
    loop {
        match settled {
            Ok(settled) => {
                if !told.is_empty() && matches!(settled, None | Some(Settled::ByOthers)) {
                    log::warn!("guard: another flare has brought the run to its end");
                }
                return Ok(settled);
            }
            Err(report) if since.elapsed() > PERSISTENCE => return Err(report),
            Err(report) => {
                let message = message_of(&report);
                if message != told {
                    log::warn!("guard: {message}; trying again");
                    told = message;
                }
            }
        }
        std::thread::sleep(BETWEEN_TRIES);
        settled = anew();
    }
}

/// First and fast, and without *to*: the application can write again, unless the run is decided.
fn open_from_first(from: &Publisher, order: &Order) -> Result<()> {
    let Some(entry) = journal::run_of(from.admin(), order.run)? else {
        return Ok(());
    };
    if !matches!(entry.step, Step::Preparing | Step::Paused) {
        return Ok(());
    }
    // What was on its way may have decided it meanwhile.
    run_lock::end_but_lockers(from.admin(), order.run)?;
    if journal::step_of(from.admin(), order.run)?.is_past_return() {
        return Ok(());
    }
    for backend in journal::sessions_alive(from.admin(), order.run)? {
        end(from.admin(), backend.pid)?;
    }
    if settle::open_from(from, &entry)?.is_none() {
        log::warn!(
            "flare died or gave up in its {} of {}: the guard has undone the pause, the application can write",
            entry.command,
            entry.dbnames().join(", ")
        );
    }
    Ok(())
}

/// Then what needs both servers.
fn settle_all(config: &Config, order: &Order) -> Result<Option<Settled>> {
    let pair = open_both(config, &application_name(COMMAND)).both()?;
    let pair = match order.direction {
        Direction::Forward => pair,
        Direction::Back => pair.reversed(),
    };
    let Some(entry) = journal::run_of(pair.publisher.admin(), order.run)? else {
        return Ok(None);
    };
    if !Step::UNFINISHED.contains(&entry.step) {
        return Ok(None);
    }
    let outcome = settle::settle(&pair, config, &entry, AtWork::Wait, &Run::quiet());
    if let (Ok(_), Some(words)) = (&outcome, settle::in_words(&entry, &outcome)) {
        log::warn!("{words}");
    }
    outcome.map(Some)
}
