//! `monitor`: the replication as both servers see it, again and again.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::error::Result;
use crate::flare::Flare;
use crate::observe::{Headline, Sample};
use crate::report::{self, Format, Outcome};

/// Watch the replication of a database: lag, slots, workers, tables, connections
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing. Reads both servers; one that goes away is shown as such, and asked again.

On a terminal, from 80x24 up, it draws a screen: q quits, p pauses, + and - look more or less often, Tab goes to the next \
panel, arrows move in it, ? shows all keys. NO_COLOR is respected. Elsewhere it prints one line per interval, with \
--format json one object. The first SIGINT or SIGTERM ends it normally.

It says why replication is slow, in a sentence that names the object. What takes two looks (rates, causes) is not in the \
first sample of a line per interval; --once looks twice, --interval apart.

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
        let mut watch = flare.watch(&self.dbname, &self.subname)?;
        if self.once {
            let sample = watch.sampler.sample_twice(self.interval)?;
            let headline = (watch.headline)().at(&sample);
            return Outcome::of(&Once { headline, sample });
        }
        report::watch(watch, self.interval, format)?;
        Ok(Outcome::silent())
    }
}

/// A sample with the line on top, once.
#[derive(Serialize)]
struct Once {
    headline: Headline,
    #[serde(flatten)]
    sample: Sample,
}

impl fmt::Display for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.headline, self.sample)
    }
}
