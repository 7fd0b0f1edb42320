//! `drop_subscription`: the subscriber no longer follows.

use crate::error::Result;
use crate::flare::{Flare, OldSlot, Unreachable};
use crate::report::Outcome;

/// Drop a subscription on the subscriber, and its slot on the publisher
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: the subscription on the subscriber, its replication slots on the publisher, and from 16 \
on what create_subscription granted to its owner, unless another of that owner's subscriptions \
rests on it. No table and no row is touched.

Example:
  flare drop_subscription bench1")]
pub(crate) struct DropSubscription {
    /// The subscription, a key of `subscriptions`
    #[arg(value_name = "SUB")]
    subname: String,
    /// Leave the slot on the publisher; it retains WAL until it is dropped
    #[arg(long)]
    keep_slot: bool,
    /// Drop it although the publisher cannot be reached; its slot stays there
    #[arg(long)]
    force: bool,
    /// Show the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl DropSubscription {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let slot = if self.keep_slot {
            OldSlot::Keep
        } else {
            OldSlot::Drop
        };
        let unreachable = if self.force {
            Unreachable::Detach
        } else {
            Unreachable::Refuse
        };
        let change =
            flare
                .dry_run_if(self.dry_run)
                .drop_subscription(&self.subname, slot, unreachable)?;
        Outcome::of_change(&change)
    }
}
