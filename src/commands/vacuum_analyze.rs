//! `vacuum_analyze`: good plans on the subscriber, early.

use crate::error::Result;
use crate::flare::Flare;
use crate::report::Outcome;

/// Vacuum a database of the subscriber and gather its statistics, in parallel and in stages
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: statistics and visibility maps of the database on the subscriber, as db_owner. The publisher is only checked.

Rough statistics for every table come first, then better ones, then VACUUM (ANALYZE), the largest tables first. \
Tables that db_owner may not vacuum are named and skipped.

Example:
  flare vacuum_analyze bench --jobs 8")]
pub(crate) struct VacuumAnalyze {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// How many tables at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = jobs)]
    jobs: usize,
    /// List the tables and change nothing
    #[arg(long)]
    dry_run: bool,
}

fn jobs(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=1000) => Ok(jobs),
        _ => Err("it is a number from 1 to 1000".into()),
    }
}

impl VacuumAnalyze {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let vacuumed = flare
            .dry_run_if(self.dry_run)
            .vacuum_analyze(&self.dbname, self.jobs)?;
        let changed = !vacuumed.dry_run && vacuumed.tables > 0;
        Ok(Outcome::of(&vacuumed)?.changed(changed))
    }
}
