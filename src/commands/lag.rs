//! `lag`: how far subscriptions are behind, for cron, Nagios and Prometheus.

use std::path::PathBuf;

use crate::config::{self, Limit};
use crate::error::{Exit, Failure, Result};
use crate::flare::{Flare, LagStatus};
use crate::report::{Outcome, textfile};

/// Say how far subscriptions are behind, with the exit codes of Nagios
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: no data. Reads both servers, and writes down where the publisher was, in the table flare.sample of its database \
postgres, made when the superuser of the configuration may: from it a later run knows how old the subscriber is.

Exit code: 0 ok, 1 warning, 2 critical, 3 unknown (a server that does not answer, a wrong command line or \
configuration). Limits are those of `lag` in the configuration unless a flag says otherwise; a lag of more than the \
limit counts.

Example:
  flare lag
  flare lag bench1 --warning 64MB --warning 30s --critical 1GB --critical 5m
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
}

impl Lag {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
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
        let outcome = Outcome::of(&report)?;
        match report.status {
            LagStatus::Ok if self.quiet => Ok(Outcome::silent()),
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
                Ok(outcome.verdict(Some(failure)).told())
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
