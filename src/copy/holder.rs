//! The holder: a psql on a replication connection that made a slot and keeps its snapshot (manual: "Streaming Replication
//! Protocol", CREATE_REPLICATION_SLOT .. EXPORT_SNAPSHOT).
//!
//! The `postgres` crate opens no replication connections. The snapshot lives as long as that session does nothing else, so
//! the process is one of its own that outlives a killed flare, and ends by itself when it was forgotten. Whether it lives is
//! asked of the snapshot, never of the process: after a restart of the publisher psql is still there for a moment, until who has
//! started it sees that its connection is closed.

mod connection;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select};
use rustix::process::Signal;
use uuid::Uuid;

use self::connection::Seen;

use crate::catalog::activity;
use crate::error::{Failure, Result, WrapErr, message_of};
use crate::progress::Progress;
use crate::server::{Login, Publisher, Session, interrupt, is_denied, params};
use crate::tools::{Invocation, Program, rewind, share, unlinked};
use crate::value::{Conninfo, Ident, Literal, Lsn};

/// The hidden command that the holder is started with.
pub(crate) const COMMAND: &str = "hold_snapshot";
/// How long a new slot may wait for transactions that were open before it.
const WAIT_FOR_TRANSACTIONS: Duration = Duration::from_secs(30);
/// When the holder looks whether its connection is open, and how often later.
const LOOKED_AT_FIRST: Duration = Duration::from_millis(50);
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);
/// When whoever keeps the new slot waiting is named.
const NAME_AFTER: Duration = Duration::from_secs(1);

/// How long the slot that is made lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Until it is dropped; `failover`: on the publisher's standbys too (17+).
    Kept { failover: bool },
    /// As long as the holder.
    Temporary,
}

/// A snapshot, and who keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The holder's application_name, which no other session has.
    pub(super) holder: String,
    pub(super) snapshot: String,
    /// Where the slot begins: everything that committed before is in the snapshot, everything after it in the stream.
    pub(super) lsn: Lsn,
}

/// What a holder is started with.
pub(super) struct Holders<'a> {
    pub(super) publisher: &'a Publisher,
    pub(super) dbname: &'a str,
    pub(super) psql: &'a Program,
    /// The program flare.
    pub(super) launcher: &'a Path,
    pub(super) max_hold: Duration,
    pub(super) progress: &'a dyn Progress,
}

