//! `preflight`: what would go wrong.

use crate::error::Result;
use crate::flare::{Flare, OnWarning};
use crate::report::Outcome;

/// Say what would go wrong, before anything is touched and at any later point
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing. Both servers are read, in transactions that can only read.

Each finding is a blocker, a warning or a pass, with the objects, the statement that mends it, and its paragraph in the \
README. What stands only in the way of a cutover is a warning until the subscription streams. Exit code 3 with blockers.

Example:
  flare preflight
  flare preflight bench --deny-warnings --format json")]
pub(crate) struct Preflight {
    /// The databases, keys of `publications`; all of them when none is named
    #[arg(value_name = "DB")]
    dbnames: Vec<String>,
    /// Exit with 3 when there are warnings, too
    #[arg(long)]
    deny_warnings: bool,
}

impl Preflight {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let found = flare.preflight(&self.dbnames)?;
        let on_warning = if self.deny_warnings {
            OnWarning::Deny
        } else {
            OnWarning::Pass
        };
        let verdict = found.verdict(on_warning);
        Ok(Outcome::of(&found)?.verdict(verdict))
    }
}
