//! `initial_copy`: tables, rows and indexes in parallel, then the subscription.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::flare::{CopyOptions, Flare, Restart};
use crate::report::Outcome;
use crate::server::Login;
use crate::value::Size;

/// Copy a subscription's tables in parallel, and begin it where the copy ends
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: on the publisher a replication slot, and a session that keeps its snapshot; on the subscriber the database \
with its tables, rows, indexes and the rest, closed to everybody else, and the subscription. Instead of \
replicate_schema and create_subscription.

Interrupted or killed, the same command goes on with what is missing: as long as the snapshot lives with exactly the \
parts that were under way, after that, as a superuser, with the tables that were not finished.

Example:
  flare initial_copy --use-repl-user bench1
  flare initial_copy --use-repl-user --jobs 8 --max-rate 100MB bench1")]
pub(crate) struct InitialCopy {
    /// The subscription, a key of `subscriptions`
    #[arg(value_name = "SUB")]
    subname: String,
    /// The subscriber connects to the publisher as repl_user instead of the superuser; a copy that goes on keeps to it
    #[arg(long)]
    use_repl_user: bool,
    /// Sessions on either server that copy, and then build indexes, at once [default: 2, or 1 where a server has no room
    /// for more]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Copy no more than this a second
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    max_rate: Option<Size>,
    /// How long the publisher keeps the snapshot of a copy that nobody goes on with
    #[arg(long, value_name = "DURATION", default_value = "48h", value_parser = hold)]
    max_hold: Duration,
    /// Begin anew: tables that an interrupted copy has filled are emptied
    #[arg(long)]
    restart: bool,
    /// Show what would be copied and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl InitialCopy {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let login = if self.use_repl_user {
            Login::Replication
        } else {
            Login::Superuser
        };
        let options = CopyOptions {
            jobs: self.jobs.map(usize::from),
            max_rate: self.max_rate.map(|rate| rate.0),
            max_hold: self.max_hold,
            restart: if self.restart {
                Restart::Yes
            } else {
                Restart::No
            },
        };
        let copied = flare
            .dry_run_if(self.dry_run)
            .initial_copy(&self.subname, login, options)?;
        Ok(Outcome::of(&copied)?.changed(copied.changed))
    }
}

/// What travels at once is 64 kB: slower than that a second, a copy would seem to stand.
fn rate(text: &str) -> std::result::Result<Size, String> {
    let rate: Size = text.parse().map_err(|error: Error| error.to_string())?;
    if rate.0 < 64 << 10 {
        return Err("it is 64kB a second at least".to_owned());
    }
    Ok(rate)
}

/// For the server's timeout none at all would be for ever.
fn hold(text: &str) -> std::result::Result<Duration, String> {
    let hold = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if hold < Duration::from_secs(1) {
        return Err("it is 1s at least".to_owned());
    }
    Ok(hold)
}
