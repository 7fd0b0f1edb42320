//! What `cutover` and `fallback` have in common.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::flare::{Flare, Proven, SwitchOptions, SwitchOutcome, SwitchReport};
use crate::report::{self, Outcome};

/// Arguments of `cutover` and `fallback`.
#[derive(Debug, clap::Args)]
pub(crate) struct SwitchArgs {
    /// The subscriptions, keys of `subscriptions`; several are moved in one pause, all of them or none
    #[arg(value_name = "SUB", required_unless_present = "all")]
    subnames: Vec<String>,
    /// All subscriptions of the configuration, in one pause
    #[arg(long, conflicts_with = "subnames")]
    all: bool,
    /// Undo the pause when it takes longer; by default cutover.max_pause, or 10s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_pause: Option<Duration>,
    /// Make no way back: the other server stays behind
    #[arg(long)]
    no_reverse: bool,
    /// Refuse unless flare verify_data has found every published table equal since this direction began
    #[arg(long)]
    verified: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Look at everything and show the plan, change nothing
    #[arg(long)]
    dry_run: bool,
}

impl SwitchArgs {
    pub(super) fn run(
        &self,
        flare: &Flare,
        verb: &str,
        switch: fn(&Flare, &[String], &SwitchOptions) -> Result<SwitchReport, Error>,
    ) -> Result<Outcome> {
        let dbnames = flare.databases_of(&self.subnames)?;
        if !self.yes && !self.dry_run {
            let names = dbnames.join(",");
            report::confirm(&format!("{verb} {names:?}"), &names)?;
        }
        let options = SwitchOptions {
            max_pause: self.max_pause,
            no_reverse: self.no_reverse,
            proven: if self.verified {
                Proven::Required
            } else {
                Proven::Said
            },
        };
        let report = switch(&flare.dry_run_if(self.dry_run), &self.subnames, &options)?;
        let changed = [SwitchOutcome::Switched, SwitchOutcome::Unfinished];
        let outcome = Outcome::of(&report)?.changed(changed.contains(&report.outcome));
        Ok(outcome.verdict(report.verdict()))
    }
}
