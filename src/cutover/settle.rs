//! settle: what a run has left that stopped half-way is finished or undone, by whoever reads the journal next.
//!
//! Before the point of no return it is undone, after it finished; every part can be done again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backends::end_blockers_of;
use super::connect_privileges::ConnectPrivileges;
use super::deadline::Deadline;
use super::hooks::Moment;
use super::open::restore_now;
use super::pgbouncer::{Poolers, Reload};
use super::run_lock::{AtWork, end_sessions, privileges_of, take_over};
use super::sessions::as_database_owner;
use super::state::undone;
use super::undo::{self, Ended, OpenTarget};
use super::{clients, failpoint, table_locks, way_back};
use crate::catalog::subscriptions;
use crate::config::{Config, Left};
use crate::error::{Failure, Result, WrapErr, message_of};
use crate::journal::{self, Entry, Member, Purpose, Step};
use crate::replicate::{Run, closed, fence, reverse, unsubscribe};
use crate::server::{Login, Pair, Publisher, Session, Subscriber};
use crate::value::{Ident, TableName};

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Settled {
    /// Everything is as it was.
    Undone,
    /// *to* is open, and the way back runs.
    Finished,
    /// Whoever was at work on it has brought it to its end, or still is.
    ByOthers,
}

/// Finishes or undoes a run whose flare has gone. `pair` has the run's *from* as its publisher.
pub(crate) fn settle(
    pair: &Pair,
    config: &Config,
    entry: &Entry,
    at_work: AtWork,
    run: &Run,
) -> Result<Settled> {
    let Some(_taken) = take_over(pair, entry, at_work)? else {
        return Ok(Settled::ByOthers);
    };
    end_sessions(pair, entry)?;
    let now = journal::run_of(pair.publisher.admin(), entry.run)?;
    let entry = now.ok_or_else(|| Failure::new(format!("run {} has gone", entry.run)))?;
    match entry.step {
        Step::Preparing | Step::Paused | Step::Undoing => {
            match open_from(&pair.publisher, &entry)? {
                Some(step) if step.is_past_return() => finish(pair, config, &entry, run),
                _ => {
                    if entry.purpose == Purpose::Switch {
                        let mut poolers = Poolers::unconnected(&config.cutover.poolers, "guard");
                        warn(clients::as_before(config, &entry, &mut poolers));
                    }
                    undo_rest(pair, &entry, run)?;
                    Ok(Settled::Undone)
                }
            }
        }
        Step::Switching | Step::Switched => finish(pair, config, &entry, run),
        Step::Held | Step::Undone | Step::Resumed | Step::Closed => Ok(Settled::ByOthers),
    }
}

/// Opens *from* as it was, unless somebody else has decided the run; then its step.
pub(crate) fn open_from(from: &Publisher, entry: &Entry) -> Result<Option<Step>> {
    let to = undone(entry.purpose);
    let ended = as_database_owner(from, &entry.dbnames(), |session| {
        undo::open_from(session, entry, &[Step::Preparing, Step::Paused], to)
    })?;
    Ok(match ended {
        Ended::Here => None,
        Ended::Elsewhere(step) => Some(step),
    })
}

/// What else a run has made or stopped, once *from* is open: *to* is needed for that.
pub(crate) fn undo_rest(pair: &Pair, entry: &Entry, run: &Run) -> Result<()> {
    if entry.purpose == Purpose::PauseWrite {
        return Ok(());
    }
    for member in &entry.databases {
        enable(&pair.subscriber, entry, member)?;
        unbuild(pair, entry, member, run)?;
    }
    for server in [&*pair.subscriber, &*pair.publisher] {
        let from = [Step::Undoing, Step::Preparing];
        journal::advance(server.admin(), entry.run, &from, Step::Undone)?;
    }
    Ok(())
}

/// The running subscription goes on, where the run has stopped it.
fn enable(to: &Subscriber, entry: &Entry, member: &Member) -> Result<()> {
    let stream = member.stream(entry.direction);
    let session = to.connect(Login::Superuser, &stream.dbname)?;
    match subscriptions::find(&session, &stream.subname)? {
        Some(found) if !found.subenabled => unsubscribe::owning(to, &stream.dbname, &found)?
            .batch(&format!(
                "ALTER SUBSCRIPTION {} ENABLE",
                Ident::new(&stream.subname)
            ))
            .wrap_err_with(|| format!("enable subscription {:?} again", stream.subname)),
        _ => Ok(()),
    }
}

