//! `cleanup`: what flare has put in place goes.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::{self, Outcome};

/// End a migration: remove what flare has put in place on both sides
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: on both servers, drops the migration's subscriptions, slots and publications, the fence, the table \
flare_replication_status and the journal; each is listed first. Never a table or a row of yours. After a cutover \
CONNECT on the database of the server that was left is revoked, and the statements that give it back are printed; \
replication ends, and with it the way back. When the server that was left does not answer any more, what is on the other one goes.

Example:
  flare cleanup bench1 --dry-run
  flare cleanup bench1 --yes")]
pub(crate) struct Cleanup {
    /// The subscription, a key of `subscriptions`
    #[arg(value_name = "SUB")]
    subname: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Show what would be removed and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Cleanup {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let dbname = &flare.config().subscription(&self.subname)?.dbname;
        let listed = || flare.dry_run_if(true).cleanup(&self.subname);
        if self.dry_run {
            return Outcome::of_change(&listed()?);
        }
        if !self.yes {
            let list = || Ok(listed()?.to_string());
            report::confirm_list(list, &format!("remove this from {dbname:?}"), dbname)?;
        }
        Outcome::of_change(&flare.cleanup(&self.subname)?)
    }
}
