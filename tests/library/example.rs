use std::path::Path;
use std::time::Duration;

use pg_flare::config::Config;
use pg_flare::flare::{CountOn, PauseOptions};
use pg_flare::{Error, Flare};

/// Pauses writes, compares a table, and lets the application go on, whatever the comparison says.
pub fn same_on_both_sides(
    config: &Path,
    program: &Path,
    dbname: &str,
    table: &str,
) -> Result<bool, Error> {
    let flare = Flare::new(Config::load(config)?)
        .for_command("compare")
        // A pause outlives no crash: the program flare watches over it.
        .guarded_by(program);
    if let Some(error) = flare.verify_connectivity()?.verdict() {
        return Err(error);
    }
    let options = PauseOptions {
        allowed_rep_duration: Duration::ZERO,
        ..PauseOptions::default()
    };
    let paused = flare.pause_write(dbname, None, &options)?;
    if let Some(error) = paused.verdict() {
        return Err(error);
    }
    let counted = flare.count(dbname, &table.parse()?, CountOn::Both);
    flare.resume_write(dbname)?;
    let counted = counted?;
    Ok(counted.publisher == Some(counted.subscriber))
}
