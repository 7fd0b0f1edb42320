//! The engine: its steps in the order of the protocol, each timed, and what happens when one fails.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::clear;
use super::deadline::Deadline;
use super::door;
use super::drain;
use super::failpoint;
use super::guard;
use super::guard_process::GuardProcess;
use super::prepare::{self, Prepared};
use super::report::{PauseOutcome, PauseReport, StepTime, Writable, cause_of};
use super::state::{Pause, PauseRequest};
use super::undo::{self, Ended};
use super::wall;
use crate::config::Config;
use crate::error::{Failure, Report, Result, WrapErr};
use crate::journal::{self, Step};
use crate::replicate::Run;
use crate::server::{Pair, Session, interrupt};

/// Pauses writes to a database until `resume_write`: from *guard* to *drain*, and the door stays shut.
pub(crate) fn pause_write(
    pair: &Pair,
    config: &Config,
    request: &PauseRequest<'_>,
    run: &Run,
) -> Result<PauseReport> {
    let pause = match prepare::prepare(pair, config, request, run)? {
        Prepared::Already { run: held } => return Ok(already(request, held)),
        Prepared::DryRun(pause) => return Ok(report(&pause, request, PauseOutcome::DryRun)),
        Prepared::Ready(pause) => pause,
    };
    let mut pause = *pause;
    let process = GuardProcess::start(config, pause.run, pause.dbname(), run)?;
    pause.deadline = Deadline::after(pause.max_pause);
    pause.sessions.set_patience(pause.deadline.patience());
    let outcome = steps(&mut pause).and_then(|()| hold(&pause));
    let report = match outcome {
        Ok(()) => report(&pause, request, PauseOutcome::Paused),
        Err(cause) => undone(pair, &mut pause, request, cause)?,
    };
    process.dismiss();
    Ok(report)
}

impl Pause {
    /// Takes one step, and its time.
    fn take(&mut self, name: &'static str, step: fn(&mut Pause) -> Result<()>) -> Result<()> {
        interrupt::check()?;
        self.deadline.check().wrap_err(name)?;
        let since = Instant::now();
        let outcome = failpoint::before(name, &self.deadline).and_then(|()| step(self));
        let ms = since.elapsed().as_secs_f64() * 1000.0;
        self.steps.push(StepTime { step: name, ms });
        outcome.wrap_err(name)
    }
}

/// The first half of the protocol.
fn steps(pause: &mut Pause) -> Result<()> {
    pause.take("guard", guard::arm)?;
    pause.take("door", door::shut)?;
    pause.take("clear", clear::clear)?;
    pause.take("wall", wall::raise)?;
    pause.take("drain", drain::drain)
}

/// The pause has succeeded: only if nobody has undone it, and from here on no guard will.
fn hold(pause: &Pause) -> Result<()> {
    failpoint::before("hold", &pause.deadline)?;
    let session = &pause.sessions.door.session;
    if !journal::advance(session, pause.run, &[Step::Paused], Step::Held)? {
        return Failure::new("the guard has ended the pause").err();
    }
    end_guard_and_wall(pause);
    Ok(())
}

/// What is left of the pause on the server; all of it ends by itself when these sessions do.
fn end_guard_and_wall(pause: &Pause) {
    let ended = guard::dismiss(pause).and_then(|()| pause.sessions.wall.session.batch("ROLLBACK"));
    if let Err(report) = ended {
        // One that the guard itself has ended is no news.
        log::info!("end the guard and the wall: {report:#}");
    }
}

/// Opens the door as it was, without hiding why.
fn undone(
    pair: &Pair,
    pause: &mut Pause,
    request: &PauseRequest<'_>,
    cause: Report,
) -> Result<PauseReport> {
    let _shield = interrupt::Shield::raise();
    let patience = crate::server::Patience::For(pause.max_pause.max(Duration::from_secs(2)));
    pause.sessions.set_patience(patience);
    match open_again(pair, pause) {
        Ok(_) => {
            let mut report = report(pause, request, PauseOutcome::Undone);
            report.cause = Some(cause_of(&cause));
            Ok(report)
        }
        Err(undo) => Err(cause.wrap_err(format!(
            "the application is STILL SHUT OUT of database {:?} ({undo:#}): the guards open it within {}, or run `flare resume_write {}`",
            pause.dbname(),
            humantime::format_duration(pause.max_pause),
            pause.dbname()
        ))),
    }
}

fn open_again(pair: &Pair, pause: &Pause) -> Result<Ended> {
    // Whatever of the pause has reached the server although its answer was lost.
    let from = [Step::Preparing, Step::Paused, Step::Held];
    let open =
        |session: &Session| undo::open_door(session, pause.run, &pause.door, &from, Step::Undone);
    let opened = match open(&pause.sessions.door.session) {
        Err(report) if crate::server::is_lost(&report) => {
            log::info!("open the door by a new session: {report:#}");
            let login = super::sessions::door_login(&pair.publisher, pause.dbname())?;
            open(&pair.publisher.connect(login, "postgres")?)
        }
        opened => opened,
    }?;
    end_guard_and_wall(pause);
    Ok(opened)
}

fn already(request: &PauseRequest<'_>, run: Uuid) -> PauseReport {
    PauseReport {
        outcome: PauseOutcome::Already,
        run_id: Some(run.to_string()),
        dbname: request.dbname.to_owned(),
        subname: request.subname.to_owned(),
        writable: Writable::None,
        pause_ms: None,
        steps: Vec::new(),
        terminated_backends: 0,
        tables: 0,
        kept_users: Vec::new(),
        warnings: Vec::new(),
        cause: None,
    }
}

fn report(pause: &Pause, request: &PauseRequest<'_>, outcome: PauseOutcome) -> PauseReport {
    let total: f64 = pause.steps.iter().map(|step| step.ms).sum();
    let shut = outcome == PauseOutcome::Paused;
    PauseReport {
        outcome,
        run_id: Some(pause.run.to_string()),
        pause_ms: (!pause.steps.is_empty()).then_some(total),
        steps: pause.steps.clone(),
        terminated_backends: pause.ended.len(),
        tables: pause.published.len(),
        writable: if shut {
            Writable::None
        } else {
            Writable::Publisher
        },
        kept_users: if shut {
            pause.door.keep().iter().cloned().collect()
        } else {
            Vec::new()
        },
        ..already(request, pause.run)
    }
}
