//! `status`: who can write where, and what to type next.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Say who can write where, how far each migration is, and what to type next
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing, unless a pause, cutover or fallback was cut off: that is finished or undone first, when both servers \
answer, and said. With ddl: carry the subscription takes new tables. Else reads both servers, and goes on when one is down.

Example:
  flare status
  flare status --format json")]
pub(crate) struct Status {}

impl Status {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        Outcome::of(&flare.status()?)
    }
}
