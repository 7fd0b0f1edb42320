//! `create_attack_db`: a database to try things on.

use crate::attack::{AttackDatabase, Existing};
use crate::error::Result;
use crate::report::Outcome;

/// Create the database flare_test with the tables that attack writes to
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: the database flare_test, its tables and their privileges, on the server of --base-dsn; nothing else. \
No configuration is read. --drop-db-before drops flare_test only if nothing but these tables is in it.

Example:
  flare create_attack_db --app-user app --base-dsn postgres://postgres:postgres@127.0.0.1:5432")]
pub(crate) struct CreateAttackDb {
    /// The role that is granted everything on the tables; it has to exist
    #[arg(long, value_name = "ROLE", default_value = "app")]
    app_user: String,
    /// The server, as a role that may create databases
    #[arg(
        long,
        value_name = "DSN",
        default_value = "postgres://postgres:postgres@127.0.0.1:5432"
    )]
    base_dsn: String,
    /// Drop flare_test first, with all the rows in its tables
    #[arg(long)]
    drop_db_before: bool,
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl CreateAttackDb {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let database = AttackDatabase {
            base_dsn: self.base_dsn.clone(),
            app_user: self.app_user.clone(),
            existing: if self.drop_db_before {
                Existing::Drop
            } else {
                Existing::Keep
            },
            dry_run: self.dry_run,
        };
        let created = database.create()?;
        Ok(Outcome::of(&created)?.changed(created.changed))
    }
}
