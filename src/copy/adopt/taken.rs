//! The clone, taken by a program of the user's once the slot is there.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::AdoptBegun;
use crate::error::{Failure, Result, WrapErr};
use crate::server::interrupt;
use crate::tools::{End, HookProcess};
use crate::value::ShellWord;

/// A clone takes hours: only a signal ends the program.
const LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The program, found before anything is changed; none where the user takes the clone.
pub(super) fn program(argv: &[String]) -> Result<Option<PathBuf>> {
    let Some(name) = argv.first() else {
        return Ok(None);
    };
    which::which(name).map(Some).map_err(|_| {
        Failure::usage(format!(
            "find the program that takes the clone: {name:?} is not there, or may not be executed"
        ))
        .hint("give its path, and make it executable: chmod +x")
        .into()
    })
}

/// Runs it and waits for its end. It has no shell and no standard input, and is told what it needs by its environment.
pub(super) fn run(program: &PathBuf, argv: &[String], begun: &AdoptBegun) -> Result<()> {
    let what = format!("take the clone by {}", program.display());
    let again = || {
        format!(
            "mend it and run the same command again: the slot is there and stays, and keeps WAL on the publisher; or give the adoption up: flare drop_subscription {}",
            ShellWord(&begun.subname)
        )
    };
    interrupt::check()?;
    let mut command = Command::new(program);
    command
        .args(argv.get(1..).unwrap_or_default())
        .env("FLARE_SUBNAME", &begun.subname)
        .env("FLARE_DBNAME", &begun.dbname)
        .env("FLARE_SLOT_NAME", &begun.slot_name)
        .env(
            "FLARE_SLOT_LSN",
            begun
                .slot_lsn
                .map_or_else(String::new, |lsn| lsn.to_string()),
        )
        .env("FLARE_FROM_HOST", &begun.host)
        .env("FLARE_FROM_PORT", begun.port.to_string());
    let started = HookProcess::start(&mut command, "clone");
    let mut running = started.wrap_err_with(|| what.clone())?;
    match running.wait(LIMIT).wrap_err_with(|| what.clone())? {
        End::Exited(status) if status.success() => Ok(()),
        End::Exited(status) => Failure::new(format!("{what}: {status}{}", running.last_words()))
            .hint(again())
            .err(),
        End::Late => Failure::new(format!("{what}: it did not end"))
            .hint(again())
            .err(),
        End::Interrupted => Err(interrupt::interrupted().wrap_err(what)),
    }
}
