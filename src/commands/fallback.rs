//! `fallback`: the application writes on the publisher again.

use crate::commands::switch::SwitchArgs;
use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Move the application back to the publisher, with what was written since the cutover
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: the same as cutover with the servers' parts exchanged: the subscriber is left, fenced, and follows the \
publisher again; the publisher's fence is taken away and it is opened. What was written on the subscriber since \
the cutover is on the publisher. With --abandon-target the dead subscriber is left as it is, or the publisher that died \
before a fallback could open it: make sure that it is dead, since one that is only frozen or cut off goes on taking writes.

Example:
  flare fallback bench1 --yes
  flare fallback --all --dry-run
  flare fallback bench1 --abandon-target --yes")]
pub(crate) struct Fallback {
    #[command(flatten)]
    switch: SwitchArgs,
    /// The server that was switched to is dead: open the other with what it has; what had not come back is lost, and said
    #[arg(long)]
    abandon_target: bool,
}

impl Fallback {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        if self.abandon_target {
            self.switch.run(
                flare,
                "abandon the server that was switched to, of",
                |flare, subnames, _| flare.abandon_target(subnames),
            )
        } else {
            self.switch.run(flare, "fall back with", Flare::fallback)
        }
    }
}
