//! `replicate_sequences`: numbers go on where the publisher stands.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Set the subscriber's sequences to the publisher's values
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: sequences on the subscriber, in the direction of their increment: none is set back \
behind what it has reached there. The publisher is only read.

Example:
  flare replicate_sequences bench1")]
pub(crate) struct ReplicateSequences {
    /// The subscription, a key of `subscriptions`
    #[arg(value_name = "SUB")]
    subname: String,
    /// Show the values and change nothing
    #[arg(long, visible_alias = "dry-run")]
    only_show: bool,
}

impl ReplicateSequences {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let sequences = flare
            .dry_run_if(self.only_show)
            .replicate_sequences(&self.subname)?;
        let changed = sequences.changed;
        Ok(Outcome::of(&sequences)?.changed(changed))
    }
}
