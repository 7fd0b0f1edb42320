//! `status`: who can write where, and what to type next.

use std::path::PathBuf;

use super::Globals;
use crate::error::{Failure, Result};
use crate::flare::Fleet;
use crate::report::Outcome;

/// Say who can write where, how far each migration is, and what to type next
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing, unless a pause, cutover or fallback was cut off: that is finished or undone first, when both servers \
answer, and said. With ddl: carry the subscription takes new tables. Else reads both servers, and goes on when one is down.

With --all it reads the configurations named, several at once, prints one line for each migration, and changes nothing \
at all. Exit code 1 when one could not be asked.

Example:
  flare status
  flare status --format json
  flare status --all /etc/flare/*.yml")]
pub(crate) struct Status {
    /// The migrations of these configurations, one line each
    #[arg(long, value_name = "FILE", num_args = 1..)]
    all: Vec<PathBuf>,
}

impl Status {
    pub(crate) fn run(&self, globals: &Globals) -> Result<Outcome> {
        if self.all.is_empty() {
            return Outcome::of(&globals.flare("status")?.status()?);
        }
        let flares = self
            .all
            .iter()
            .map(|file| (file.clone(), globals.flare_of(file, "status")));
        let fleet = Fleet::ask(flares.collect());
        let outcome = Outcome::of(&fleet)?;
        Ok(match fleet.failed() {
            0 => outcome,
            failed => outcome.verdict(Some(Failure::new(format!(
                "look at all migrations: {failed} could not be asked"
            )))),
        })
    }
}