/// The way back that the run has built goes.
fn unbuild(pair: &Pair, entry: &Entry, member: &Member, run: &Run) -> Result<()> {
    if !entry.reverse {
        return Ok(());
    }
    let back = pair.reversed();
    let stream = member.stream(entry.direction.flipped());
    reverse::remove(&back, &stream.dbname, &stream.subname, run)?;
    match member.had_publication {
        true => Ok(()),
        false => reverse::unpublish(&back.publisher, &stream.dbname, &stream.pubname),
    }
}

/// Fences *from*, opens *to* where that has not been done yet, and does what comes after. The fence comes first: the locks
/// that kept writers off have gone with their sessions.
fn finish(pair: &Pair, config: &Config, entry: &Entry, run: &Run) -> Result<Settled> {
    let to = &pair.subscriber;
    fence_from(&pair.publisher, entry, Locks::Gone)?;
    let mut opening = OpenTarget::default();
    for member in &entry.databases {
        let dbname = member.dbname.as_str();
        if let Some(shut) = journal::shut_database(to.admin(), dbname)? {
            let keep = shut.keep.into_iter().collect();
            opening
                .shut
                .push(ConnectPrivileges::new(shut.privileges, keep));
        }
        let session = to.enter(dbname)?;
        opening.defaults.extend(closed::recorded(&session, dbname)?);
        fence::open(&session)?;
    }
    as_database_owner(to, &entry.dbnames(), |session| opening.open(session, entry))?;
    answer(&pair.publisher, config, entry)?;
    warn(Poolers::unconnected(&config.cutover.poolers, "guard").resume(Reload::Yes));
    warn(after(pair, config, entry, Locks::Gone, run)?.warnings);
    Ok(Settled::Finished)
}

/// Clients of the server that was left find it read-only, where the run has not come so far.
fn answer(from: &Publisher, config: &Config, entry: &Entry) -> Result<()> {
    if config.cutover.left == Left::Shut {
        return Ok(());
    }
    for member in &entry.databases {
        let dbname = member.dbname.as_str();
        if journal::is_shut(from.admin(), dbname)? {
            as_database_owner(from, &[dbname], |session| {
                restore_now(session, &privileges_of(member))
            })?;
        }
    }
    Ok(())
}

/// What concerns clients alone is said, and stops nothing.
fn warn(failures: Vec<String>) {
    for failure in failures {
        log::warn!("{failure}");
    }
}

/// What still holds the tables of *from*, in the order of the run's databases.
pub(crate) enum Locks<'a> {
    /// Transactions with their locks, that become the fence.
    Standing(Vec<&'a Session>),
    Gone,
}

/// What came of the part that the application does not wait for.
pub(crate) struct After {
    /// Whether a row has come back on every way back.
    pub(crate) way_back_runs: bool,
    /// What only concerns clients, or the way back.
    pub(crate) warnings: Vec<String>,
}

/// How long a lock on the tables of *from* is waited for, when the pause's own have gone.
const LOCKED_WITHIN: Duration = Duration::from_secs(5);

/// After the switch, without haste: the fence, the end of the old stream, the beginning of the way back.
///
/// A way back that cannot start is no dead end: the switch is done, and what is in its way is said.
pub(crate) fn after(
    pair: &Pair,
    config: &Config,
    entry: &Entry,
    locks: Locks<'_>,
    run: &Run,
) -> Result<After> {
    let (from, to) = (&pair.publisher, &pair.subscriber);
    journal::advance(from.admin(), entry.run, &[Step::Switching], Step::Switched)?;
    reached("fence")?;
    fence_from(from, entry, locks)?;
    reached("retire")?;
    let mut after = After {
        way_back_runs: entry.reverse,
        warnings: Vec::new(),
    };
    for member in &entry.databases {
        retire(pair, entry, member, run)?;
        if entry.reverse {
            reached("way_back")?;
            exempt_way_back(from, entry, member)?;
            if let Err(report) = way_back::start(pair, entry, member) {
                after.way_back_runs = false;
                after.warnings.push(format!(
                    "THE WAY BACK DOES NOT RUN: {}; its subscription goes on trying (flare lag), flare fallback refuses until it follows, and flare cleanup gives it up",
                    message_of(&report)
                ));
            }
        }
        // Where *to* was closed, its fence is open by now, and nobody needs it.
        closed::open(to, &member.dbname, run)?;
    }
    reached("close")?;
    let beyond = [Step::Switching, Step::Switched];
    journal::advance(to.admin(), entry.run, &beyond, Step::Closed)?;
    journal::advance(from.admin(), entry.run, &beyond, Step::Closed)?;
    let hook = clients::run_hooks(config, entry, Moment::AfterSwitch, None);
    after.warnings.extend(hook.err().iter().map(message_of));
    Ok(after)
}

