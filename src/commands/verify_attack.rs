//! `verify_attack`: is everything that was acknowledged there, and nothing else?

use std::path::PathBuf;

use crate::attack;
use crate::error::Result;
use crate::report::Outcome;

/// Replay the ledger of an attack against a server: rows lost, extra or with another value
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing. Reads the ledger, and the tables items and sessions of the server of --dsn. No configuration is read. \
Exit code 3 when a row is lost, should not be there, or has another value, or when lines of the ledger are missing or \
there twice.

Example:
  flare verify_attack --ledger ledger.jsonl --dsn postgres://app:app@127.0.0.1:5433/flare_test")]
pub(crate) struct VerifyAttack {
    /// The file that attack --ledger wrote; given again for generators that wrote to the same tables
    #[arg(long = "ledger", value_name = "FILE", required = true)]
    ledgers: Vec<PathBuf>,
    /// The server to look at
    #[arg(
        long,
        value_name = "DSN",
        default_value = "postgres://postgres:postgres@127.0.0.1:5432/flare_test"
    )]
    dsn: String,
}

impl VerifyAttack {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let replay = attack::verify(&self.ledgers, &self.dsn)?;
        Ok(Outcome::of(&replay)?.verdict(replay.verdict()))
    }
}
