//! `create_publication`: what is replicated.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Create the publication of a database on the publisher
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: on the publisher the publication, the table flare_replication_status, and REPLICA \
IDENTITY FULL for `replica_identity_full_tables`. The subscriber is only checked.

Tables whose UPDATE and DELETE could not be replicated are refused; `allow_no_identity` names \
those that may stay so.

Example:
  flare create_publication bench")]
pub(crate) struct CreatePublication {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl CreatePublication {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let change = flare
            .dry_run_if(self.dry_run)
            .create_publication(&self.dbname)?;
        Outcome::of_change(&change)
    }
}
