//! guard: a process of the same program, in a session of its own, holding a pipe.
//!
//! When flare dies, by whatever means, the pipe closes, and the guard opens the door. It is told everything over that
//! pipe, so that nothing of it is in an argument or a file.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::backends::end_backends;
use super::lock::door_of;
use super::sessions::at_the_door;
use super::undo::{self, Ended};
use crate::config::Config;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::journal::{self, Step};
use crate::replicate::Run;
use crate::server::{Publisher, Server, Side, application_name};

/// The hidden command that this program is started with.
pub(crate) const COMMAND: &str = "guard";
/// What the guard says when it is ready, and hears when it is not needed.
const READY: &str = "ready";
const DISMISSED: &str = "dismissed";
/// The steps at which a run without its flare is undone.
const UNDECIDED: [Step; 2] = [Step::Preparing, Step::Paused];
/// How long the guard may take to connect.
const START_LIMIT: Duration = Duration::from_secs(10);
/// For how long, after flare's death, the guard tries to reach the server.
const PERSISTENCE: Duration = Duration::from_secs(120);

/// What the guard is told.
#[derive(Serialize, Deserialize)]
struct Order {
    config: String,
    path: PathBuf,
    run: Uuid,
    dbname: String,
}

/// The guard process, as flare sees it. Dropped without [`GuardProcess::dismiss`], it opens the door.
pub(crate) struct GuardProcess {
    child: Child,
    pipe: ChildStdin,
}

impl GuardProcess {
    /// Starts it and waits until it is connected and listens.
    pub(crate) fn start(config: &Config, run: Uuid, dbname: &str, context: &Run) -> Result<Self> {
        let order = Order {
            config: config.text.reveal().to_owned(),
            path: config.path.clone(),
            run,
            dbname: dbname.to_owned(),
        };
        let program = program(context.guard_program.as_deref())?;
        let what = || format!("start the guard process {}", program.display());
        let mut child = Command::new(&program)
            .arg(COMMAND)
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
            Ok(Ok(line)) if line.trim() == READY => Ok(GuardProcess { child, pipe }),
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

    /// The pause is decided: the guard ends without doing anything, and nobody waits for that.
    pub(crate) fn dismiss(self) {
        let GuardProcess {
            mut child,
            mut pipe,
        } = self;
        if let Err(error) = writeln!(pipe, "{DISMISSED}") {
            log::warn!("dismiss the guard process: {error}");
        }
        drop(pipe);
        std::thread::spawn(move || child.wait());
    }
}

/// This program, or the one that the library was told; a program that merely uses the library cannot be its own guard.
fn program(declared: Option<&Path>) -> Result<PathBuf> {
    if let Some(declared) = declared {
        return Ok(declared.to_owned());
    }
    let own = std::env::current_exe().wrap_err("find this program")?;
    match own.file_stem().is_some_and(|stem| stem == "flare") {
        true => Ok(own),
        false => which::which("flare")
            .wrap_err("find the program flare, which guards the pause")
            .hint(|| "put flare on PATH, or name it with Flare::guarded_by".into()),
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
    let publisher = open(&config)?;
    say(READY)?;
    let mut rest = String::new();
    pipe.read_line(&mut rest)
        .wrap_err("wait for the end of the pause")?;
    match rest.trim() {
        DISMISSED => Ok(()),
        _ => undo(&config, &order, Some(publisher)),
    }
}

fn open(config: &Config) -> Result<Publisher> {
    let server = Server::open(
        Side::Publisher,
        &config.publisher,
        &application_name(COMMAND),
    )?;
    Ok(Publisher::from_journal(server))
}

/// flare is dead: the door is opened, however often the server has to be asked.
fn undo(config: &Config, order: &Order, mut publisher: Option<Publisher>) -> Result<()> {
    let since = Instant::now();
    loop {
        let undone = match publisher.take().map_or_else(|| open(config), Ok) {
            Ok(publisher) => undo_on(&publisher, order),
            Err(report) => Err(report),
        };
        match undone {
            Ok(()) => return Ok(()),
            Err(report) if since.elapsed() > PERSISTENCE => return Err(report),
            Err(report) => log::warn!("guard: {report:#}; trying again"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn undo_on(publisher: &Publisher, order: &Order) -> Result<()> {
    let admin = publisher.admin();
    let Some(entry) = journal::find(admin, &order.dbname, &UNDECIDED)? else {
        return Ok(());
    };
    if entry.run != order.run {
        return Ok(());
    }
    end_backends(admin, &entry)?;
    let door = door_of(&entry, &order.dbname)?;
    let ended = at_the_door(publisher, &order.dbname, |session| {
        undo::open_door(session, entry.run, &door, &UNDECIDED, Step::Undone)
    })?;
    if ended == Ended::Here {
        log::warn!(
            "flare died during a pause of {:?}: the guard has undone it, the application can write",
            order.dbname
        );
    }
    Ok(())
}
