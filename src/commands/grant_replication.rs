//! `grant_replication`: lets the replication user read what is published.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;
use crate::server::Login;

/// Grant the replication user all privileges on a database and its published tables, on the publisher
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: privileges of the database, its published schemas (all schemas while there is no \
publication), their tables and sequences, and the default privileges for new ones, on the \
publisher. Only what is missing is granted. Where row security would hide rows of a published table \
from the user, it gets BYPASSRLS, if the account may give it: who replicates reads every row. \
The subscriber is only checked.

Example:
  flare grant_replication --use-db-owner bench")]
pub(crate) struct GrantReplication {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// Grant as the database's owner
    #[arg(long)]
    use_db_owner: bool,
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl GrantReplication {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let login = Login::owner_if(self.use_db_owner);
        let change = flare
            .dry_run_if(self.dry_run)
            .grant_replication(&self.dbname, login)?;
        Outcome::of_change(&change)
    }
}
