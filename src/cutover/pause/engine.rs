//! The engine: the rounds of the pause in the order of the protocol, and what happens when one fails.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::cutover::before::build;
use crate::cutover::before::run_lock;
use crate::cutover::clients;
use crate::cutover::deadline;
use crate::cutover::exits::settle;
use crate::cutover::exits::settle::Settled;
use crate::cutover::exits::undo::{Ended, open_from};
use crate::cutover::failpoint;
use crate::cutover::pause::guard;
use crate::cutover::pause::guard_process::GuardProcess;
use crate::cutover::pause::round;
use crate::cutover::pause::switching;
use crate::cutover::pause::switching::Undecided;
use crate::cutover::report::{StepName, StepTime, Writable};
use crate::cutover::state::Pause;
use crate::error::{Report, Result, WrapErr, message_of};
use crate::journal::{Direction, Purpose, Transition};
use crate::replicate::Run;
use crate::server::{Pair, Session, Timeout, interrupt, is_lost, open_both, timed_out};

/// How the part of a run that can be undone has ended.
pub(crate) enum Ending {
    /// All steps were taken; the guard process waits to hear that the rest is done too.
    Done(GuardProcess),
    /// *from* is open as it was.
    Undone(Report),
    /// It was neither done nor undone: the guard process goes on with it, or the next flare command.
    Unfinished {
        cause: Report,
        /// Where the application can write; none: that is not known.
        writable: Option<Writable>,
    },
}

/// Builds what the run needs, starts its guards, takes `steps`, and undoes what it has done when one of them fails.
///
/// # Errors
/// When it could not begin: nothing was paused.
pub(crate) fn run(
    pause: &mut Pause<'_>,
    config: &Config,
    run: &Run,
    steps: impl FnOnce(&mut Pause<'_>) -> Result<()>,
) -> Result<Ending> {
    let process = match build::build(pause, config, run)
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
        Err(cause) if switching::is_undecided(&cause) => Ok(undecided(cause)),
        Err(cause) => match undo(pause, config, run) {
            Ok(Ended::Elsewhere(step)) if step.is_past_return() => {
                Ok(undecided(cause.wrap_err(Undecided)))
            }
            Ok(_) => {
                process.dismiss(pause.poolers.any_is_owed().then_some(Settled::Undone));
                Ok(Ending::Undone(cause))
            }
            // The guard process is not dismissed, so it goes on trying.
            Err(undo) => Ok(Ending::Unfinished {
                writable: (!is_lost(&undo)).then_some(Writable::None),
                cause: still_shut(pause, cause, &undo),
            }),
        },
    }
}

