//! `init_config`: a configuration to start from.

use crate::error::Result;
use crate::flare;
use crate::report::Outcome;

/// Write a first configuration for two servers to standard output
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing. Reads identifiers, databases and role names of both servers. Passwords of the connection strings are \
used and not written: the configuration names environment variables. What cannot be known is CHANGE_ME.

Example:
  flare init_config --publisher postgres://postgres@old:5432/postgres --subscriber postgres://postgres@new:5432/postgres > flare.yml")]
pub(crate) struct InitConfig {
    /// The server whose databases move; without a password in it, PGPASSWORD of the environment is used
    #[arg(long, value_name = "CONNINFO")]
    publisher: String,
    /// The server they move to
    #[arg(long, value_name = "CONNINFO")]
    subscriber: String,
}

impl InitConfig {
    pub(crate) fn run(&self) -> Result<Outcome> {
        Outcome::of(&flare::init_config(&self.publisher, &self.subscriber)?)
    }
}
