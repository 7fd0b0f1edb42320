//! mark: the way back starts here. Taken after DISABLE has committed, and only remembered: advancing a slot now would
//! cap at the flushed position and send applied rows back.

use super::state::Pause;
use crate::error::{Result, WrapErr};
use crate::server::params;
use crate::value::Lsn;

/// Remembers where *to* stands; `switching` writes it down.
pub(crate) fn remember(pause: &mut Pause<'_>) -> Result<()> {
    let gate = &pause.sessions.gate.session;
    let mark: String = gate
        .value("SELECT pg_current_wal_insert_lsn()::text", params![])
        .wrap_err("read the position of the target")?;
    let mark: Lsn = mark.parse()?;
    for member in &mut pause.entry.databases {
        member.mark = Some(mark);
    }
    Ok(())
}