fn undecided(cause: Report) -> Ending {
    Ending::Unfinished {
        cause,
        writable: None,
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
    pub(in crate::cutover) fn take(
        &mut self,
        name: StepName,
        step: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        interrupt::check()?;
        self.deadline.check().wrap_err(name.as_str())?;
        self.timed(name, step)
    }

    /// The same beyond the point of no return, where neither deadline nor signal ends anything.
    pub(in crate::cutover) fn take_past_return(
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
        outcome.wrap_err(name.as_str())
    }

    /// From the first thing that the application noticed to its end, in milliseconds.
    pub(in crate::cutover) fn pause_ms(&self) -> Option<f64> {
        let began = self.began_at?;
        let ended = self.opened_at.unwrap_or_else(Instant::now);
        Some(ended.saturating_duration_since(began).as_secs_f64() * 1000.0)
    }
}

/// From *guard* to *mark*, or to *drain* in a pause: everything that was written is on *to*, and nothing is written any more.
pub(crate) fn first_half(pause: &mut Pause<'_>) -> Result<()> {
    pause.take(StepName::Guard, guard::arm)?;
    pause.began_at = Some(Instant::now());
    if !pause.poolers.is_empty() {
        pause.take(StepName::Poolers, clients::hold)?;
    }
    interrupt::check()?;
    for steps in failpoint::rounds(&round::steps(pause.entry.purpose)) {
        if let Some(first) = steps.first() {
            failpoint::before(first.as_str(), &pause.deadline).wrap_err(first.as_str())?;
        }
        round::send_and_await(pause, &steps)?;
    }
    if pause.entry.purpose == Purpose::Switch {
        failpoint::before(StepName::Mark.as_str(), &pause.deadline)
            .wrap_err(StepName::Mark.as_str())?;
    }
    clients::await_held(pause)
}

/// The least time that an undo gets, however short the pause was to be.
const UNDO_AT_LEAST: Duration = Duration::from_secs(2);

/// How long an undo waits for each answer of *to*, whose part is left to the next command then.
const REST_WITHIN: Duration = Duration::from_secs(4);

/// Opens *from* as it was, by a new session where the old one is lost, and says so; then the rest, for which *to* is
/// needed. Nothing is undone where somebody else has taken the run beyond that.
fn undo(pause: &mut Pause<'_>, config: &Config, run: &Run) -> Result<Ended> {
    let _shield = interrupt::Shield::raise();
    let noticed = pause.began_at.is_some();
    pause.set_timeout(Timeout::For(pause.max_pause.max(UNDO_AT_LEAST)));
    // Whatever of the pause has reached the server although its answer was lost.
    let transition = Transition::Undo(pause.entry.purpose);
    let open = |session: &Session| open_from(session, &pause.entry, transition);
    let opened = match open(&pause.sessions.connect.session) {
        Err(report) if is_lost(&report) => {
            log::info!("open the publishing side by a new session: {report:#}");
            let login = pause.sessions.connect_login;
            open(&pause.pair.publisher.connect(login, "postgres")?)
        }
        opened => opened,
    }?;
    pause.opened_at.get_or_insert_with(Instant::now);
    if let Ended::Elsewhere(step) = opened {
        log::info!("somebody else has ended the run: it is {:?}", step.as_str());
        if step.is_past_return() {
            return Ok(opened);
        }
    }
    guard::end_with_locks(pause);
    if pause.entry.purpose == Purpose::Switch {
        if noticed {
            let failures = clients::as_before(config, &pause.entry, &mut pause.poolers);
            pause.warnings.extend(failures);
            pause.warnings.extend(clients::handed_over(&pause.poolers));
            run.progress.announce(&format!(
                "the {} was undone: the application can write to {} on the {}, as before",
                pause.entry.command,
                pause.dbnames().join(", "),
                pause.pair.publisher.side()
            ));
        }
        let rest = match undo_rest(pause.pair, pause, run) {
            // Whoever has ended the run at the same moment has ended these sessions, too.
            Err(report) if is_lost(&report) && !timed_out(&report) => {
                log::info!("{report:#}; going on by new sessions");
                opened_anew(pause, config).and_then(|pair| undo_rest(&pair, pause, run))
            }
            rest => rest,
        };
        if let Err(report) = rest {
            pause.warnings.push(format!(
                "not everything is as it was yet: {}; the next flare command goes on",
                message_of(&report)
            ));
        }
    }
    Ok(opened)
}

/// Only while the run is still this command's: whoever has taken it over has undone it, and may have begun another.
fn undo_rest(pair: &Pair, pause: &Pause<'_>, run: &Run) -> Result<()> {
    let within = Timeout::For(REST_WITHIN);
    pair.subscriber.admin().set_timeout(within);
    run_lock::lock_out_others(pair, &pause.entry.dbnames())?;
    settle::undo_rest(pair, &pause.entry, run)
}

/// The same two servers, by other sessions.
fn opened_anew(pause: &Pause<'_>, config: &Config) -> Result<Pair> {
    let name = &pause.pair.publisher.target().application_name;
    let pair = open_both(config, name).both()?;
    Ok(match pause.entry.direction {
        Direction::Forward => pair,
        Direction::Back => pair.reversed(),
    })
}
