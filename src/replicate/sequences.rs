//! Sequences: not replicated by PostgreSQL, so their values are carried over.

use std::fmt;

use serde::Serialize;

use super::{Mode, Run};
use crate::catalog::sequences::{self, SequenceState};
use crate::catalog::tables::listed;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::server::{Login, Pair, Session, params};
use crate::value::{TableName, counted};

/// A sequence on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sequence {
    /// Its schema.
    pub schema: String,
    /// The sequence.
    pub sequence: String,
    /// `last_value` on the publisher.
    pub publisher: i64,
    /// `last_value` on the subscriber, as it was before.
    pub subscriber: i64,
    /// Whether the subscriber's was set, or in a dry run would be.
    pub set: bool,
    #[serde(skip)]
    is_called: bool,
}

/// What `replicate_sequences` did or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sequences {
    /// The database.
    pub dbname: String,
    /// Whether anything was set.
    pub changed: bool,
    /// Whether values were only shown.
    pub dry_run: bool,
    /// Every sequence of the publisher.
    pub sequences: Vec<Sequence>,
}

/// Which of the subscriber's sequences are to be set; an error names those it does not have.
///
/// None is set back behind what it has reached, in the direction of its increment. One that cycles has no behind.
pub(crate) fn plan(
    publisher: &[SequenceState],
    subscriber: &[SequenceState],
) -> Result<Vec<Sequence>> {
    let by_name: std::collections::HashMap<&TableName, &SequenceState> = subscriber
        .iter()
        .map(|state| (&state.name, state))
        .collect();
    let missing: Vec<&TableName> = publisher
        .iter()
        .map(|state| &state.name)
        .filter(|name| !by_name.contains_key(name))
        .collect();
    if !missing.is_empty() {
        return Failure::new(format!(
            "set the subscriber's sequences: it has no {}",
            listed(missing)
        ))
        .hint("flare replicate_schema --missing creates them there")
        .err();
    }
    let pairs = publisher
        .iter()
        .filter_map(|from| Some((from, *by_name.get(&from.name)?)));
    Ok(pairs.map(|(from, to)| carried(from, to)).collect())
}

fn carried(from: &SequenceState, to: &SequenceState) -> Sequence {
    let (ahead, here) = (from.next(), to.next());
    let set = match (from.cycle, from.increment > 0) {
        (true, _) => ahead != here,
        (false, true) => ahead > here,
        (false, false) => ahead < here,
    };
    Sequence {
        schema: from.name.schema.as_str().to_owned(),
        sequence: from.name.table.as_str().to_owned(),
        publisher: from.last_value,
        subscriber: to.last_value,
        set,
        is_called: from.is_called,
    }
}

/// Sets those that the plan says, in one round trip; how many.
pub(crate) fn set(session: &Session, sequences: &[Sequence]) -> Result<u64> {
    let moved: Vec<&Sequence> = sequences.iter().filter(|sequence| sequence.set).collect();
    if moved.is_empty() {
        return Ok(0);
    }
    let schemas: Vec<String> = moved.iter().map(|s| s.schema.clone()).collect();
    let names: Vec<String> = moved.iter().map(|s| s.sequence.clone()).collect();
    let values: Vec<i64> = moved.iter().map(|s| s.publisher).collect();
    let called: Vec<bool> = moved.iter().map(|s| s.is_called).collect();
    session
        .execute(
            "SELECT setval(format('%I.%I', nspname, relname)::regclass, value, called)
               FROM unnest($1, $2, $3, $4) s(nspname, relname, value, called)",
            params![schemas, names, values, called],
        )
        .wrap_err("set the sequences")
}

/// Carries every sequence of a database over.
pub(crate) fn replicate(pair: &Pair, dbname: &str, run: &Run) -> Result<Sequences> {
    let on_publisher = pair
        .publisher
        .visit_as(reader(pair.publisher.facts().superuser), dbname)?;
    let on_subscriber = pair
        .subscriber
        .visit_as(reader(pair.subscriber.facts().superuser), dbname)?;
    let sequences = plan(
        &sequences::read(&on_publisher)?,
        &sequences::read(&on_subscriber)?,
    )?;
    let apply = run.mode == Mode::Apply;
    let set = if apply {
        set(&on_subscriber, &sequences).hint(|| {
        "UPDATE on the sequences is needed on the subscriber; a value out of bounds means that the sequence was changed on the publisher: change it there too".into()
    })?
    } else {
        0
    };
    Ok(Sequences {
        dbname: dbname.to_owned(),
        changed: set > 0,
        dry_run: !apply,
        sequences,
    })
}

/// An administrator who is no superuser may see less than the database's owner.
fn reader(superuser: bool) -> Login {
    Login::owner_if(!superuser)
}

impl fmt::Display for Sequences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run { "to be set" } else { "set" };
        for Sequence {
            schema,
            sequence,
            publisher,
            subscriber,
            set,
            ..
        } in &self.sequences
        {
            let name = TableName::new(schema, sequence).plain();
            let what = match (set, publisher == subscriber) {
                (true, _) => verb,
                (false, true) => "as wanted",
                (false, false) => "left: further already",
            };
            writeln!(
                f,
                "{name}: publisher {publisher}, subscriber {subscriber}: {what}"
            )?;
        }
        let set = self.sequences.iter().filter(|s| s.set).count();
        write!(
            f,
            "{set} of {} {verb}",
            counted(self.sequences.len(), "sequence")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, increment: i64, last_value: i64, is_called: bool) -> SequenceState {
        SequenceState {
            name: TableName::new("public", name),
            increment,
            cycle: false,
            last_value,
            is_called,
        }
    }

    fn sets(from: SequenceState, to: SequenceState) -> bool {
        plan(&[from], &[to]).unwrap()[0].set
    }

    #[test]
    fn sequences_move_only_in_the_direction_of_their_increment() {
        assert!(sets(state("a", 1, 10, true), state("a", 1, 9, true)));
        assert!(!sets(state("a", 1, 10, true), state("a", 1, 12, true)));
        assert!(sets(state("a", -1, -10, true), state("a", -1, -9, true)));
        assert!(!sets(state("a", -1, -10, true), state("a", -1, -12, true)));
        assert!(sets(state("a", 1, 5, true), state("a", 1, 5, false)));
        assert!(!sets(state("a", 1, 6, false), state("a", 1, 5, true)));
        assert!(sets(
            state("a", 1, i64::MAX, true),
            state("a", 1, i64::MAX, false)
        ));
    }

    #[test]
    fn one_that_cycles_follows_wherever_it_goes() {
        let cycling = |last_value| SequenceState {
            cycle: true,
            ..state("a", 1, last_value, true)
        };
        assert!(sets(cycling(1), cycling(99)));
        assert!(!sets(cycling(7), cycling(7)));
    }

    #[test]
    fn a_missing_sequence_is_named() {
        let error = plan(&[state("a", 1, 1, true)], &[]).unwrap_err();
        assert!(error.to_string().contains("public.a"), "{error}");
    }
}
