//! `cutover`: the application writes on the subscriber from now on.

use crate::commands::switch::SwitchArgs;
use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Move the application to the subscriber, in one short pause, with a way back
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: before the pause, on the subscriber, closes the database where that is not so yet, sets the sequences, and \
makes a publication and a slot for the way back; on the publisher makes a disabled subscription. In the pause takes \
CONNECT on the publisher, ends all sessions there, locks the published tables, waits until everything has arrived, \
disables the subscription, opens the subscriber, and gives CONNECT on the publisher back, whose sessions are read-only \
from then on (cutover.left: shut gives nothing back). Afterwards fences the publisher's tables against everyone but \
replication, drops the old subscription with its slot, and starts the way back. Both servers keep a record in the journal (flare.journal in the database postgres). A pause that is not complete \
within --max-pause is undone, even if flare is killed; past the point of no return it is finished, even then.

Example:
  flare cutover bench1 --dry-run
  flare cutover bench1 --yes --max-pause 2s
  flare cutover --all --yes")]
pub(crate) struct Cutover {
    #[command(flatten)]
    switch: SwitchArgs,
}

impl Cutover {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        self.switch.run(flare, "cut over", Flare::cutover)
    }
}
