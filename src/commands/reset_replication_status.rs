//! `reset_replication_status`: forgets the last probe row.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Delete the publisher's row from flare_replication_status, on both servers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: the row of the publisher's system identifier in flare_replication_status, on the \
publisher and on the subscriber.

Example:
  flare reset_replication_status bench")]
pub(crate) struct ResetReplicationStatus {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl ResetReplicationStatus {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let change = flare
            .dry_run_if(self.dry_run)
            .reset_replication_status(&self.dbname)?;
        Outcome::of_change(&change)
    }
}
