//! `pause_write`: the first half of the protocol, and the door stays shut.

use std::time::Duration;

use super::engine::{self, Ending};
use super::guard;
use super::prepare::{self, Looked};
use super::report::{PauseOutcome, PauseReport, Writable, cause_of};
use super::state::{Pause, PauseRequest};
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::journal::{self, Step};
use crate::replicate::{Mode, Run};
use crate::server::Pair;

/// Pauses writes to a database until `resume_write`: from *guard* to *drain*, and the door stays shut.
pub(crate) fn pause_write(
    pair: &Pair,
    config: &Config,
    request: &PauseRequest,
    run: &Run,
) -> Result<PauseReport> {
    let mut pause = match prepare::look(pair, config, request)? {
        Looked::Already { run } => {
            let mut report = empty(request, PauseOutcome::Already, Writable::None);
            report.run_id = Some(run.to_string());
            return Ok(report);
        }
        Looked::Ready(pause) => *pause,
    };
    if run.mode == Mode::DryRun {
        return Ok(report(&pause, request, PauseOutcome::DryRun));
    }
    prepare::record(&mut pause, config)?;
    let ended = engine::run(&mut pause, config, run, |pause| {
        engine::first_half(pause)?;
        hold(pause)
    })?;
    match ended {
        Ending::Done(process) => {
            process.dismiss(None);
            Ok(report(&pause, request, PauseOutcome::Paused))
        }
        Ending::Undone(cause) => {
            let mut report = report(&pause, request, PauseOutcome::Undone);
            report.cause = Some(cause_of(&cause));
            Ok(report)
        }
    }
}

/// The pause has succeeded: only if nobody has undone it, and from here on no guard will.
fn hold(pause: &mut Pause<'_>) -> Result<()> {
    super::failpoint::before("hold", &pause.deadline)?;
    let session = &pause.sessions.door.session;
    if !journal::advance(session, pause.run(), &[Step::Paused], Step::Held)? {
        return Failure::new("the guard has ended the pause").err();
    }
    guard::end_with_wall(pause);
    Ok(())
}

fn empty(request: &PauseRequest, outcome: PauseOutcome, writable: Writable) -> PauseReport {
    let wanted = request.databases.first();
    PauseReport {
        outcome,
        run_id: None,
        dbname: wanted.map(|it| it.dbname.clone()).unwrap_or_default(),
        subname: wanted.map(|it| it.subname.clone()).unwrap_or_default(),
        writable,
        pause_ms: None,
        steps: Vec::new(),
        terminated_backends: 0,
        tables: 0,
        kept_users: Vec::new(),
        warnings: Vec::new(),
        cause: None,
    }
}

fn report(pause: &Pause<'_>, request: &PauseRequest, outcome: PauseOutcome) -> PauseReport {
    let shut = outcome == PauseOutcome::Paused;
    let writable = if shut {
        Writable::None
    } else {
        Writable::Publisher
    };
    let total = Duration::from_secs_f64(pause.steps.iter().map(|it| it.ms / 1000.0).sum());
    let doors = pause.databases.iter().map(|it| &it.door);
    PauseReport {
        run_id: Some(pause.run().to_string()),
        pause_ms: (!pause.steps.is_empty()).then_some(total.as_secs_f64() * 1000.0),
        steps: pause.steps.clone(),
        terminated_backends: pause.databases.iter().map(|it| it.ended.len()).sum(),
        tables: pause.databases.iter().map(|it| it.published.len()).sum(),
        kept_users: match shut {
            true => doors.flat_map(|door| door.keep().iter().cloned()).collect(),
            false => Vec::new(),
        },
        warnings: pause.warnings.clone(),
        ..empty(request, outcome, writable)
    }
}
