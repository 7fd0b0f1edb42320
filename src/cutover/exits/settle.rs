//! settle: what a run has left that stopped half-way is finished or undone, by whoever reads the journal next.
//!
//! Before the point of no return it is undone, after it finished; every part can be done again.

use serde::{Deserialize, Serialize};

use crate::catalog::subscriptions;
use crate::config::Config;
use crate::cutover::after::{Locks, after, fence_from};
use crate::cutover::before::heartbeat::Heartbeat;
use crate::cutover::before::run_lock::{AtWork, end_sessions, end_undecided, take_over};
use crate::cutover::clients;
use crate::cutover::clients::pgbouncer::{Poolers, Reload};
use crate::cutover::exits::undo::{self, Ended, OpenTarget};
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::pause::fencing;
use crate::cutover::sessions::as_database_owner;
use crate::error::{Failure, Result, WrapErr, message_of};
use crate::journal::{self, Entry, Member, Purpose, Step, Transition};
use crate::replicate::{Run, closed, fence, reverse, unsubscribe};
use crate::server::{ActAs, Pair, Publisher, Subscriber};
use crate::value::Ident;

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
    // Whoever waits for the run sees that it goes on; a frozen process falls silent.
    journal::beat(pair.publisher.admin(), entry.run)?;
    let _alive = Heartbeat::start(&pair.publisher, entry.run)?;
    end_undecided(pair, entry)?;
    let now = journal::run_of(pair.publisher.admin(), entry.run)?;
    let entry = now.ok_or_else(|| Failure::new(format!("run {} has gone", entry.run)))?;
    if entry.step.is_past_return() {
        fencing::complete(&pair.publisher, entry.run)?;
    }
    end_sessions(pair, &entry)?;
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
    let ended = as_database_owner(from, &entry.dbnames(), |session| {
        undo::open_from(session, entry, Transition::UndoLeft(entry.purpose))
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
        // One that was committed, while the point of no return was another's, stops nobody on a side that is open.
        warn(closed::take_fence_off(&pair.publisher, &member.dbname, run)?.notes);
    }
    for server in [&*pair.subscriber, &*pair.publisher] {
        journal::advance(server.admin(), entry.run, Transition::Forget)?;
    }
    Ok(())
}

/// The running subscription goes on, where the run has stopped it.
fn enable(to: &Subscriber, entry: &Entry, member: &Member) -> Result<()> {
    let stream = member.stream(entry.direction);
    let session = to.visit(&stream.dbname)?;
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
    if member.had_publication {
        Ok(())
    } else {
        reverse::unpublish(&back.publisher, &stream.dbname, &stream.pubname)
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
        let session = to.connect(ActAs::Tables, dbname)?;
        opening.defaults.extend(closed::recorded(&session, dbname)?);
        fence::open(&session)?;
    }
    as_database_owner(to, &entry.dbnames(), |session| opening.open(session, entry))?;
    warn(Poolers::unconnected(&config.cutover.poolers, "guard").resume(Reload::Yes));
    warn(after(pair, config, entry, Locks::Fenced, run)?.warnings);
    Ok(Settled::Finished)
}

/// What concerns clients alone is said, and stops nothing.
fn warn(failures: Vec<String>) {
    for failure in failures {
        log::warn!("{failure}");
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