impl Holders<'_> {
    /// Makes a slot and keeps its snapshot, as an account that may. `holder` is a name that [`new_name`] has made, and that is
    /// on record by now: whoever goes on after a kill ends what has it.
    pub(super) fn take(&self, holder: &str, slot_name: &str, slot: Slot) -> Result<Held> {
        let attempt = || format!("create replication slot {slot_name:?} with its snapshot");
        let taken = match self.take_as(Login::Superuser, holder, slot_name, slot) {
            Err(report)
                if !self.publisher.facts().superuser
                    && self.publisher.declared().repl.is_some() =>
            {
                log::info!("the superuser account made no slot, trying repl_user: {report:#}");
                self.take_as(Login::Replication, holder, slot_name, slot)
            }
            taken => taken,
        };
        taken.wrap_err_with(attempt)
    }

    fn take_as(&self, login: Login, holder: &str, slot_name: &str, slot: Slot) -> Result<Held> {
        let stderr = unlinked()?;
        let mut child = self.start(login, holder, slot_name, slot, share(&stderr)?)?;
        let line = first_line(&mut child)?;
        let said = self.wait(&line, holder);
        let held = said.and_then(|line| match read(&line) {
            Some((lsn, snapshot)) => Ok(Held {
                holder: holder.to_owned(),
                snapshot,
                lsn,
            }),
            None => Failure::new(words(self.publisher, login, stderr, &line)?).err(),
        });
        if held.is_err() {
            let _shield = interrupt::Shield::raise();
            end(self.publisher.admin(), holder).unwrap_or_else(|undo| {
                log::warn!("{}", message_of(&undo));
            });
        }
        // Nobody waits for it: it is reaped here, or by whoever inherits it.
        std::thread::spawn(move || child.wait());
        held
    }

    fn start(
        &self,
        login: Login,
        holder: &str,
        slot_name: &str,
        slot: Slot,
        stderr: File,
    ) -> Result<Child> {
        let major = self.publisher.major();
        let conninfo = Conninfo::new()
            .with("dbname", self.dbname)
            .with("replication", "database");
        let name = Ident::new(slot_name);
        let statement = match slot {
            Slot::Kept { failover: true } if major >= 17 => {
                format!(
                    "CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER)"
                )
            }
            Slot::Kept { .. } => {
                format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput EXPORT_SNAPSHOT")
            }
            Slot::Temporary => {
                format!("CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT")
            }
        };
        let hold = self.max_hold.as_secs().max(1);
        let psql = self
            .psql
            .on(self.publisher, login, self.dbname)?
            .env("PGAPPNAME", holder)
            .options(&options(major, self.max_hold))
            .args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-w",
                "-F",
                "|",
                "-v",
                "ON_ERROR_STOP=1",
            ])
            .args(["-d".to_owned(), conninfo.to_string()])
            .args(["-c".to_owned(), statement])
            // What it waits with is not to inherit the password.
            .args(["-c", "\\setenv PGPASSWORD"])
            .args(["-c".to_owned(), format!("\\! exec sleep {hold}")]);
        psql.leave(self.launcher, &[COMMAND], stderr)
    }

    /// Waits for what psql says, naming the transactions that it has to wait for.
    fn wait(&self, line: &Receiver<std::io::Result<String>>, holder: &str) -> Result<String> {
        let since = Instant::now();
        let mut named = BTreeSet::new();
        loop {
            select! {
                recv(line) -> said => return said.wrap_err("hear of the slot")?.wrap_err("hear of the slot"),
                recv(interrupt::channel()) -> _ => return Err(interrupt::interrupted()),
                default(Duration::from_millis(200)) => {}
            }
            if since.elapsed() < NAME_AFTER {
                continue;
            }
            let own = pids_of(self.publisher.admin(), holder)?;
            let writers =
                activity::writers(self.publisher.admin(), 1, own.first().copied().unwrap_or(0))?;
            for writer in &writers {
                if named.insert((writer.pid, writer.gid.clone())) {
                    self.progress
                        .step(&format!("the slot waits for an open transaction: {writer}"));
                }
            }
            if since.elapsed() > WAIT_FOR_TRANSACTIONS {
                let words: Vec<String> = writers.iter().map(ToString::to_string).collect();
                return Failure::new(format!(
                    "transactions that were open before it did not end within {}: {}; nothing was changed",
                    humantime::format_duration(WAIT_FOR_TRANSACTIONS),
                    words.join(", ")
                ))
                .hint("wait for them or end them (pg_terminate_backend, ROLLBACK PREPARED), then run the command again")
                .err();
            }
        }
    }
}

/// A role's or database's own timeouts would end the session that has nothing to do.
fn options(major: i32, max_hold: Duration) -> String {
    let hold = max_hold.as_millis().min(i32::MAX as u128);
    let mut options = format!(
        "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout={hold}"
    );
    for (since, setting) in [(14, "idle_session_timeout"), (17, "transaction_timeout")] {
        if major >= since {
            options.push_str(&format!(" -c {setting}=0"));
        }
    }
    options
}

fn first_line(child: &mut Child) -> Result<Receiver<std::io::Result<String>>> {
    let Some(output) = child.stdout.take() else {
        return Failure::new("start the holder: it has no output").err();
    };
    let (heard, hears) = bounded(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        heard.send(read.map(|_| line)).unwrap_or_default();
    });
    Ok(hears)
}

/// `slot|0/15D6A28|00000004-00000002-1|pgoutput`.
fn read(line: &str) -> Option<(Lsn, String)> {
    let mut parts = line.trim_end().split('|').skip(1);
    let lsn = parts.next()?.parse().ok()?;
    let snapshot = parts.next().filter(|it| !it.is_empty())?;
    Some((lsn, snapshot.to_owned()))
}

/// Why psql ended: what it wrote, once it has ended.
fn words(publisher: &Publisher, login: Login, mut stderr: File, line: &str) -> Result<String> {
    let mut said = String::new();
    let since = Instant::now();
    while said.is_empty() && since.elapsed() < Duration::from_secs(1) {
        rewind(&mut stderr)?;
        stderr
            .read_to_string(&mut said)
            .wrap_err("read what psql said")?;
        interrupt::sleep(Duration::from_millis(20))?;
    }
    let said = Invocation::redacted(publisher, login, &said)?;
    Ok(if said.is_empty() {
        format!("psql answered {:?}", line.trim_end())
    } else {
        said
    })
}

