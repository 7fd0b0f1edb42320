//! Sequences, with the value the next call continues from.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Failure, Result, WrapErr};
use crate::server::{Session, params};
use crate::value::TableName;

/// A sequence and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct SequenceState {
    #[serde(flatten)]
    pub(crate) name: TableName,
    pub(crate) increment: i64,
    pub(crate) cycle: bool,
    pub(crate) last_value: i64,
    /// Whether `last_value` was given out already.
    pub(crate) is_called: bool,
}

impl SequenceState {
    /// What the next call gives.
    pub(crate) fn next(&self) -> i128 {
        if self.is_called {
            i128::from(self.last_value) + i128::from(self.increment)
        } else {
            i128::from(self.last_value)
        }
    }
}

/// As the catalog has it: `last_value` is null without privilege, and while the sequence has not been called.
#[derive(Deserialize)]
struct Listed {
    #[serde(flatten)]
    name: TableName,
    increment: i64,
    cycle: bool,
    last_value: Option<i64>,
    readable: bool,
}

const SEQUENCES: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'increment', s.seqincrement, 'cycle', s.seqcycle,
             'last_value', CASE WHEN has_sequence_privilege(c.oid, 'SELECT') THEN pg_sequence_last_value(c.oid) END,
             'readable', has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))
      FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
     ORDER BY n.nspname, c.relname";

/// Every sequence of the session's database: identity columns' and unowned ones too.
pub(crate) fn read(session: &Session) -> Result<Vec<SequenceState>> {
    read_since(session, &BTreeMap::new())
}

/// The same, in haste: one that was not called yet is read from its relation only where `known` says otherwise.
///
/// `pg_sequence_last_value` is null before the first call, and reading many relations takes a second. A sequence that
/// was not called then and is not now has the value it had: only DDL or `setval(.., false)` change it.
pub(crate) fn read_since(
    session: &Session,
    known: &BTreeMap<TableName, SequenceState>,
) -> Result<Vec<SequenceState>> {
    let listed: Vec<Listed> = session
        .list(SEQUENCES, params![])
        .wrap_err("read the sequences")?;
    let denied: Vec<&TableName> = listed
        .iter()
        .filter(|sequence| !sequence.readable)
        .map(|sequence| &sequence.name)
        .collect();
    if !denied.is_empty() {
        let user = &session.endpoint().user;
        return Failure::new(format!(
            "read the sequences of the {}: {user:?} may not read {}",
            session.endpoint(),
            super::tables::listed(denied)
        ))
        .hint(format!(
            "GRANT USAGE ON SCHEMA and SELECT ON SEQUENCE to {user:?}, or run flare grant_replication"
        ))
        .err();
    }
    let still_uncalled = |sequence: &Listed| {
        let before = known.get(&sequence.name)?;
        (sequence.last_value.is_none() && !before.is_called).then(|| before.clone())
    };
    let uncalled: Vec<&TableName> = listed
        .iter()
        .filter(|sequence| sequence.last_value.is_none() && still_uncalled(sequence).is_none())
        .map(|sequence| &sequence.name)
        .collect();
    let mut starts = read_relations(session, &uncalled)?.into_iter();
    let state = |sequence: Listed| {
        if let Some(before) = still_uncalled(&sequence) {
            return Ok(before);
        }
        let (last_value, is_called) = match sequence.last_value {
            Some(last_value) => (last_value, true),
            None => starts
                .next()
                .ok_or_else(|| Failure::new("read the sequences: one of them has gone"))?,
        };
        Ok(SequenceState {
            name: sequence.name,
            increment: sequence.increment,
            cycle: sequence.cycle,
            last_value,
            is_called,
        })
    };
    listed.into_iter().map(state).collect()
}

/// Planning a union takes the square of its members: 2,000 took 30 s, and 0.8 s by hundreds.
const AT_ONCE: usize = 100;

/// `last_value, is_called` of each, from the relations themselves.
fn read_relations(session: &Session, names: &[&TableName]) -> Result<Vec<(i64, bool)>> {
    let mut states = Vec::with_capacity(names.len());
    for names in names.chunks(AT_ONCE) {
        states.extend(read_some(session, names)?);
    }
    Ok(states)
}

fn read_some(session: &Session, names: &[&TableName]) -> Result<Vec<(i64, bool)>> {
    let selects: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(at, name)| format!("SELECT {at} AS at, last_value, is_called FROM {name}"))
        .collect();
    let sql = format!(
        "SELECT jsonb_build_array(last_value, is_called) FROM ({}) s ORDER BY at",
        selects.join(" UNION ALL ")
    );
    session
        .list(&sql, params![])
        .wrap_err("read the sequences that were not called yet")
}
