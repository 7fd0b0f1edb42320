//! `verify_data`: every row on both sides.

use crate::error::{Error, Result};
use crate::flare::{DataOptions, Flare, Resume, Values};
use crate::report::Outcome;
use crate::value::Size;

/// Compare every row of the published tables on both sides, while the application writes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: nothing of the user's. Rows of flare_replication_status travel through the subscription and are taken away at \
the end; how far it has come is kept in flare.verified in the database postgres of the subscriber.

Both servers hash their rows in one canonical form; no row leaves them but those that differ, which are named by their \
key with the columns that differ. It follows the direction: after a cutover the subscriber's rows are compared with what \
has come back. A row is called different only when that is proven, whatever is written meanwhile; what cannot be decided \
is named as such. While the application writes it pauses as long as keeps the writers' rate, unless --jobs or --max-rate \
says how hard to work. Exit codes: 0 all equal, 3 different or undecided, 1 could not look.

Example:
  flare verify_data bench1
  flare verify_data bench1 --table app.orders
  flare verify_data bench1 --jobs 1 --max-rate 20MB --resume     # at night, on a busy database, as far as the night goes
  flare verify_data bench1 --sample 5 --format json")]
pub(crate) struct VerifyData {
    /// The subscription, a key of `subscriptions`
    #[arg(value_name = "SUB")]
    subname: String,
    /// Only this table (repeatable): `table` is in public, `schema.table`, quotes as in SQL for names with dots
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Only about N percent of each table that has a key, in chunks chosen at random
    #[arg(long, value_name = "N", value_parser = percent)]
    sample: Option<f64>,
    /// How many chunks at once, without pauses for the application's writes [default: 2, with pauses]
    #[arg(long, value_name = "N", value_parser = jobs)]
    jobs: Option<usize>,
    /// At most so much a second, such as 50MB, of the tables as they are on disk, instead of pauses
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    max_rate: Option<Size>,
    /// Go on where the last run was cut off; tables that it had found equal are not compared again
    #[arg(long, conflicts_with = "sample")]
    resume: bool,
    /// Name the columns that differ, but show no values other than keys
    #[arg(long)]
    no_values: bool,
}

fn jobs(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=64) => Ok(jobs),
        _ => Err("it is a number from 1 to 64".into()),
    }
}

fn percent(text: &str) -> std::result::Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("it is a percentage above 0 and up to 100".into()),
    }
}

fn rate(text: &str) -> std::result::Result<Size, String> {
    match text.trim_end_matches("/s").parse::<Size>() {
        Ok(Size(0)) => Err("nothing would ever be compared".into()),
        Ok(size) => Ok(size),
        Err(report) => Err(report.to_string()),
    }
}

impl VerifyData {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let tables = self.tables.iter().map(|table| table.parse());
        let options = DataOptions {
            tables: tables.collect::<Result<_, Error>>()?,
            sample_percent: self.sample.filter(|percent| *percent < 100.0),
            jobs: self.jobs,
            max_rate: self.max_rate,
            resume: if self.resume {
                Resume::LastRun
            } else {
                Resume::Anew
            },
            values: if self.no_values {
                Values::Hidden
            } else {
                Values::Shown
            },
        };
        let verification = flare.verify_data(&self.subname, &options)?;
        Ok(Outcome::of(&verification)?.verdict(verification.verdict()))
    }
}
