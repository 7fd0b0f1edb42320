//! The pause, played once before it begins: each session looks at what its batch will look at, and changes nothing.
//!
//! What a session of PostgreSQL asks for the first time it reads and plans for some milliseconds, ten times as long as later.

use std::time::Instant;

use crate::cutover::pause::{apply, batch, drain, open, revoke, switching, table_locks, terminate};
use crate::cutover::state::Pause;
use crate::error::Result;
use crate::journal::Purpose;

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
    batch::await_all(sent, Instant::now() + pause.max_pause)?;
    if pause.entry.purpose == Purpose::Switch {
        switching::rehearse(pause)?;
    }
    Ok(())
}
