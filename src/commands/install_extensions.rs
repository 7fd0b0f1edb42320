//! `install_extensions`: the publisher's extensions in the subscriber's database.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;
use crate::server::Login;

/// Create the extensions of a database of the publisher in the subscriber's, in the same schemas
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: extensions of the subscriber's database and the schemas they need, in one transaction; the database is created \
when it is not there yet. The publisher is only read.

Example:
  flare install_extensions bench
  flare install_extensions --only-show bench")]
pub(crate) struct InstallExtensions {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// Only list the publisher's extensions, and what the subscriber has or offers
    #[arg(long)]
    only_show: bool,
    /// Read and create as the database's owner
    #[arg(long)]
    use_db_owner: bool,
    /// Show the statements and change nothing
    #[arg(long, conflicts_with = "only_show")]
    dry_run: bool,
}

impl InstallExtensions {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let login = Login::owner_if(self.use_db_owner);
        if self.only_show {
            return Outcome::of(&flare.list_extensions(&self.dbname, login)?);
        }
        let installed = flare
            .dry_run_if(self.dry_run)
            .install_extensions(&self.dbname, login)?;
        Ok(Outcome::of(&installed)?.changed(installed.change.changed))
    }
}