/// What comes after the switch can be made to stop by tests, too.
fn reached(part: &str) -> Result<()> {
    failpoint::before(part, &Deadline::after(LOCKED_WITHIN))
}

/// The subscription of the way back is exempt from the default that keeps others read-only: triggers that write under apply
/// would stop it.
fn exempt_way_back(from: &Publisher, entry: &Entry, member: &Member) -> Result<()> {
    let back = member.stream(entry.direction.flipped());
    let follower = from.as_subscriber();
    let session = from.connect(Login::Superuser, &back.dbname)?;
    let Some(found) = subscriptions::find(&session, &back.subname)? else {
        return Ok(());
    };
    let login = unsubscribe::login_of(&follower, &found);
    closed::exempt(from, &back.dbname, (&found.owner, login))
}

/// The tables of *from* are fenced, by the transactions that hold their locks where these still stand. What was on record
/// of the database's default goes into the comment of the fence.
fn fence_from(from: &Publisher, entry: &Entry, locks: Locks<'_>) -> Result<()> {
    for (at, member) in entry.databases.iter().enumerate() {
        let pubname = member.stream(entry.direction).pubname;
        let before = undo::default_of(member);
        let fenced = match &locks {
            Locks::Standing(sessions) => table_locks::tables(sessions[at], &pubname)
                .and_then(|tables| fence::raise(sessions[at], &tables, &before.recording())),
            Locks::Gone => {
                let session = from.enter(&member.dbname)?;
                let pid: i32 = session.value("SELECT pg_backend_pid()", Vec::new())?;
                session.batch("BEGIN").and_then(|()| {
                    let tables = table_locks::tables(&session, &pubname)?;
                    lock_against_all(from, &session, pid, &tables)?;
                    fence::raise(&session, &tables, &before.recording())
                })
            }
        };
        fenced.wrap_err_with(|| {
            format!("fence database {:?} of the {}", member.dbname, from.side())
        })?;
    }
    Ok(())
}

/// Locks the tables in the session's transaction; who holds them is ended.
fn lock_against_all(
    from: &Publisher,
    session: &Session,
    pid: i32,
    tables: &[TableName],
) -> Result<()> {
    let Some(lock) = table_locks::lock_statement(tables) else {
        return Ok(());
    };
    let since = Deadline::after(LOCKED_WITHIN);
    let locking = session.start(move |client| client.batch_execute(&lock))?;
    while session.poll(&locking, Duration::from_millis(5))?.is_none() {
        since.check().wrap_err("lock the published tables")?;
        end_blockers_of(from.admin(), pid)?;
    }
    Ok(())
}

/// The stream that ran before the switch ends: its subscription on *to*, its slot on *from*.
fn retire(pair: &Pair, entry: &Entry, member: &Member, run: &Run) -> Result<()> {
    let stream = member.stream(entry.direction);
    reverse::remove(pair, &stream.dbname, &stream.subname, run)
        .wrap_err_with(|| format!("end the stream {:?}", stream.subname))?;
    match entry.direction {
        crate::journal::Direction::Forward => Ok(()),
        // The configuration's publication stays; what flare made for the way back does not.
        crate::journal::Direction::Back => {
            reverse::unpublish(&pair.publisher, &stream.dbname, &stream.pubname)
        }
    }
}

/// What became of a run, for people; nothing where it was no business of this command's.
pub(crate) fn in_words(entry: &Entry, outcome: &Result<Settled>) -> Option<String> {
    let run = format!(
        "an earlier run ({} of {} by {}, begun {}) had stopped at {:?}",
        entry.command,
        entry.dbnames().join(", "),
        entry.holder,
        entry.started_at,
        entry.step.as_str()
    );
    match outcome {
        Ok(Settled::ByOthers) => None,
        Ok(Settled::Undone) => Some(format!("{run}: it was undone")),
        Ok(Settled::Finished) => Some(format!(
            "{run}, past the point of no return: it was finished"
        )),
        Err(report) => Some(format!(
            "{run}, and could not be settled: {}",
            message_of(report)
        )),
    }
}
