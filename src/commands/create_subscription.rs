//! `create_subscription`: the subscriber begins to copy and to follow.

use crate::error::Result;
use crate::flare::{Flare, Target, Wait};
use crate::report::Outcome;
use crate::server::Login;

/// Create a subscription on the subscriber, with its slot on the publisher
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: a replication slot on the publisher; on the subscriber the subscription, the table \
flare_replication_status, and the rows that are copied. The subscriber's database is closed to \
everybody but replication: a trigger flare_fence on every published table refuses writes, and \
sessions are read-only by default, so that clients that know both servers go to the publisher; \
drop_subscription and cleanup open it again. From 16 on, what its owner lacks is \
granted, and named in the subscription's comment. An open transaction that keeps the slot from \
being made is named, and waited for up to 30 seconds.

Interrupted while it waits for the copy (--wait), the subscription goes on by itself.

Example:
  flare create_subscription --use-repl-user --wait bench1")]
pub(crate) struct CreateSubscription {
    /// The subscription, a key of `subscriptions`
    #[arg(value_name = "SUB")]
    subname: String,
    /// The subscriber connects to the publisher as repl_user instead of the superuser
    #[arg(long)]
    use_repl_user: bool,
    /// Show the copy's progress and return when every table is ready
    #[arg(long)]
    wait: bool,
    /// Leave the subscriber's database open to writes of others, as the original does
    #[arg(long)]
    leave_open: bool,
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl CreateSubscription {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let login = if self.use_repl_user {
            Login::Replication
        } else {
            Login::Superuser
        };
        let target = if self.leave_open {
            Target::LeftOpen
        } else {
            Target::Closed
        };
        let wait = if self.wait {
            Wait::UntilReady
        } else {
            Wait::No
        };
        let change = flare.dry_run_if(self.dry_run).create_subscription(
            &self.subname,
            login,
            target,
            wait,
        )?;
        Outcome::of_change(&change)
    }
}
