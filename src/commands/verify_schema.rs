//! `verify_schema`: every object on both sides.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Compare every object of a database on both sides, and what no dump of a schema holds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing of the user's. The publisher's schema is loaded into a throwaway database of the subscriber, so that \
versions differ in nothing that they only spell differently, and dropped again; without the right to create one, or \
without a pg_dump that fits, the catalogs of both servers are compared.

Compared besides: owner, privileges, settings, comment and limit of the database, settings, attributes, comments and \
memberships of the roles that have to do with it, settings of all roles, tablespaces, the user's other publications. \
Versions of extensions that differ and sequences that stand behind are said; they are no differences. Exit codes: 0 equal, \
3 different, 1 could not look.

Example:
  flare verify_schema bench1
  flare verify_schema bench1 --format json")]
pub(crate) struct VerifySchema {
    /// The subscription, a key of `subscriptions`
    #[arg(value_name = "SUB")]
    subname: String,
}

impl VerifySchema {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let verification = flare.verify_schema(&self.subname)?;
        Ok(Outcome::of(&verification)?.verdict(verification.verdict()))
    }
}
