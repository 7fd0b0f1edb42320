//! `create_replication_status_table`: where the probe rows of a cutover travel.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Create the table flare_replication_status on both servers, and publish it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: the table public.flare_replication_status, owned by the database's owner, on both \
servers where the database exists; on the publisher a publication that lists its tables; on the \
subscriber the table list of the subscription.

Example:
  flare create_replication_status_table bench")]
pub(crate) struct CreateReplicationStatusTable {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl CreateReplicationStatusTable {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let change = flare
            .dry_run_if(self.dry_run)
            .create_replication_status_table(&self.dbname)?;
        Outcome::of_change(&change)
    }
}
