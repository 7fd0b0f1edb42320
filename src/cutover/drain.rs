//! drain: everything on *to*. A row written behind the wall arrives after all that was written before it.
//!
//! Never `sent_lsn`, which counts what was not even sent as done; never the age of feedback, which costs half a second.

use super::state::Pause;
use crate::error::Result;

/// Waits until everything that was written is on *to*, in all databases.
pub(crate) fn drain(pause: &mut Pause<'_>) -> Result<()> {
    let identifier = pause.pair.publisher.identifier();
    let probes: Vec<_> = pause
        .databases
        .iter()
        .map(|database| database.probe(identifier))
        .collect();
    let mut sent = Vec::new();
    for probe in &probes {
        sent.push(probe.write()?);
    }
    for (probe, row) in probes.iter().zip(&sent) {
        probe.arrive(row, &pause.deadline)?;
    }
    let positions: Vec<_> = sent.iter().map(|row| row.lsn).collect();
    for (database, lsn) in pause.databases.iter_mut().zip(positions) {
        database.drained = Some(lsn);
    }
    Ok(())
}
