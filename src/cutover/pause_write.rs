//! `pause_write`: the first half of the protocol, and nobody can connect.

use crate::config::Config;
use crate::cutover::before::look::{Looked, look};
use crate::cutover::before::record;
use crate::cutover::pause::engine::{self, Ending};
use crate::cutover::pause::guard;
use crate::cutover::report::{PauseOutcome, PauseReport, Writable, cause_of};
use crate::cutover::state::{Pause, PauseRequest};
use crate::error::{Failure, Result};
use crate::journal::{self, Transition};
use crate::replicate::{Mode, Run};
use crate::server::Pair;

/// Pauses writes to a database until `resume_write`: from *guard* to *drain*, and nobody can connect.
pub(crate) fn pause_write(
    pair: &Pair,
    config: &Config,
    request: &PauseRequest,
    run: &Run,
) -> Result<PauseReport> {
    let mut pause = match look(pair, config, request)? {
        Looked::Already { run } => {
            let mut report = empty(request, PauseOutcome::Already, Writable::None);
            report.run_id = Some(run.to_string());
            return Ok(report);
        }
        Looked::Blocked { refusal, .. } => return refusal.err(),
        Looked::Ready(pause) => *pause,
    };
    if run.mode == Mode::DryRun {
        return Ok(report(&pause, request, PauseOutcome::DryRun));
    }
    record::write(&mut pause, config)?;
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
        Ending::Unfinished { cause, writable } => Ok(PauseReport {
            cause: Some(cause_of(&cause)),
            writable,
            ..report(&pause, request, PauseOutcome::Unfinished)
        }),
    }
}

/// The pause has succeeded: only if nobody has undone it, and from here on no guard will.
fn hold(pause: &mut Pause<'_>) -> Result<()> {
    crate::cutover::failpoint::before("hold", &pause.deadline)?;
    let session = &pause.sessions.connect.session;
    if !journal::advance(session, pause.run(), Transition::Hold)? {
        return Failure::new("the guard has ended the pause").err();
    }
    pause.opened_at = Some(std::time::Instant::now());
    guard::end_with_locks(pause);
    Ok(())
}

fn empty(
    request: &PauseRequest,
    outcome: PauseOutcome,
    writable: impl Into<Option<Writable>>,
) -> PauseReport {
    let wanted = request.databases.first();
    PauseReport {
        outcome,
        run_id: None,
        dbname: wanted.map(|it| it.dbname.clone()).unwrap_or_default(),
        subname: wanted.map(|it| it.subname.clone()).unwrap_or_default(),
        writable: writable.into(),
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
    let privileges = pause.databases.iter().map(|it| &it.privileges);
    PauseReport {
        run_id: Some(pause.run().to_string()),
        pause_ms: pause.pause_ms(),
        steps: pause.steps.clone(),
        terminated_backends: pause.databases.iter().map(|it| it.ended.len()).sum(),
        tables: pause.databases.iter().map(|it| it.published.len()).sum(),
        kept_users: if shut {
            privileges
                .flat_map(|it| it.keep().iter().cloned())
                .collect()
        } else {
            Vec::new()
        },
        warnings: pause.warnings.clone(),
        ..empty(request, outcome, writable)
    }
}
