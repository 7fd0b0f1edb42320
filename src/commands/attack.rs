//! `attack`: writes as an application does, and measures what it sees.

use std::path::PathBuf;
use std::time::Duration;

use crate::attack::{self, Attack as Options, NextHost};
use crate::error::{Error, Result};
use crate::report::{Outcome, Terminal, textfile};

/// Write to the database flare_test as an application does, until Ctrl-C
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: rows of the tables items and sessions of flare_test (or of a database with tables of exactly that shape), \
on the servers of --dsn; nothing else. No configuration is read.

It inserts rows as fast as --clients can, or at --rate, and renews its row in sessions every 100 ms. With --ledger \
it updates and deletes rows of its own, too, in transactions of several statements, and records what was acknowledged; \
flare verify_attack replays that. SIGINT, SIGTERM or --duration end it with a summary, and with a picture of the run \
when --plot says where: operations per second by server, latency, and the longest time without an answer.

With several --dsn a client that loses its session goes on as libpq does with target_session_attrs=read-write: it \
begins with the first server, and tries the next one only where nobody listens, after 57P03 (starting up or shutting \
down), and when the session is read-only; any other refusal is an error, and the next attempt begins with the first \
again. With --any-error it tries the next after any error, as pgjdbc does. While no server takes any, one client looks \
for all, every few milliseconds; what it sees counts as errors.

Example:
  flare attack --dsn postgres://app:app@127.0.0.1:5432/flare_test --clients 4 --duration 30s
  flare attack --dsn postgres://app@old/flare_test --dsn postgres://app@new/flare_test --ledger ledger.jsonl --plot run.svg")]
pub(crate) struct Attack {
    /// Where to write; given again: the servers of an application that has several addresses, in their order
    #[arg(
        long = "dsn",
        value_name = "DSN",
        default_value = "postgres://postgres:postgres@127.0.0.1:5432/flare_test"
    )]
    dsns: Vec<String>,
    /// Try the next --dsn after any error, as pgjdbc does, instead of libpq's rule
    #[arg(long)]
    any_error: bool,
    /// The heartbeat's row in sessions
    #[arg(long, value_name = "ID", default_value = "flare")]
    name: String,
    /// How many clients write at once, each with a session of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clients)]
    clients: usize,
    /// Operations per second over all clients; without it as many as they can
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// How long, like 30s or 2m; without it until a signal
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Record every acknowledged operation at the end of this file; FILE.underway beside it holds what is not answered yet
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Draw the run into this file, an SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

fn clients(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(clients @ 1..=10_000) => Ok(clients),
        _ => Err("it is a number from 1 to 10000".into()),
    }
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.001 => Ok(rate),
        _ => Err("it is a number of operations per second, at least 0.001".into()),
    }
}

impl Attack {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let options = Options {
            dsns: self.dsns.clone(),
            next_host: if self.any_error {
                NextHost::AnyError
            } else {
                NextHost::AsLibpq
            },
            name: self.name.clone(),
            clients: self.clients,
            rate: self.rate,
            duration: self.duration,
            ledger: self.ledger.clone(),
        };
        if let Some(path) = &self.plot {
            textfile::check(path)?;
        }
        let attacked = attack::attack(&options, &Terminal::default())?;
        // The picture may be missing; what was measured is said all the same.
        let drawn: Result<(), Error> = self
            .plot
            .as_ref()
            .map_or(Ok(()), |path| Ok(textfile::write(path, &attacked.plot()?)?));
        let summary = &attacked.summary;
        let changed = summary.acknowledged + summary.heartbeats > 0;
        Ok(Outcome::of(summary)?.changed(changed).verdict(drawn.err()))
    }
}
