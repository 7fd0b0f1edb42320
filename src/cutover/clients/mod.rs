//! Where clients are told to wait and to go: the hooks of each database, and the poolers.

pub(super) mod hooks;
pub(super) mod pgbouncer;
mod pooler;

use std::time::{Duration, Instant};

use self::hooks::{Moment, Occasion};
use self::pgbouncer::{Poolers, Reload};
use crate::config::{Config, Host};
use crate::cutover::exits::settle::Settled;
use crate::cutover::pause::guard_process;
use crate::cutover::state::Pause;
use crate::error::{Result, WrapErr, message_of};
use crate::journal::{Direction, Entry};

/// How long running transactions may keep a pooler from pausing.
const PAUSED_WITHIN: Duration = Duration::from_secs(2);

/// poolers: clients wait instead of failing.
pub(in crate::cutover) fn hold(pause: &mut Pause<'_>) -> Result<()> {
    let left = pause.deadline.left();
    pause.poolers.pause(left.min(PAUSED_WITHIN))
}

/// Poolers whose clients hold sessions are paused once those have been ended.
pub(in crate::cutover) fn await_held(pause: &mut Pause<'_>) -> Result<()> {
    let left = pause.deadline.left();
    pause.poolers.await_paused(left.min(PAUSED_WITHIN))
}

/// route: where clients will go. A failure still undoes.
pub(in crate::cutover) fn route(pause: &mut Pause<'_>) -> Result<()> {
    let deadline = Some(Instant::now() + pause.deadline.left());
    run_hooks(pause.config, &pause.entry, Moment::Switch, deadline)
}

/// resume: clients go on, now that *to* is open. What cannot be done is reported, never undone.
pub(in crate::cutover) fn release(pause: &mut Pause<'_>) -> Result<()> {
    let failures = pause.poolers.resume(Reload::Yes);
    pause.warnings.extend(failures);
    pause.warnings.extend(handed_over(&pause.poolers));
    let from = pause.pair.publisher.declared();
    let stale = pause.poolers.still_lead_to(&from.host, from.port);
    pause.warnings.extend(stale);
    Ok(())
}

/// Runs the hook of a moment for every database of a run, one after the other.
pub(in crate::cutover) fn run_hooks(
    config: &Config,
    entry: &Entry,
    moment: Moment,
    deadline: Option<Instant>,
) -> Result<()> {
    let (from, to) = servers(config, entry.direction);
    for member in &entry.databases {
        let occasion = Occasion {
            run: entry.run,
            direction: entry.direction.as_str(),
            dbname: &member.dbname,
            subname: &member.subname,
            from: (&from.host, from.port),
            to: (&to.host, to.port),
        };
        hooks::run(&config.cutover.hooks, moment, &occasion, deadline)
            .wrap_err_with(|| format!("for database {:?}", member.dbname))?;
    }
    Ok(())
}

/// After an undo: clients go on as before. What could not be done is returned, in words.
pub(in crate::cutover) fn as_before(
    config: &Config,
    entry: &Entry,
    poolers: &mut Poolers,
) -> Vec<String> {
    let mut failures = poolers.resume(Reload::No);
    match run_hooks(config, entry, Moment::OnUndo, None) {
        // A pooler that was started anew in the pause has read what the switch hook wrote.
        Ok(()) if after_undo(config) == Reload::Yes => failures.extend(poolers.reload()),
        Ok(()) => {}
        Err(report) => failures.push(message_of(&report)),
    }
    let to = servers(config, entry.direction).1;
    failures.extend(poolers.still_lead_to(&to.host, to.port));
    failures
}

/// Whether poolers read their configuration again after an undo.
fn after_undo(config: &Config) -> Reload {
    match config.cutover.hooks.on_undo {
        Some(_) => Reload::Yes,
        None => Reload::No,
    }
}

/// What is said when the guard process is left to [`let_go_late`].
pub(in crate::cutover) fn handed_over(poolers: &Poolers) -> Option<String> {
    let said = || "flare's guard process goes on trying to let them go, for two minutes".to_owned();
    poolers.any_is_owed().then(said)
}

/// For how long poolers that do not answer are tried.
const LATE: Duration = Duration::from_secs(120);

/// When a run has ended, and flare perhaps too: poolers get their RESUME late rather than never.
pub(in crate::cutover) fn let_go_late(
    config: &Config,
    ended: Settled,
    may: impl Fn() -> Result<bool>,
) -> Result<()> {
    let reload = match ended {
        Settled::Undone => after_undo(config),
        Settled::Finished => Reload::Yes,
        Settled::ByOthers => return Ok(()),
    };
    let declared = &config.cutover.poolers;
    Poolers::owed_all(declared, guard_process::COMMAND, reload).resume_late(LATE, may)
}

/// *from* and *to*.
fn servers(config: &Config, direction: Direction) -> (&Host, &Host) {
    match direction {
        Direction::Forward => (&config.publisher, &config.subscriber),
        Direction::Back => (&config.subscriber, &config.publisher),
    }
}
