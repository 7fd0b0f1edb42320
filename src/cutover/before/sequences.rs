//! sequences: numbers go on where they were. Replication leaves sequences out.

use std::collections::BTreeMap;

use crate::catalog::sequences::{self, SequenceState};
use crate::cutover::state::Database;
use crate::error::{Result, WrapErr};
use crate::replicate::sequences as carry;
use crate::value::TableName;

/// Sets all of them once, before the pause.
pub(crate) fn set_all(database: &mut Database) -> Result<()> {
    database.on_to = by_name(sequences::read(&database.sessions.arrival.session)?);
    let now = sequences::read(&database.sessions.probe.session)?;
    set(database, now)
}

fn by_name(states: Vec<SequenceState>) -> BTreeMap<TableName, SequenceState> {
    let named = states.into_iter().map(|state| (state.name.clone(), state));
    named.collect()
}

/// Sets those that have moved, where that does not take *to* back.
fn set(database: &mut Database, now: Vec<SequenceState>) -> Result<()> {
    let has_moved = |state: &&SequenceState| database.on_from.get(&state.name) != Some(state);
    let moved: Vec<SequenceState> = now.iter().filter(has_moved).cloned().collect();
    let there: Vec<SequenceState> = moved
        .iter()
        .filter_map(|state| database.on_to.get(&state.name).cloned())
        .collect();
    let plan = carry::plan(&moved, &there)?;
    carry::set(&database.sessions.arrival.session, &plan)
        .wrap_err_with(|| format!("set the sequences of {:?}", database.dbname()))?;
    let set = plan.iter().zip(moved).filter(|(planned, _)| planned.set);
    for (_, state) in set {
        database.on_to.insert(state.name.clone(), state);
    }
    database.on_from = by_name(now);
    Ok(())
}
