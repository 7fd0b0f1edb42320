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
use crate::cutover::pause::apply;
use crate::cutover::pause::apply::Payload;
use crate::cutover::pause::batch::{self, Answer, Sent};
use crate::cutover::pause::drain;
use crate::cutover::pause::fencing::{self, Fencing};
use crate::cutover::pause::guard;
use crate::cutover::pause::guard_process::GuardProcess;
use crate::cutover::pause::ready;
use crate::cutover::pause::revoke;
use crate::cutover::pause::switching;
use crate::cutover::pause::switching::Undecided;
use crate::cutover::pause::table_locks;
use crate::cutover::pause::terminate;
use crate::cutover::pause::terminate::Ended as Terminated;
use crate::cutover::report::{StepName, StepTime};
use crate::cutover::state::Pause;
use crate::error::{Report, Result, WrapErr, message_of};
use crate::journal::{Direction, Purpose, Transition};
use crate::replicate::Run;
use crate::server::{Pair, Session, Timeout, interrupt, is_lost, open_both, timed_out};
use crate::value::Lsn;

/// How the part of a run that can be undone has ended.
pub(crate) enum Ending {
    /// All steps were taken; the guard process waits to hear that the rest is done too.
    Done(GuardProcess),
    /// *from* is open as it was.
    Undone(Report),
}

/// Builds what the run needs, starts its guards, takes `steps`, and undoes what it has done when one of them fails.
///
/// # Errors
/// When *from* could not be opened again, or it is unknown whether the point of no return was passed.
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
    for steps in failpoint::rounds(&steps_of_the_round(pause.entry.purpose)) {
        if let Some(first) = steps.first() {
            failpoint::before(first.as_str(), &pause.deadline).wrap_err(first.as_str())?;
        }
        first_round(pause, &steps)?;
    }
    if pause.entry.purpose == Purpose::Switch {
        failpoint::before(StepName::Mark.as_str(), &pause.deadline)
            .wrap_err(StepName::Mark.as_str())?;
    }
    clients::await_held(pause)
}

/// The steps whose batches are sent at once.
fn steps_of_the_round(purpose: Purpose) -> Vec<StepName> {
    let mut steps = vec![
        StepName::Revoke,
        StepName::Terminate,
        StepName::Lock,
        StepName::Drain,
    ];
    if purpose == Purpose::Switch {
        steps.extend([StepName::Sequences, StepName::Disable]);
    }
    steps
}

/// Whose answer it is.
enum Part {
    Other,
    Terminated,
    Unblocked,
    Drained(usize),
    Disabled(usize),
}

