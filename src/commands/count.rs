//! `count`: how many rows a table has.

use crate::error::Result;
use crate::flare::{CountOn, Flare};
use crate::report::Outcome;

/// Count the rows of a table on the subscriber
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing. Reads the subscriber; with --both the publisher too.

Example:
  flare count bench pgbench_accounts
  flare count --both bench 'app.\"Order\"'")]
pub(crate) struct Count {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// The table: `table` is in public, `schema.table`, quotes as in SQL for names with dots; never folded
    table: String,
    /// Publisher and subscriber side by side
    #[arg(long)]
    both: bool,
}

impl Count {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let table = self.table.parse()?;
        let on = if self.both {
            CountOn::Both
        } else {
            CountOn::Subscriber
        };
        Outcome::of(&flare.count(&self.dbname, &table, on)?)
    }
}
