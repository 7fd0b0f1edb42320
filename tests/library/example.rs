use std::path::Path;
use std::time::Duration;

use pg_flare::Flare;
use pg_flare::config::Config;
use pg_flare::error::{Failure, Result};
use pg_flare::flare::{CountOn, PauseOptions, PauseOutcome};

/// Pauses writes, compares a table, and lets the application go on, whatever the comparison says.
pub fn same_on_both_sides(
    config: &Path,
    program: &Path,
    dbname: &str,
    table: &str,
) -> Result<bool> {
    let flare = Flare::new(Config::load(config)?)
        .for_command("compare")
        // A pause outlives no crash: the program flare watches over it.
        .guarded_by(program);
    if let Some(failure) = flare.verify_connectivity()?.verdict() {
        return failure.err();
    }
    let options = PauseOptions {
        allowed_rep_duration: Duration::ZERO,
        ..PauseOptions::default()
    };
    let paused = flare.pause_write(dbname, None, &options)?;
    if paused.outcome != PauseOutcome::Paused {
        return Failure::new(format!("pause {dbname:?}: {:?}", paused.outcome)).err();
    }
    let counted = flare.count(dbname, &table.parse()?, CountOn::Both);
    flare.resume_write(dbname)?;
    let counted = counted?;
    Ok(counted.publisher == Some(counted.subscriber))
}
