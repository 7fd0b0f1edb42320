//! settle: what a run has left that stopped half-way is finished or undone, by whoever reads the journal next.
//!
//! Before the point of no return it is undone, after it finished; every part can be done again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clear::sweep;
use super::clearing::Clearing;
use super::deadline::Deadline;
use super::hooks::Moment;
use super::lock::{AtWork, end_sessions, take_over};
use super::pgbouncer::{Poolers, Reload};
use super::rights::Door;
use super::sessions::at_the_door;
use super::state::undone;
use super::undo::{Ended, open_doors, open_target, to_the_letter};
use super::{clients, failpoint, wall, way_back};
use crate::catalog::subscriptions;
use crate::config::Config;
use crate::error::{Failure, Result, WrapErr, message_of};
use crate::journal::{self, Entry, Member, Purpose, Step};
use crate::replicate::{Run, closed, fence, reverse, unsubscribe};
use crate::server::{Login, Pair, Publisher, Subscriber};
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
                        told(clients::as_before(config, &entry, &mut poolers));
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

/// Opens the doors of *from*, unless somebody else has decided the run; then its step.
pub(crate) fn open_from(from: &Publisher, entry: &Entry) -> Result<Option<Step>> {
    let to = undone(entry.purpose);
    let ended = at_the_door(from, &entry.dbnames(), |session| {
        open_doors(session, entry, &[Step::Preparing, Step::Paused], to)
    })?;
    Ok(match ended {
        Ended::Here => None,
        Ended::Elsewhere(step) => Some(step),
    })
}

/// What else a run has made or stopped, once its doors are open: *to* is needed for that.
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

/// Opens *to* where that has not been done yet, and does what comes after.
fn finish(pair: &Pair, config: &Config, entry: &Entry, run: &Run) -> Result<Settled> {
    let to = &pair.subscriber;
    let mut doors = Vec::new();
    let mut defaults = Vec::new();
    for member in &entry.databases {
        let dbname = member.dbname.as_str();
        if let Some(shut) = journal::shut_door(to.admin(), dbname)? {
            doors.push(Door::new(shut.privileges, shut.keep.into_iter().collect()));
        }
        let session = to.enter(dbname)?;
        defaults.extend(closed::recorded(&session, dbname)?);
        fence::open(&session)?;
    }
    at_the_door(to, &entry.dbnames(), |session| {
        open_target(session, entry, &doors, &defaults)?;
        to_the_letter(session, &doors);
        Ok(())
    })?;
    told(Poolers::unconnected(&config.cutover.poolers, "guard").resume(Reload::Yes));
    told(after(pair, config, entry, Walls::Gone, run)?);
    Ok(Settled::Finished)
}

/// What concerns clients alone is said, and stops nothing.
fn told(failures: Vec<String>) {
    for failure in failures {
        log::warn!("{failure}");
    }
}

/// What still holds the tables of *from*, in the order of the run's databases.
pub(crate) enum Walls<'a> {
    /// Transactions with their locks, that become the fence.
    Standing(Vec<&'a crate::server::Session>),
    Gone,
}

/// For how long the sessions that are left on *from* are ended.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);

/// After the switch, without haste: the fence, the end of the old stream, the beginning of the way back. What only
/// concerns clients comes back in words.
pub(crate) fn after(
    pair: &Pair,
    config: &Config,
    entry: &Entry,
    walls: Walls<'_>,
    run: &Run,
) -> Result<Vec<String>> {
    let (from, to) = (&pair.publisher, &pair.subscriber);
    journal::advance(from.admin(), entry.run, &[Step::Switching], Step::Switched)?;
    reached("fence")?;
    raise_fences(from, entry, walls)?;
    reached("retire")?;
    for member in &entry.databases {
        retire(pair, entry, member, run)?;
        if entry.reverse {
            reached("way_back")?;
            way_back::start(pair, entry, member)?;
        }
        // Where *to* has been *from* before, it has an open fence that nobody needs.
        let left = fence::remove(to, &to.enter(&member.dbname)?)?;
        if !left.is_empty() {
            log::info!("{} tables keep an open fence, they are in use", left.len());
        }
    }
    reached("close")?;
    let beyond = [Step::Switching, Step::Switched];
    journal::advance(to.admin(), entry.run, &beyond, Step::Closed)?;
    journal::advance(from.admin(), entry.run, &beyond, Step::Closed)?;
    let hook = clients::run_hooks(config, entry, Moment::AfterSwitch, None);
    Ok(hook.err().iter().map(message_of).collect())
}

/// What comes after the switch can be made to stop by tests, too.
fn reached(part: &str) -> Result<()> {
    failpoint::before(part, &Deadline::after(SWEEP_LIMIT))
}

/// Whoever is left or waits on *from* is ended again, and the tables are fenced.
fn raise_fences(from: &Publisher, entry: &Entry, walls: Walls<'_>) -> Result<()> {
    let mut sessions = Vec::new();
    for (at, member) in entry.databases.iter().enumerate() {
        let pubname = member.stream(entry.direction).pubname;
        let raised = match &walls {
            Walls::Standing(walls) => wall::tables(walls[at], &pubname)
                .and_then(|tables| fence::raise(walls[at], &tables)),
            Walls::Gone => {
                let session = from.enter(&member.dbname)?;
                let pid: i32 = session.value("SELECT pg_backend_pid()", Vec::new())?;
                let raised = session.batch("BEGIN").and_then(|()| {
                    let tables = wall::tables(&session, &pubname)?;
                    if let Some(lock) = wall::lock_statement(&tables) {
                        let since = Deadline::after(SWEEP_LIMIT);
                        let locking = session.start(move |client| client.batch_execute(&lock))?;
                        while session.poll(&locking, Duration::from_millis(5))?.is_none() {
                            since.check()?;
                            wall::end_blockers_of(from.admin(), pid)?;
                        }
                    }
                    fence::raise(&session, &tables)
                });
                sessions.push(session);
                raised
            }
        };
        raised.wrap_err_with(|| {
            format!("fence database {:?} of the {}", member.dbname, from.side())
        })?;
    }
    let dbnames: Vec<String> = entry.dbnames().iter().map(|it| it.to_string()).collect();
    let but = entry
        .databases
        .iter()
        .flat_map(|member| member.keep.clone());
    let own: Vec<i32> = from.admin().value::<Vec<i32>>(
        "SELECT array(SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'flare/%')",
        Vec::new(),
    )?;
    let everyone = Clearing::Everyone { but: but.collect() };
    sweep(
        from.admin(),
        &dbnames,
        &own,
        &everyone,
        &Deadline::after(SWEEP_LIMIT),
    )?;
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
