//! `adopt`: a clone of the publisher becomes the subscriber.

use clap::Subcommand;

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;
use crate::server::Login;

/// Take over a clone of the publisher as the subscriber, and copy nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: begin: a replication slot on the publisher, and table flare.adopt in its postgres; the clone is to be taken after it, by you or by the PROGRAM after --. \
measure: what is on record there; the clone is only read. finish: the subscription, the fence and a read-only default on the \
subscriber.

The clone is a snapshot of the volumes, a base backup, a promoted standby or a restored RDS snapshot, started alone \
(max_logical_replication_workers = 0, autovacuum = off, no clients). It is measured at its first start, before pg_upgrade.

Example:
  flare adopt begin bench1
  flare adopt begin bench1 -- /opt/clone/take-snapshot --wait
  flare adopt measure bench1 --clone 'host=clone user=postgres dbname=bench'
  flare adopt finish --use-repl-user bench1")]
pub(crate) struct Adopt {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Make the slot, before the clone is taken
    Begin {
        /// The subscription, a key of `subscriptions`
        #[arg(value_name = "SUB")]
        subname: String,
        /// Show what would be done and change nothing
        #[arg(long)]
        dry_run: bool,
        /// What takes the clone once the slot is there: a program and its arguments
        #[arg(last = true, value_name = "PROGRAM")]
        hook: Vec<String>,
    },
    /// Find the point that the clone has reached, and prove it by the transactions of the stream
    Measure {
        /// The subscription, a key of `subscriptions`
        #[arg(value_name = "SUB")]
        subname: String,
        /// How to reach the clone, as a superuser, in the database (PGPASSWORD may hold the password)
        #[arg(long, value_name = "CONNINFO")]
        clone: String,
        /// Show what would be put on record
        #[arg(long)]
        dry_run: bool,
    },
    /// Create the subscription and have it begin at that point
    Finish {
        /// The subscription, a key of `subscriptions`
        #[arg(value_name = "SUB")]
        subname: String,
        /// The subscriber connects to the publisher as repl_user instead of the superuser
        #[arg(long)]
        use_repl_user: bool,
        /// Show the statements and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

impl Adopt {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        match &self.step {
            Step::Begin {
                subname,
                dry_run,
                hook,
            } => {
                let begun = flare.dry_run_if(*dry_run).adopt_begin(subname, hook)?;
                Ok(Outcome::of(&begun)?.changed(begun.changed))
            }
            Step::Measure {
                subname,
                clone,
                dry_run,
            } => {
                let measured = flare.dry_run_if(*dry_run).adopt_measure(subname, clone)?;
                Ok(Outcome::of(&measured)?.changed(measured.changed))
            }
            Step::Finish {
                subname,
                use_repl_user,
                dry_run,
            } => {
                let login = if *use_repl_user {
                    Login::Replication
                } else {
                    Login::Superuser
                };
                let change = flare.dry_run_if(*dry_run).adopt_finish(subname, login)?;
                Outcome::of_change(&change)
            }
        }
    }
}
