//! `grant_create`: lets the administrator create publications.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;
use crate::server::Login;

/// Grant CREATE and CONNECT on a database to the superuser of the configuration, on the publisher
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: privileges of the database on the publisher. The subscriber is only checked.

Example:
  flare grant_create --use-db-owner bench")]
pub(crate) struct GrantCreate {
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

impl GrantCreate {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let login = Login::owner_if(self.use_db_owner);
        let change = flare
            .dry_run_if(self.dry_run)
            .grant_create(&self.dbname, login)?;
        Outcome::of_change(&change)
    }
}
