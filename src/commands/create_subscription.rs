//! `create_subscription`: the subscriber begins to copy and to follow.

use crate::error::Result;
use crate::flare::{Flare, Wait};
use crate::report::Outcome;
use crate::server::Login;

/// Create a subscription on the subscriber, with its slot on the publisher
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: a replication slot on the publisher; on the subscriber the subscription, the table \
flare_replication_status, and the rows that are copied; from 16 on, what its owner lacks is \
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
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl CreateSubscription {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let login = match self.use_repl_user {
            true => Login::Replication,
            false => Login::Superuser,
        };
        let wait = match self.wait {
            true => Wait::UntilReady,
            false => Wait::No,
        };
        let change =
            flare
                .dry_run_if(self.dry_run)
                .create_subscription(&self.subname, login, wait)?;
        Outcome::of_change(&change)
    }
}
