//! Which step may follow which, and the one statement that moves a run on: whoever wins its row goes on, nobody else.

use uuid::Uuid;

use super::{Purpose, Step};
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::Literal;

/// What may happen to a run: who wins which row is decided here and nowhere else. Each server has a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    /// On *from*, with the REVOKE.
    Pause,
    /// On *from*: a pause has succeeded, and no guard ends it any more.
    Hold,
    /// On *from*, by the guard on the server when `max_pause` is over.
    Expire(Purpose),
    /// On *from*, by this flare, whatever of its pause has reached the server.
    Undo(Purpose),
    /// On *from*, by whoever finds the run left behind.
    UndoLeft(Purpose),
    /// On *from*, by `resume_write`.
    Resume(Purpose),
    /// On both: nothing of the run is left.
    Forget,
    /// On *from*: the point of no return.
    Switch,
    /// On *to*, with its opening.
    Open,
    /// On *from*, which hears of the opening.
    HearOfOpening,
    /// On both, when all that comes after the switch is done.
    Close,
    /// On *from*, when *to* is given up.
    Abandon,
}

impl Transition {
    /// The steps from which it may happen, and the one that it leads to.
    pub(crate) fn steps(self) -> (&'static [Step], Step) {
        // What else a switch has built is still to be undone; a pause leaves nothing else.
        let undone = |purpose| match purpose {
            Purpose::PauseWrite => Step::Undone,
            Purpose::Switch => Step::Undoing,
        };
        match self {
            Transition::Pause => (&[Step::Preparing], Step::Paused),
            Transition::Hold => (&[Step::Paused], Step::Held),
            Transition::Expire(purpose) => (&[Step::Paused], undone(purpose)),
            Transition::Undo(purpose) => (
                &[Step::Preparing, Step::Paused, Step::Held],
                undone(purpose),
            ),
            Transition::UndoLeft(purpose) => (&[Step::Preparing, Step::Paused], undone(purpose)),
            Transition::Resume(purpose) => (
                &Step::SHUT,
                match purpose {
                    Purpose::PauseWrite => Step::Resumed,
                    Purpose::Switch => undone(purpose),
                },
            ),
            Transition::Forget => (&[Step::Undoing, Step::Preparing], Step::Undone),
            Transition::Switch => (&[Step::Paused], Step::Switching),
            Transition::Open => (&[Step::Preparing], Step::Switched),
            Transition::HearOfOpening => (&[Step::Switching], Step::Switched),
            Transition::Close => (&[Step::Switching, Step::Switched], Step::Closed),
            Transition::Abandon => (
                &[Step::Switching, Step::Switched, Step::Closed],
                Step::Undone,
            ),
        }
    }

    /// Whether it may happen to a run at this step.
    pub(crate) fn may_follow(self, step: Step) -> bool {
        self.steps().0.contains(&step)
    }

    /// The statement that wins the row of a run, or touches none; for batches that travel with what belongs to it.
    pub(crate) fn winning(self, run: Uuid) -> String {
        self.winning_with(run, "", "true")
    }

    /// The same with more to set, each with a comma before it, and with one more condition.
    pub(crate) fn winning_with(self, run: Uuid, set: &str, condition: &str) -> String {
        let (from, to) = self.steps();
        let from: Vec<String> = from
            .iter()
            .map(|it| Literal(it.as_str()).to_string())
            .collect();
        format!(
            "UPDATE flare.journal SET step = {}, changed_at = clock_timestamp(){set}
              WHERE run = {} AND step IN ({}) AND {condition}",
            Literal(to.as_str()),
            Literal(run.to_string()),
            from.join(", ")
        )
    }
}

/// Makes a transition; true when this session won. Only the winner goes on.
pub(crate) fn advance(session: &Session, run: Uuid, transition: Transition) -> Result<bool> {
    let (_, to) = transition.steps();
    let won = session
        .execute(&transition.winning(run), params![])
        .wrap_err_with(|| format!("write {:?} in the journal", to.as_str()))?;
    Ok(won == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Transition; 16] = [
        Transition::Pause,
        Transition::Hold,
        Transition::Expire(Purpose::PauseWrite),
        Transition::Expire(Purpose::Switch),
        Transition::Undo(Purpose::PauseWrite),
        Transition::Undo(Purpose::Switch),
        Transition::UndoLeft(Purpose::PauseWrite),
        Transition::UndoLeft(Purpose::Switch),
        Transition::Resume(Purpose::PauseWrite),
        Transition::Resume(Purpose::Switch),
        Transition::Forget,
        Transition::Switch,
        Transition::Open,
        Transition::HearOfOpening,
        Transition::Close,
        Transition::Abandon,
    ];

    #[test]
    fn nothing_undoes_what_is_past_the_point_of_no_return_but_giving_the_target_up() {
        for transition in ALL {
            let (from, to) = transition.steps();
            let undoes = from.iter().any(|step| step.is_past_return()) && !to.is_past_return();
            assert_eq!(undoes, transition == Transition::Abandon, "{transition:?}");
        }
    }

    #[test]
    fn the_point_of_no_return_is_won_from_a_pause_alone() {
        for transition in ALL {
            let (from, to) = transition.steps();
            if to == Step::Switching {
                assert_eq!(from, [Step::Paused], "{transition:?}");
            }
        }
        let sql = Transition::Switch.winning_with(Uuid::nil(), ", databases = '[]'", "locked");
        assert!(
            sql.contains("step IN ('paused') AND locked") && sql.contains("databases = '[]'"),
            "{sql}"
        );
    }
}
