//! What can go wrong.

use super::place;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The step itself fails.
    Fails,
    /// It does not end within max_pause.
    TooLate,
    Interrupted,
    Terminated,
    FlareKilled,
    FlareAndGuardKilled,
    /// Its process stopped, until the pause is over.
    FlareFrozen,
    /// As a power failure of *from*, which comes back at once.
    FromCrashed,
    ToCrashed,
    /// All processes of the server stopped, until flare has given up.
    FromFrozen,
    ToFrozen,
    /// No byte passes between flare and the server, until flare has given up.
    FromSilent,
    ToSilent,
    /// Statements arrive there and their answers are not heard, until flare has given up.
    FromUnheard,
    ToUnheard,
    /// Connections are reset, and new ones refused until flare has given up.
    FromCutOff,
    ToCutOff,
    WalsenderEnded,
    ApplyEnded,
}

/// What `FLARE_FAILPOINT` does at the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Fail,
    Hold,
    Stop,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Fail => "fail",
            Action::Hold => "hold",
            Action::Stop => "stop",
        }
    }
}

impl Fault {
    pub const ALL: [Fault; 19] = [
        Fault::Fails,
        Fault::TooLate,
        Fault::Interrupted,
        Fault::Terminated,
        Fault::FlareKilled,
        Fault::FlareAndGuardKilled,
        Fault::FlareFrozen,
        Fault::FromCrashed,
        Fault::ToCrashed,
        Fault::FromFrozen,
        Fault::ToFrozen,
        Fault::FromSilent,
        Fault::ToSilent,
        Fault::FromUnheard,
        Fault::ToUnheard,
        Fault::FromCutOff,
        Fault::ToCutOff,
        Fault::WalsenderEnded,
        Fault::ApplyEnded,
    ];

    pub fn action(self) -> Action {
        match self {
            Fault::Fails => Action::Fail,
            Fault::TooLate
            | Fault::Interrupted
            | Fault::Terminated
            | Fault::FlareKilled
            | Fault::FlareAndGuardKilled => Action::Hold,
            _ => Action::Stop,
        }
    }

    /// After the point of no return nothing is undone, so there is nothing to be late for.
    pub fn is_possible_at(self, step: &str) -> bool {
        match self {
            Fault::TooLate | Fault::Interrupted | Fault::Terminated => {
                place(step) <= place("switching")
            }
            _ => true,
        }
    }

    /// Whether *from* has to be open again without another command: always before the point of no return, unless this
    /// fault leaves open whether that was passed.
    pub fn is_undone_by_itself_at(self, step: &str) -> bool {
        let before = |limit: &str| place(step) < place(limit);
        match self {
            // Nothing of `from` is needed between `disable` and the point of no return, and the statement that passes it may
            // arrive although flare has given up.
            Fault::FromFrozen | Fault::FromUnheard => before("disable"),
            _ if self.is_of_to() => before("mark"),
            _ => before("open"),
        }
    }

    /// Nothing of *to* is needed from `mark`, which it answers with its last batch, to the point of no return.
    fn is_of_to(self) -> bool {
        matches!(
            self,
            Fault::ToCrashed
                | Fault::ToFrozen
                | Fault::ToSilent
                | Fault::ToUnheard
                | Fault::ToCutOff
        )
    }

    /// Whether the run undoes itself, and can only do that.
    pub fn is_certainly_undone_at(self, step: &str) -> bool {
        let ends = matches!(
            self,
            Fault::Fails | Fault::TooLate | Fault::Interrupted | Fault::Terminated
        );
        ends && place(step) < place("open")
    }

    /// Whether the run may get over it and switch all the same.
    pub fn may_be_overcome_at(self, step: &str) -> bool {
        match self {
            Fault::WalsenderEnded | Fault::ApplyEnded => true,
            _ if self.is_of_to() => place(step) >= place("mark"),
            // Nothing of `to` is needed from there to the point of no return, and nothing undoes after it.
            _ => place(step) >= place("route"),
        }
    }
}
