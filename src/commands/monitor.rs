//! `monitor`: the replication as both servers see it, again and again.

use std::time::Duration;

use crate::error::Result;
use crate::flare::Flare;
use crate::report::{self, Format, Outcome};

/// Watch the replication of a database: lag, slots, workers, tables, connections
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing. Reads both servers; one that goes away is shown as such, and asked again.

On a terminal it draws a screen: q quits, p pauses. Elsewhere it prints one sample per interval, with --format json one \
object per line. The first SIGINT or SIGTERM ends it normally.

Example:
  flare monitor bench bench1
  flare monitor bench bench1 --once --format json")]
pub(crate) struct Monitor {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// The subscription, a key of `subscriptions`
    #[arg(value_name = "SUB")]
    subname: String,
    /// Print one sample and exit
    #[arg(long)]
    once: bool,
    /// How often to look
    #[arg(long, value_name = "D", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> std::result::Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(interval) if interval >= Duration::from_millis(10) => Ok(interval),
        Ok(_) => Err("it is at least 10ms".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl Monitor {
    pub(crate) fn run(&self, flare: &Flare, format: Format) -> Result<Outcome> {
        let mut sampler = flare.sampler(&self.dbname, &self.subname)?;
        if self.once {
            return Outcome::of(&sampler.sample_twice(self.interval)?);
        }
        report::watch(&mut sampler, self.interval, format)?;
        Ok(Outcome::silent())
    }
}