/// Sends the batches of these steps at once, and waits for all of them.
fn first_round(pause: &mut Pause<'_>, steps: &[StepName]) -> Result<()> {
    let mut noticed_at = None;
    let (parts, round, fencing) = {
        let mut sent = Vec::new();
        let all_sent = send_round(pause, steps, &mut sent, &mut noticed_at)
            .and_then(|()| send_fencing(pause, steps));
        let fencing = match all_sent {
            Ok(fencing) => fencing,
            Err(report) => {
                batch::cancel(sent.iter().map(|(_, sent)| sent));
                return Err(report);
            }
        };
        // Of several that are late the earliest step is the cause.
        sent.sort_by_key(|(_, sent)| steps.iter().position(|step| *step == sent.step));
        let (parts, sent): (Vec<Part>, Vec<Sent<'_>>) = sent.into_iter().unzip();
        // The servers give up first, and say at what.
        let until = pause.deadline.at() + revoke::GRACE;
        (parts, batch::await_all(sent, until)?, fencing)
    };
    pause.fencing.extend(fencing);
    pause.began_at = noticed_at.or(pause.began_at);
    for step in round.steps {
        pause.steps.push(step);
    }
    for (part, answer) in parts.into_iter().zip(round.answers) {
        note(pause, part, answer)?;
    }
    Ok(())
}

/// Sends what waits for others first, and what others wait for when the application is to notice. Poolers hold their
/// clients back already: then nothing is put off.
fn send_round<'a>(
    pause: &'a Pause<'_>,
    steps: &[StepName],
    sent: &mut Vec<(Part, Sent<'a>)>,
    noticed_at: &mut Option<Instant>,
) -> Result<()> {
    for step in steps {
        waiting_batches(pause, *step, sent)?;
    }
    if pause.poolers.is_empty() && steps.contains(&StepName::Revoke) {
        ready::await_batches(pause, steps)?;
        *noticed_at = Some(Instant::now());
    }
    interrupt::check()?;
    for step in steps {
        match step {
            StepName::Revoke => sent.push((Part::Other, revoke::send(pause)?)),
            StepName::Lock => {
                for database in &pause.databases {
                    sent.push((Part::Other, table_locks::send(pause, database)?));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Each session of the locks goes on with it as soon as it has them, while the rest of the round is under way.
fn send_fencing(pause: &Pause<'_>, steps: &[StepName]) -> Result<Vec<Fencing>> {
    if pause.entry.purpose == Purpose::Switch && steps.contains(&StepName::Lock) {
        fencing::send(pause)
    } else {
        Ok(Vec::new())
    }
}

fn waiting_batches<'a>(
    pause: &'a Pause<'_>,
    step: StepName,
    sent: &mut Vec<(Part, Sent<'a>)>,
) -> Result<()> {
    let payload = match pause.entry.purpose {
        Purpose::Switch => Payload::Sequences,
        Purpose::PauseWrite => Payload::None,
    };
    match step {
        StepName::Terminate => sent.push((Part::Terminated, terminate::send(pause)?)),
        StepName::Lock => sent.push((Part::Unblocked, table_locks::send_unblock(pause)?)),
        StepName::Drain => {
            for (at, database) in pause.databases.iter().enumerate() {
                sent.push((Part::Drained(at), drain::send(pause, database)?));
                if payload == Payload::None {
                    let arrival = apply::send_sequences(pause, database, payload)?;
                    sent.push((Part::Other, arrival));
                }
            }
        }
        StepName::Sequences => {
            for database in &pause.databases {
                let batch = apply::send_sequences(pause, database, payload)?;
                sent.push((Part::Other, batch));
            }
        }
        StepName::Disable => {
            for (at, database) in pause.databases.iter().enumerate() {
                sent.push((Part::Disabled(at), apply::send_disable(pause, database)?));
            }
        }
        _ => {}
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct At {
    lsn: Lsn,
}

#[derive(serde::Deserialize)]
struct Mark {
    lsn: Lsn,
    ms: f64,
}

/// Keeps what a batch has found.
fn note(pause: &mut Pause<'_>, part: Part, answer: Answer) -> Result<()> {
    match part {
        Part::Other => {}
        Part::Terminated => {
            for ended in answer.found::<Vec<Terminated>>()? {
                let database = pause
                    .databases
                    .iter_mut()
                    .find(|it| it.dbname() == ended.dbname);
                if let Some(database) = database {
                    database.ended.insert(ended.pid);
                }
            }
        }
        Part::Unblocked => {
            let ended = answer.found::<Vec<i32>>()?;
            if let Some(database) = pause.databases.first_mut() {
                database.ended.extend(ended);
            }
        }
        Part::Drained(at) => pause.databases[at].drained = Some(answer.found::<At>()?.lsn),
        Part::Disabled(at) => {
            let mark = answer.found::<Mark>()?;
            pause.entry.databases[at].mark = Some(mark.lsn);
            let (step, ms) = (StepName::Mark, mark.ms);
            match pause.steps.iter_mut().find(|known| known.step == step) {
                Some(known) => known.ms = known.ms.max(ms),
                None => pause.steps.push(StepTime { step, ms }),
            }
        }
    }
    Ok(())
}

/// The least time that an undo gets, however short the pause was to be.
const UNDO_AT_LEAST: Duration = Duration::from_secs(2);

/// How long an undo may wait for *to*, whose part is left to the next command then.
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
    let within = Timeout::Until(Instant::now() + REST_WITHIN);
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
