//! `resume_write`: the application writes on, with its privileges as they were.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Let the application write again, with its privileges exactly as they were before pause_write
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: on the publisher, gives CONNECT on the database back, entry by entry, and records it in the journal. It \
needs only the publisher, works while the subscriber is dead, and ends a pause that is still under way.

Example:
  flare resume_write bench")]
pub(crate) struct ResumeWrite {
    /// The database
    #[arg(value_name = "DB")]
    dbname: String,
    /// The subscription, accepted beside the database as in pause_write
    #[arg(value_name = "SUB")]
    subname: Option<String>,
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl ResumeWrite {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        if let Some(subname) = &self.subname {
            flare
                .config()
                .subscription_of(&self.dbname, Some(subname))?;
        }
        let report = flare.dry_run_if(self.dry_run).resume_write(&self.dbname)?;
        Ok(Outcome::of(&report)?.changed(report.changed))
    }
}
