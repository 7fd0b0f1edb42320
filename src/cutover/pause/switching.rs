//! switching: the point of no return. It is won, not set: only while the run is paused and nobody can write on *from*.

use crate::cutover::deadline::Deadline;
use crate::cutover::pause::{batch, fencing};
use crate::cutover::report::StepName;
use crate::cutover::state::Pause;
use crate::error::{Failure, Report, Result, WrapErr};
use crate::journal::{self, Step, Transition};
use crate::server::{Server, interrupt, is_lost};
use crate::value::Literal;

/// Whether this run has passed the point of no return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Won {
    Yes,
    /// Somebody undoes it, or somebody could write on *from*.
    No,
}

/// The answer was lost, and the row cannot be read again: neither done nor undone.
#[derive(Debug)]
pub(crate) struct Undecided;

impl std::fmt::Display for Undecided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "whether the point of no return was passed is unknown, so nothing more is done here: the guard process decides, or the next flare command",
        )
    }
}

impl std::error::Error for Undecided {}

/// Whether the error leaves the run to whoever reads the journal next.
pub(crate) fn is_undecided(report: &Report) -> bool {
    report.downcast_ref::<Undecided>().is_some()
}

/// Wins the row. When the answer is lost, the row is read again. A signal waits until it is known who has won.
pub(crate) fn win(pause: &mut Pause<'_>) -> Result<()> {
    interrupt::check()?;
    let _shield = interrupt::Shield::raise();
    // Without a hook in between they were told beside the end of the round before.
    if pause.has_switch_hook() {
        fencing::commit(pause);
    }
    let won = match try_win(pause, &fencing::await_prepared(pause), pause.deadline) {
        Err(report) if is_lost(&report) => {
            read_again(pause, &report).map_err(|cause| cause.wrap_err(Undecided))?
        }
        tried => tried?,
    };
    match won {
        Won::Yes => Ok(()),
        Won::No => Err(fencing::refused(pause).unwrap_or_else(|| {
            Failure::new("it was not won: a guard has ended the pause, or a table's lock is gone")
                .into()
        })),
    }
}

/// Asks for the row when `waits` is over, in one round trip.
fn try_win(pause: &Pause<'_>, waits: &str, deadline: Deadline) -> Result<Won> {
    let databases = serde_json::to_string(&pause.members()).wrap_err("write the journal entry")?;
    let databases = format!(", databases = {}", Literal(&databases));
    let fenced = fencing::nobody_can_write(pause);
    let winning = Transition::Switch.winning_with(pause.run(), &databases, &fenced);
    let block = batch::block(
        deadline.left(),
        "",
        waits,
        &format!("{winning}; answer := to_jsonb(FOUND);"),
    );
    let sent = batch::send(
        StepName::Switching,
        "write \"switching\" in the journal",
        &pause.sessions.connect,
        batch::answering(&block),
    )?;
    let round = batch::await_all(vec![sent], deadline.at())?;
    let won = match round.answers.into_iter().next() {
        Some(answer) => answer.found::<bool>()?,
        None => false,
    };
    Ok(if won { Won::Yes } else { Won::No })
}

/// Asks for the row while it cannot be won: the run is not paused yet.
pub(in crate::cutover) fn rehearse(pause: &Pause<'_>) -> Result<()> {
    // The pause's own has not begun.
    match try_win(pause, "", Deadline::of_the_pause(pause.max_pause))? {
        Won::No => Ok(()),
        Won::Yes => Failure::new("the point of no return was passed before the pause").err(),
    }
}

/// A new session ends the one that asked, so that its statement cannot come later, and looks what has become of it.
fn read_again(pause: &Pause<'_>, cause: &Report) -> Result<Won> {
    log::warn!("{cause:#}; asking again by another session");
    let from: &Server = &pause.pair.publisher;
    let session = from.connect(pause.sessions.connect_login, "postgres")?;
    let lost = &pause.sessions.connect.backend;
    for backend in journal::backends_alive(&session, std::slice::from_ref(lost))? {
        crate::cutover::pause::backends::end_and_await(&session, &backend)?;
    }
    match journal::step_of(&session, pause.run())? {
        Step::Switching => Ok(Won::Yes),
        _ => Ok(Won::No),
    }
}
