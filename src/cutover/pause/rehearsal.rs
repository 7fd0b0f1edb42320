//! The pause, played once before it begins: each session looks at what its batch will look at, and changes nothing.
//!
//! What a session of PostgreSQL asks for the first time it reads and plans for some milliseconds, ten times as long as later.

use std::time::{Duration, Instant};

use crate::cutover::pause::{apply, batch, drain, open, revoke, switching, table_locks, terminate};
use crate::cutover::state::Pause;
use crate::error::{Failure, Report, Result, message_of};
use crate::journal::Purpose;
use crate::server::timed_out;

/// Plays it. Afterwards the sessions hold the locks of the signals that they will give.
pub(in crate::cutover) fn play(pause: &Pause<'_>) -> Result<()> {
    let mut sent = vec![
        revoke::rehearse(pause)?,
        terminate::rehearse(pause)?,
        table_locks::rehearse_unblock(pause)?,
    ];
    for database in &pause.databases {
        sent.push(table_locks::rehearse(database)?);
        sent.push(drain::rehearse(pause, database)?);
        sent.push(apply::rehearse_sequences(pause, database)?);
        if pause.entry.purpose == Purpose::Switch {
            sent.push(apply::rehearse_disable(database)?);
        }
    }
    if pause.entry.purpose == Purpose::Switch {
        sent.extend(open::rehearse(pause)?);
    }
    match batch::await_all(sent, Instant::now() + pause.max_pause) {
        Err(report) if timed_out(&report) => return longer_than(pause.max_pause, &report),
        played => played?,
    };
    if pause.entry.purpose == Purpose::Switch {
        switching::rehearse(pause)?;
    }
    Ok(())
}

/// A limit that the rehearsal alone exceeds is too short for the pause.
fn longer_than(max_pause: Duration, cause: &Report) -> Result<()> {
    Failure::new(format!(
        "the rehearsal alone takes longer than max_pause ({}): {}",
        humantime::format_duration(max_pause),
        message_of(cause)
    ))
    .hint("give the pause more time by --max-pause or cutover.max_pause: it lasts for some round trips; nothing was paused")
    .err()
}
