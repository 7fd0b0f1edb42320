//! `prepare`: everything up to the cutover.

use crate::error::Result;
use crate::flare::{Flare, PrepareCopy};
use crate::report::{self, Outcome};

/// Do everything up to the cutover, from verify_connectivity to statistics
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: what these commands change, in this order: verify_connectivity, replicate_roles, install_extensions, \
grant_create, grant_replication (where repl_user is configured), replicate_schema, create_publication, \
create_replication_status_table, create_subscription --wait, replicate_sequences, vacuum_analyze.

Each is done only where it is missing: after an interruption or an error the same command goes on. It asks first, \
on a terminal; elsewhere it wants --yes.

Example:
  flare prepare bench1 --dry-run
  flare prepare bench1 --yes")]
pub(crate) struct Prepare {
    /// The subscription, a key of `subscriptions`
    #[arg(value_name = "SUB")]
    subname: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// How rows are copied: fast by initial_copy, where the subscriber's database holds nothing yet and its administrator is
    /// a superuser; native by PostgreSQL itself
    #[arg(long, value_enum, default_value_t)]
    copy: Copy,
    /// Show what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// How rows are copied.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Copy {
    #[default]
    Fast,
    Native,
}

impl Prepare {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let dbname = &flare.config().subscription(&self.subname)?.dbname;
        if !self.yes && !self.dry_run {
            let what = format!("prepare the migration of database {dbname:?}");
            report::confirm(&what, dbname)?;
        }
        let copy = match self.copy {
            Copy::Fast => PrepareCopy::Fast,
            Copy::Native => PrepareCopy::Native,
        };
        let flare = flare.dry_run_if(self.dry_run);
        let report = flare.prepare(&self.subname, copy)?;
        Ok(Outcome::of(&report)?.changed(report.changed))
    }
}