fn pids_of(session: &Session, holder: &str) -> Result<Vec<i32>> {
    session.value(
        "SELECT array(SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid())",
        params![holder],
    )
}

/// A name that no other holder has.
pub(super) fn new_name() -> String {
    format!("flare/holder {}", Uuid::new_v4().simple())
}

/// Ends the holder's process where it is one of this machine, then its session on the publisher.
pub(super) fn end(session: &Session, holder: &str) -> Result<()> {
    end_processes(holder);
    end_session(session, holder).wrap_err("end the session that holds the snapshot")
}

fn end_session(session: &Session, holder: &str) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(10);
    let since = Instant::now();
    loop {
        let pids = pids_of(session, holder)?;
        if pids.is_empty() || since.elapsed() > LIMIT {
            return Ok(());
        }
        for pid in pids {
            session.execute("SELECT pg_terminate_backend($1)", params![pid])?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends the processes that have this holder's name in their environment: psql and its sleep, and nothing else.
fn end_processes(holder: &str) {
    let wanted = format!("PGAPPNAME={holder}");
    let is_holder = |pid: i32| {
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|setting| setting == wanted.as_bytes())
        })
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.filter(|pid| is_holder(*pid)) {
        let ended = rustix::process::Pid::from_raw(pid).map_or(Ok(()), |process| {
            rustix::process::kill_process(process, Signal::TERM)
        });
        if let Err(error) = ended {
            log::debug!("end the holder's process {pid}: {error}");
        }
    }
}

/// Whether the snapshot can still be used.
pub(super) fn lives(session: &Session, snapshot: &str) -> Result<bool> {
    session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let taken = session.batch(&format!("SET TRANSACTION SNAPSHOT {}", Literal(snapshot)));
    if let Err(report) = &taken
        && crate::server::is_lost(report)
    {
        return taken.map(|()| false);
    }
    session.batch("ROLLBACK")?;
    match taken {
        Ok(()) => Ok(true),
        Err(report) if is_denied(&report) => Err(report),
        Err(report) => {
            log::debug!("use snapshot {snapshot}: {}", message_of(&report));
            Ok(false)
        }
    }
}

/// The holder itself: leads a session of its own and runs the program it was given, until that has ended or its connection has.
pub(crate) fn run(program: &[OsString]) -> Result<()> {
    let Some((program, args)) = program.split_first() else {
        return Failure::usage(
            "flare hold_snapshot is started by flare itself, for the length of a copy",
        )
        .err();
    };
    // The terminal's Ctrl-C is for flare.
    let leads = rustix::process::setsid();
    let started = Command::new(program).args(args).spawn();
    let mut child = started.wrap_err("hold a snapshot")?;
    let pid = child.id();
    let (ended, ends) = bounded(1);
    std::thread::spawn(move || ended.send(child.wait()));
    let (mut every, mut was_open, mut closed) = (LOOKED_AT_FIRST, false, 0);
    while let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(every) {
        every = LOOKED_AT_EVERY.min(every * 2);
        let seen = connection::of(pid);
        was_open |= seen == Seen::Open;
        closed = match seen {
            Seen::Closed => closed + 1,
            Seen::Nothing if was_open => closed + 1,
            Seen::Open | Seen::Nothing => 0,
        };
        // Once it may be one that psql gives up for another.
        if closed > 1 {
            // With psql what it waits for.
            return match leads {
                Ok(_) => rustix::process::kill_current_process_group(Signal::TERM),
                Err(error) => Err(error),
            }
            .wrap_err("end the program that held a snapshot");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_psql_is_read() {
        let (lsn, snapshot) = read("s|0/15D6A28|00000004-00000002-1|pgoutput\n").unwrap();
        assert_eq!(
            (lsn.to_string().as_str(), snapshot.as_str()),
            ("0/15D6A28", "00000004-00000002-1")
        );
        assert_eq!(read("s|0/15D6A28||pgoutput\n"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn only_settings_that_the_version_has() {
        let hold = Duration::from_secs(6);
        assert!(!options(10, hold).contains("idle_session_timeout"));
        assert!(
            options(14, hold)
                .ends_with("idle_in_transaction_session_timeout=6000 -c idle_session_timeout=0")
        );
        assert!(options(18, hold).ends_with("transaction_timeout=0"));
    }
}
