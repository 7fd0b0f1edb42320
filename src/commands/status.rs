//! `status`: who can write where, and what to type next.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::Globals;
use crate::error::{Failure, Result};
use crate::flare::{Fleet, Repaired, StatusReport};
use crate::report::Outcome;

/// Say who can write where, how far each migration is, and what to type next
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing, unless a pause, cutover or fallback was cut off: that is finished or undone first, when both servers \
answer, and said. With ddl: carry the subscription takes new tables. Else reads both servers, and goes on when one is down.

With --repair what the side that follows only lacks is made there first (tables, partitions, columns, indexes), new tables \
are taken by the subscription, and their rows awaited; what differs is left, and named.

With --all it reads the configurations named, several at once, prints one line for each migration, and changes nothing \
at all. Exit code 1 when one could not be asked.

Example:
  flare status
  flare status --format json
  flare status --repair
  flare status --all /etc/flare/*.yml")]
pub(crate) struct Status {
    /// The migrations of these configurations, one line each
    #[arg(long, value_name = "FILE", num_args = 1..)]
    all: Vec<PathBuf>,
    /// First make what the side that follows only lacks, and await the rows of new tables
    #[arg(long, conflicts_with = "all")]
    repair: bool,
}

impl Status {
    pub(crate) fn run(&self, globals: &Globals) -> Result<Outcome> {
        if self.all.is_empty() {
            let flare = globals.flare("status")?;
            if !self.repair {
                return Outcome::of(&flare.status()?);
            }
            let repaired = flare.repair(&[])?;
            let changed = repaired
                .iter()
                .any(|it| !it.made.is_empty() || !it.tables.is_empty());
            let status = flare.status()?;
            return Ok(Outcome::of(&Repair { repaired, status })?.changed(changed));
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

/// What was made, and how it stands then.
#[derive(Serialize)]
struct Repair {
    repaired: Vec<Repaired>,
    #[serde(flatten)]
    status: StatusReport,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for repaired in &self.repaired {
            for statement in &repaired.made {
                writeln!(f, "made: {statement}")?;
            }
            for table in &repaired.tables {
                writeln!(f, "replicates from now on: {}", table.plain())?;
            }
            for note in &repaired.notes {
                writeln!(f, "note: {note}")?;
            }
        }
        write!(f, "{}", self.status)
    }
}
