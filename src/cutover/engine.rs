//! The engine: its steps in the order of the protocol, each timed, and what happens when one fails.

use std::time::{Duration, Instant};

use super::guard_process::GuardProcess;
use super::report::{StepName, StepTime};
use super::settle::Settled;
use super::state::Pause;
use super::switching::Undecided;
use super::undo::{Ended, open_doors};
use super::{
    clear, clients, deadline, door, drain, failpoint, guard, lock, prepare, settle, switching, wall,
};
use crate::config::Config;
use crate::error::{Report, Result, WrapErr, message_of};
use crate::journal::{Purpose, Step};
use crate::replicate::Run;
use crate::server::{Session, Timeout, interrupt, is_lost};

/// How the part of a run that can be undone has ended.
pub(crate) enum Ending {
    /// All steps were taken; the guard process waits to hear that the rest is done too.
    Done(GuardProcess),
    /// The doors are open as they were.
    Undone(Report),
}

/// Builds what the run needs, starts its guards, takes `steps`, and undoes what it has done when one of them fails.
///
/// # Errors
/// When the doors could not be opened again, or it is unknown whether the point of no return was passed.
pub(crate) fn run(
    pause: &mut Pause<'_>,
    config: &Config,
    run: &Run,
    steps: impl FnOnce(&mut Pause<'_>) -> Result<()>,
) -> Result<Ending> {
    let process = match prepare::build(pause, config, run)
        .and_then(|()| GuardProcess::start(config, &pause.entry, run))
    {
        Ok(process) => process,
        Err(cause) => {
            // Nothing is paused yet; what was built goes.
            return match undo(pause, config, run) {
                Ok(_) => Err(cause),
                Err(undo) => Err(cause.wrap_err(format!(
                    "what the preparation has built is still there ({}): the next flare command removes it",
                    message_of(&undo)
                ))),
            };
        }
    };
    pause.deadline = deadline::Deadline::of_the_pause(pause.max_pause);
    pause.set_timeout(pause.deadline.timeout());
    match steps(pause) {
        Ok(()) => Ok(Ending::Done(process)),
        // The guard process reads the journal and decides.
        Err(cause) if switching::is_undecided(&cause) => Err(cause),
        Err(cause) => match undo(pause, config, run) {
            Ok(Ended::Elsewhere(step)) if step.is_past_return() => Err(cause.wrap_err(Undecided)),
            Ok(_) => {
                process.dismiss(pause.poolers.any_is_owed().then_some(Settled::Undone));
                Ok(Ending::Undone(cause))
            }
            // The guard process is not dismissed, so it goes on trying.
            Err(undo) => Err(still_shut(pause, cause, &undo)),
        },
    }
}

fn still_shut(pause: &Pause<'_>, cause: Report, undo: &Report) -> Report {
    let dbnames = pause.dbnames().join(", ");
    cause.wrap_err(format!(
        "the application is STILL SHUT OUT of {dbnames} ({}): the guards open it within {}, or run `flare resume_write {dbnames}`",
        message_of(undo),
        humantime::format_duration(pause.max_pause),
    ))
}

impl Pause<'_> {
    /// Takes one step, and its time.
    pub(super) fn take(
        &mut self,
        name: StepName,
        step: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        interrupt::check()?;
        self.deadline.check().wrap_err(name)?;
        self.timed(name, step)
    }

    /// The same beyond the point of no return, where neither deadline nor signal ends anything.
    pub(super) fn take_past_return(
        &mut self,
        name: StepName,
        step: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.timed(name, step)
    }

    fn timed(&mut self, name: StepName, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let since = Instant::now();
        let outcome = failpoint::before(name.as_str(), &self.deadline).and_then(|()| step(self));
        let ms = since.elapsed().as_secs_f64() * 1000.0;
        self.steps.push(StepTime { step: name, ms });
        outcome.wrap_err(name)
    }
}

/// From *guard* to *drain*: everything that was written is on *to*, and nothing is written any more.
pub(crate) fn first_half(pause: &mut Pause<'_>) -> Result<()> {
    pause.take(StepName::Guard, guard::arm)?;
    if !pause.poolers.is_empty() {
        pause.take(StepName::Poolers, clients::hold)?;
    }
    pause.take(StepName::Door, door::shut)?;
    pause.take(StepName::Clear, clear::clear)?;
    pause.take(StepName::Wall, wall::raise)?;
    pause.take(StepName::Drain, drain::drain)
}

/// The least time that an undo gets, however short the pause was to be.
const UNDO_AT_LEAST: Duration = Duration::from_secs(2);

/// Opens the doors as they were, by a new session where the old one is lost; then the rest, for which *to* is needed.
/// Nothing is undone where somebody else has taken the run beyond that.
fn undo(pause: &mut Pause<'_>, config: &Config, run: &Run) -> Result<Ended> {
    let _shield = interrupt::Shield::raise();
    pause.set_timeout(Timeout::For(pause.max_pause.max(UNDO_AT_LEAST)));
    // Whatever of the pause has reached the server although its answer was lost.
    let from = [Step::Preparing, Step::Paused, Step::Held];
    let to = pause.undone();
    let open = |session: &Session| open_doors(session, &pause.entry, &from, to);
    let opened = match open(&pause.sessions.door.session) {
        Err(report) if is_lost(&report) => {
            log::info!("open the doors by a new session: {report:#}");
            let login = pause.sessions.door_login;
            open(&pause.pair.publisher.connect(login, "postgres")?)
        }
        opened => opened,
    }?;
    if let Ended::Elsewhere(step) = opened {
        log::info!("somebody else has ended the run: it is {:?}", step.as_str());
        if step.is_past_return() {
            return Ok(opened);
        }
    }
    guard::end_with_wall(pause);
    if pause.entry.purpose == Purpose::Switch {
        if !pause.steps.is_empty() {
            let failures = clients::as_before(config, &pause.entry, &mut pause.poolers);
            pause.warnings.extend(failures);
            pause.warnings.extend(clients::handed_over(&pause.poolers));
        }
        if let Err(report) = undo_rest(pause, run) {
            pause.warnings.push(format!(
                "not everything is as it was yet: {}; the next flare command goes on",
                message_of(&report)
            ));
        }
    }
    Ok(opened)
}

/// Only while the run is still this command's: whoever has taken it over has undone it, and may have begun another.
fn undo_rest(pause: &Pause<'_>, run: &Run) -> Result<()> {
    lock::lock_out_others(pause.pair, &pause.entry.dbnames())?;
    settle::undo_rest(pause.pair, &pause.entry, run)
}
