//! `lag`: how far subscriptions are behind, for cron, Nagios and Prometheus.

use std::path::{Path, PathBuf};

use crate::config::{self, Limit};
use crate::error::{Exit, Failure, Result, message_of};
use crate::flare::{Flare, LagReport, LagStatus};
use crate::observe::nagios;
use crate::report::on_change::{Statuses, is_news, remember, remembered};
use crate::report::{Format, Outcome, object, on_change, textfile};

/// Say how far subscriptions are behind, with the exit codes of Nagios
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: no data. Reads both servers, and writes down where the publisher was, in the table flare.sample of its database \
postgres, made when the superuser of the configuration may: from it a later run knows how old the subscriber is. With ddl: carry the subscription takes new tables. \
Of a subscription that stands it peeks at the first changes in the slot, for two seconds at most, and moves nothing; a worker that starts meanwhile tries again.

Beside the lag it looks for WAL that runs out of room (hours left, by how the slot's WAL grew since earlier runs), errors, \
tables that are published and not subscribed, a schema that has drifted, and a side that is not closed as flare left it.

Exit code: 0 ok, 1 warning, 2 critical, 3 unknown (a server that does not answer, a wrong command line or \
configuration). Limits are those of `lag` in the configuration unless a flag says otherwise; a lag of more than the \
limit counts, and less than the hours left (left=24h). --format nagios prints what a plugin prints.

Example:
  flare lag
  flare lag bench1 --warning 64MB --warning 30s --critical 1GB --critical 5m
  flare lag --on-change 'curl -fsS -d @- https://hooks.example.com/flare' --state /var/lib/flare/lag.json
  * * * * * /usr/local/bin/flare --config /etc/flare.yml lag --quiet --prometheus /var/lib/node_exporter/flare.prom")]
pub(crate) struct Lag {
    /// The subscriptions, keys of `subscriptions`; all when none is named
    #[arg(value_name = "SUB")]
    subnames: Vec<String>,
    /// From where on it is worth a warning: a size (64MB) or a duration (30s); may be repeated
    #[arg(long, value_name = "LIMIT")]
    warning: Vec<Limit>,
    /// From where on it is critical
    #[arg(long, value_name = "LIMIT")]
    critical: Vec<Limit>,
    /// Print nothing when all is well
    #[arg(long)]
    quiet: bool,
    /// Write the figures for node_exporter's textfile collector as well
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
    /// Run this by sh when a status has changed since the last run, with the JSON on its standard input
    #[arg(long, value_name = "CMD", requires = "state")]
    on_change: Option<String>,
    /// Where the last run's status is remembered; made when missing, and no harm when lost
    #[arg(long, value_name = "FILE", requires = "on_change")]
    state: Option<PathBuf>,
}

impl Lag {
    pub(crate) fn run(&self, flare: &Flare, format: Format) -> Result<Outcome> {
        let declared = flare.config().lag;
        let limits = config::Lag {
            warning: declared.warning.with(&self.warning),
            critical: declared.critical.with(&self.critical),
            ..declared
        };
        let report = flare.lag(&self.subnames, &limits)?;
        if let Some(path) = &self.prometheus {
            textfile::write(path, &report.prometheus())?;
        }
        let outcome = self.outcome(&report, &limits, format)?;
        if let (Some(command), Some(path)) = (&self.on_change, &self.state) {
            tell(command, path, &report, &outcome)?;
        }
        match report.status {
            LagStatus::Ok if self.quiet => Ok(Outcome::silent()),
            _ => Ok(outcome),
        }
    }

    fn outcome(&self, report: &LagReport, limits: &config::Lag, format: Format) -> Result<Outcome> {
        let mut outcome = Outcome::of(report)?;
        if format == Format::Nagios {
            outcome = outcome.words(nagios(report, limits));
        }
        match report.status {
            LagStatus::Ok => Ok(outcome),
            status => {
                let worst = report.subscriptions.iter().find(|it| it.status == status);
                let words = worst.map_or(String::new(), |it| {
                    format!("subscription {:?}: {}", it.subname, it.message)
                });
                let hint = match status {
                    LagStatus::Unknown => "run flare verify_connectivity",
                    _ => "flare monitor DB SUB shows what holds it up",
                };
                let code = Exit::Code(exit_code(status));
                let failure = Failure::new(words).hint(hint).exit(code);
                Ok(outcome.verdict(Some(failure)).verdict_is_in_words())
            }
        }
    }
}

/// Nagios's exit codes.
pub(super) fn exit_code(status: LagStatus) -> i32 {
    match status {
        LagStatus::Ok => 0,
        LagStatus::Warning => 1,
        LagStatus::Critical => 2,
        LagStatus::Unknown => 3,
    }
}

/// Runs the command when a status has changed. One that fails is a warning: the status itself is the answer.
fn tell(command: &str, path: &Path, report: &LagReport, outcome: &Outcome) -> Result<()> {
    let word = |status: LagStatus| status.to_string().to_lowercase();
    let now = Statuses {
        status: word(report.status),
        subscriptions: report
            .subscriptions
            .iter()
            .map(|it| (it.subname.clone(), word(it.status)))
            .collect(),
    };
    textfile::check(path)?;
    let before = remembered(path);
    if !is_news(before.as_ref(), &now) {
        return match before {
            Some(_) => Ok(()),
            None => remember(path, &now),
        };
    }
    let text = serde_json::Value::Object(object("lag", outcome)).to_string();
    if let Err(report) = on_change::tell(command, path, before.as_ref(), &now, &text) {
        log::warn!("{}", message_of(&report));
    }
    Ok(())
}
