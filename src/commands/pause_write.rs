//! `pause_write`: no writes on the publisher until `resume_write`.

use std::time::Duration;

use crate::cutover::PauseOutcome;
use crate::error::Result;
use crate::flare::{Flare, PauseOptions};
use crate::report::Outcome;

/// Pause writes to a database on the publisher, and wait until the last one is on the subscriber
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: on the publisher, takes CONNECT on the database from everyone but those whom replication needs, ends the \
application's sessions, locks the published tables until everything has arrived, and keeps a record in the journal \
(flare.journal in the database postgres). On the subscriber, nothing. A pause that is not complete within \
--max-pause is undone, even if flare is killed.

Example:
  flare pause_write bench
  flare pause_write bench bench1 --app-user app --max-pause 2s")]
pub(crate) struct PauseWrite {
    /// The database, a key of `publications`
    #[arg(value_name = "DB")]
    dbname: String,
    /// The subscription; may be left out when the configuration has only one for the database
    #[arg(value_name = "SUB")]
    subname: Option<String>,
    /// End only the sessions of this role (repeatable); by default cutover.app_users, or everyone but superusers
    #[arg(long, value_name = "ROLE")]
    app_user: Vec<String>,
    /// Refuse when the replication has run for less than this
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    allowed_rep_duration: Duration,
    /// Undo the pause when it takes longer; by default cutover.max_pause, or 10s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_pause: Option<Duration>,
    /// Look at everything, change nothing
    #[arg(long)]
    dry_run: bool,
}

impl PauseWrite {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let options = PauseOptions {
            app_users: self.app_user.clone(),
            allowed_rep_duration: self.allowed_rep_duration,
            max_pause: self.max_pause,
        };
        let flare = flare.dry_run_if(self.dry_run);
        let report = flare.pause_write(&self.dbname, self.subname.as_deref(), &options)?;
        let changed = [PauseOutcome::Paused, PauseOutcome::Unfinished];
        let outcome = Outcome::of(&report)?.changed(changed.contains(&report.outcome));
        Ok(outcome.verdict(report.verdict()))
    }
}
