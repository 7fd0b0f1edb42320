//! `replicate_schema`: a database with the publisher's schema on the subscriber.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;
use crate::server::Login;

/// Create a database on the subscriber with the publisher's schema, owner, settings, privileges and comment
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: the database of this name on the subscriber, in one transaction; what fails leaves nothing behind. A database \
that holds the same schema is left as it is, one that holds another is refused. The publisher is only read.

Example:
  flare replicate_schema bench
  flare replicate_schema --use-db-owner bench
  flare replicate_schema --missing bench")]
pub(crate) struct ReplicateSchema {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// Print the SQL as it would be loaded, and change nothing
    #[arg(long)]
    only_dump: bool,
    /// Make what the subscriber's database only lacks, by both catalogs: what the application has made since; nothing
    /// that is there is changed
    #[arg(long, conflicts_with_all = ["only_dump", "use_db_owner"])]
    missing: bool,
    /// Dump as the database's owner
    #[arg(long)]
    use_db_owner: bool,
    /// Show what would be done, and change nothing
    #[arg(long, conflicts_with = "only_dump")]
    dry_run: bool,
}

impl ReplicateSchema {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        if self.missing {
            let loaded = flare
                .dry_run_if(self.dry_run)
                .replicate_missing(&self.dbname)?;
            return Ok(Outcome::of(&loaded)?.changed(loaded.changed));
        }
        let login = Login::owner_if(self.use_db_owner);
        if self.only_dump {
            return Ok(Outcome::silent().sql(flare.dump_schema(&self.dbname, login)?));
        }
        let change = flare
            .dry_run_if(self.dry_run)
            .replicate_schema(&self.dbname, login)?;
        Ok(Outcome::of(&change)?.changed(change.changed))
    }
}
