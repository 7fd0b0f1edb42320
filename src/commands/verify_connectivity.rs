//! `verify_connectivity`: can every user of both sides log in, and is each server the declared one?

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Check that every user of both sides can connect, and that both servers are the declared ones
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing. Where a subscription is configured, the subscriber's way to the publisher is tried in a \
transaction that is rolled back.

Example:
  flare --config rds_test.yml verify_connectivity")]
pub(crate) struct VerifyConnectivity {}

impl VerifyConnectivity {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let connectivity = flare.verify_connectivity()?;
        Ok(Outcome::of(&connectivity)?.verdict(connectivity.verdict()))
    }
}
