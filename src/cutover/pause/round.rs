//! The first round: the batches of its steps are sent at once, and the servers put them in order.

use std::time::Instant;

use crate::cutover::pause::apply::{self, Payload};
use crate::cutover::pause::batch::{self, Answer, Sent};
use crate::cutover::pause::drain;
use crate::cutover::pause::fencing::{self, Fencing};
use crate::cutover::pause::ready;
use crate::cutover::pause::revoke;
use crate::cutover::pause::table_locks;
use crate::cutover::pause::terminate::{self, Ended as Terminated};
use crate::cutover::report::{StepName, StepTime};
use crate::cutover::state::Pause;
use crate::error::Result;
use crate::journal::Purpose;
use crate::server::interrupt;
use crate::value::Lsn;

/// The steps whose batches are sent at once.
pub(super) fn steps(purpose: Purpose) -> Vec<StepName> {
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
    /// The last row is there, and the sequences are set.
    Arrived,
    Disabled(usize),
}

/// Sends the batches of these steps at once, and waits for all of them.
pub(super) fn send_and_await(pause: &mut Pause<'_>, steps: &[StepName]) -> Result<()> {
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
        let mut on_their_way = pause.databases.len();
        let round = batch::await_each(sent, until, |at| {
            if let Part::Arrived = parts[at] {
                on_their_way -= 1;
                if on_their_way == 0 && !pause.has_switch_hook() {
                    fencing::commit(pause);
                }
            }
        })?;
        (parts, round, fencing)
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
                sent.push((Part::Arrived, batch));
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
        Part::Other | Part::Arrived => {}
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
