//! `drop_publication`: nothing is replicated any more.

use crate::error::Result;
use crate::flare::{Flare, InUse};
use crate::report::Outcome;

/// Drop the publication of a database on the publisher
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: the publication on the publisher. No table and no row is touched. A publication that a \
subscription uses is refused, since that subscription would stop at its next change. The \
subscriber is only asked.

Example:
  flare drop_publication bench")]
pub(crate) struct DropPublication {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// Drop it although a subscription uses it
    #[arg(long)]
    force: bool,
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl DropPublication {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let in_use = if self.force {
            InUse::DropAnyway
        } else {
            InUse::Refuse
        };
        let change = flare
            .dry_run_if(self.dry_run)
            .drop_publication(&self.dbname, in_use)?;
        Outcome::of_change(&change)
    }
}
