//! `cutover` and `fallback`: the whole protocol. Inside it there is no old and new, only *from* and *to*.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::cutover::after::{self, Locks};
use crate::cutover::before::look::{Looked, look};
use crate::cutover::before::plan;
use crate::cutover::before::{record, way_back};
use crate::cutover::clients;
use crate::cutover::deadline::Deadline;
use crate::cutover::exits::settle::Settled;
use crate::cutover::failpoint;
use crate::cutover::pause::engine::{self, Ending};
use crate::cutover::pause::guard;
use crate::cutover::pause::open;
use crate::cutover::pause::switching;
use crate::cutover::report::{StepName, Writable, cause_of};
use crate::cutover::state::{Pause, PauseRequest};
use crate::cutover::switch_report::{SwitchOutcome, SwitchReport, written_after};
use crate::error::{Advise, Report, Result, WrapErr};
use crate::replicate::{Mode, Run};
use crate::server::{Pair, Timeout, at_once, interrupt, is_lost, while_they_answer};

/// Moves the application of the wanted databases to *to*, or changes nothing.
pub(crate) fn switch(
    pair: &Pair,
    config: &Config,
    request: &PauseRequest,
    run: &Run,
) -> Result<SwitchReport> {
    let mut pause = match look(pair, config, request)? {
        Looked::Already { .. } => return Ok(SwitchReport::already(request)),
        Looked::Blocked { found, .. } if run.mode == Mode::DryRun => {
            return Ok(SwitchReport::blocked(request, &found));
        }
        Looked::Blocked { refusal, .. } => return refusal.err(),
        Looked::Ready(pause) => *pause,
    };
    if run.mode == Mode::DryRun {
        let (plan, way_back) = at_once(
            || plan::estimate(&pause),
            || way_back::may_be_built(pair, request),
        );
        let mut report = SwitchReport::of(&pause, request, SwitchOutcome::DryRun).planned(plan?);
        report.cause = way_back.err().map(|cause| cause_of(&cause));
        return Ok(report);
    }
    record::write(&mut pause, config)?;
    let process = match engine::run(&mut pause, config, run, pause_and_win)? {
        Ending::Done(process) => process,
        Ending::Undone(cause) => {
            let mut report = SwitchReport::of(&pause, request, SwitchOutcome::Undone);
            report.cause = Some(cause_of(&cause));
            return Ok(report);
        }
        Ending::Unfinished { cause, writable } => {
            return Ok(SwitchReport::of(&pause, request, SwitchOutcome::Unfinished)
                .unfinished(writable, &cause));
        }
    };
    // A guard that is not dismissed finishes what is past the point of no return, until all of it is done.
    if let Err(cause) = open_target(&mut pause) {
        let writable = match pause.opened_at {
            Some(_) => Some(written_after(request.direction)),
            // It may have opened, and what it answered is lost.
            None => (!is_lost(&cause)).then_some(Writable::None),
        };
        return Ok(SwitchReport::of(&pause, request, SwitchOutcome::Unfinished)
            .unfinished(writable, &cause));
    }
    run.progress.announce(&format!(
        "switched: the application can write to {} on the {}",
        pause.dbnames().join(", "),
        pair.subscriber.side()
    ));
    let after = afterwards(&mut pause, config, run);
    if after.is_ok() {
        process.dismiss(pause.poolers.any_is_owed().then_some(Settled::Finished));
    }
    pause.heartbeat = None;
    let mut report =
        SwitchReport::of(&pause, request, SwitchOutcome::Switched).leaving_out(&pause, config.ddl);
    report.cause = after
        .err()
        .map(|cause| cause_of(&unfinished(cause, request)));
    Ok(report)
}

/// Up to the point of no return: whatever fails here is undone.
fn pause_and_win(pause: &mut Pause<'_>) -> Result<()> {
    engine::first_half(pause)?;
    if pause.has_switch_hook() {
        pause.take(StepName::Route, clients::route)?;
    }
    pause.take(StepName::Switching, switching::win)
}

/// How long a server may take for what cannot be undone any more, before it is left to the guard.
const PAST_RETURN: Duration = Duration::from_secs(5);

/// Beyond it nothing is undone: what fails is for the guard process, and for whoever reads the journal next.
fn open_target(pause: &mut Pause<'_>) -> Result<()> {
    let _shield = interrupt::Shield::raise();
    pause.deadline = Deadline::after(PAST_RETURN);
    pause.set_timeout(Timeout::For(PAST_RETURN));
    failpoint::before(StepName::Open.as_str(), &pause.deadline)
        .and_then(|()| open::open(pause))
        .map_err(|report| {
            let who = who_can_write(pause.pair, &report);
            report.wrap_err(who)
        })
        .hint_first(|| {
            format!(
                "the guard process goes on trying for two minutes; after that any flare command that reaches both servers finishes it (flare status). If the {} is dead: flare fallback --abandon-target",
                pause.pair.subscriber.side()
            )
        })?;
    if pause.poolers.is_empty() {
        return Ok(());
    }
    let released = pause.take_past_return(StepName::Resume, clients::release);
    pause.opened_at = Some(Instant::now());
    released
}

/// What is known of it when *to* was asked to open, and did not say that it has.
fn who_can_write(pair: &Pair, report: &Report) -> String {
    let (from, to) = (pair.publisher.side(), pair.subscriber.side());
    let past = "the point of no return is passed";
    if is_lost(report) {
        format!(
            "WHO CAN WRITE IS NOT KNOWN: {past}: nobody can on the {from}, and what the {to} answered to being opened is lost: everybody, if it has opened, or nobody"
        )
    } else {
        format!("NOBODY CAN WRITE: {past}, and the {to} was not opened")
    }
}

/// The fence, the end of the old stream, the beginning of the way back: the application does not wait for it.
fn afterwards(pause: &mut Pause<'_>, config: &Config, run: &Run) -> Result<()> {
    let _shield = interrupt::Shield::raise();
    match guard::dismiss(pause) {
        // What comes next would only wait for the same server.
        Err(report) if is_lost(&report) => {
            return Err(report.wrap_err("end the guard on the server"));
        }
        Err(report) => log::info!("end the guard: {report:#}"),
        Ok(()) => {}
    }
    pause.set_timeout(Timeout::For(AFTERWARDS));
    run.progress.step(if pause.entry.reverse {
        "fencing the server that was left, and starting the way back"
    } else {
        "fencing the server that was left"
    });
    let fencing = std::mem::take(&mut pause.fencing);
    let sessions = pause.databases.iter().map(|it| &it.sessions.lock.session);
    let locks = Locks::Standing(sessions.zip(fencing).collect());
    let free = [
        &pause.sessions.terminate.session,
        &pause.sessions.target_watch.session,
    ];
    let after = while_they_answer(&free, || {
        after::after(pause.pair, config, &pause.entry, locks, run)
    })?;
    pause.warnings.extend(after.warnings);
    pause.way_back_runs = after.way_back_runs;
    Ok(())
}

/// How long each of the statements after the switch may take.
const AFTERWARDS: Duration = Duration::from_secs(30);

fn unfinished(cause: Report, request: &PauseRequest) -> Report {
    let names: Vec<&str> = request
        .databases
        .iter()
        .map(|it| it.subname.as_str())
        .collect();
    Err::<(), _>(cause)
        .wrap_err("switched, and the application can write; but what comes after is not complete")
        .hint_first(|| {
            format!(
                "the guard process goes on with it for two minutes; after that run flare {} {} again",
                request.command(),
                names.join(" ")
            )
        })
        .unwrap_err()
}
