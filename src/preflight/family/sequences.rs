//! Sequences: not replicated, so their values are read and set, and they have to be alike.

use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;
use crate::server::Side;
use crate::value::{Ident, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "sequence_rights",
        title: "every sequence can be read and set",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[SEQUENCES.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) => Ok(unreadable(
                &publisher.rows(&SEQUENCES)?,
                (publisher.side, &publisher.user),
            )),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "sequence_shape",
        title: "the sequences of both sides are alike",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[SEQUENCES.on_both()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if view.subscribed => Ok(unlike(
                &publisher.rows(&SEQUENCES)?,
                &subscriber.rows(&SEQUENCES)?,
                view.ends(),
            )),
            _ => Ok(Vec::new()),
        },
    },
];

/// A sequence's definition (`pg_sequence`). It is read by the administrator, or by the database's owner where that is no superuser. Its value is not asked for: that takes more than ACCESS SHARE.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Sequence {
    #[serde(flatten)]
    name: TableName,
    kind: String,
    increment: i64,
    min: i64,
    max: i64,
    cycle: bool,
    readable: bool,
    unlogged: bool,
}

const SEQUENCES: Question<Sequence> = Question::database(
    "sequences",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'kind', format_type(s.seqtypid, NULL),
              'increment', s.seqincrement, 'min', s.seqmin, 'max', s.seqmax, 'cycle', s.seqcycle,
              'unlogged', c.relpersistence = 'u',
              'readable', has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
                  OR has_sequence_privilege(d.datdba, c.oid, 'SELECT') AND has_schema_privilege(d.datdba, n.oid, 'USAGE'))
       FROM pg_sequence s JOIN pg_database d ON d.datname = current_database() JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> 'flare'
      ORDER BY n.nspname, c.relname",
);

fn unreadable(sequences: &[Sequence], (side, user): (Side, &str)) -> Vec<Finding> {
    let denied: Vec<&Sequence> = sequences.iter().filter(|it| !it.readable).collect();
    match denied.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::blocker(format!(
                "{user:?} may not read sequences: their values could not be carried over, and look as if they had never been used"
            ))
            .objects(denied.iter().map(|it| it.name.plain()))
            .fix(format!(
                "GRANT USAGE ON SCHEMA {} TO {user}; GRANT SELECT, UPDATE ON SEQUENCE {} TO {user} on the {}",
                first.name.schema,
                first.name,
                side,
                user = Ident::new(user)
            )),
        ],
    }
}

fn unlike(here: &[Sequence], there: &[Sequence], Ends { from, to }: Ends) -> Vec<Finding> {
    let mut found = Vec::new();
    let other = |name: &TableName| there.iter().find(|it| it.name == *name);
    let missing: Vec<String> = here
        .iter()
        .filter(|it| other(&it.name).is_none())
        .map(|it| it.name.plain())
        .collect();
    if !missing.is_empty() {
        found.push(
            Finding::blocker(format!("the {to} does not have sequences of the {from}"))
                .objects(missing)
                .fix(format!("CREATE SEQUENCE there, as it is on the {from}")),
        );
    }
    let shape = |it: &Sequence| (it.kind.clone(), it.increment, it.min, it.max, it.cycle);
    let differing: Vec<(&Sequence, &Sequence)> = here
        .iter()
        .filter_map(|it| Some((it, other(&it.name)?)))
        .filter(|(one, other)| shape(one) != shape(other))
        .collect();
    if let Some((first, _)) = differing.first() {
        found.push(
            Finding::warning(format!(
                "sequences have another type, increment, bound or cycle on the {to}"
            ))
            .objects(differing.iter().map(|(it, _)| it.name.plain()))
            .fix(format!(
                "ALTER SEQUENCE {} AS {} INCREMENT {} MINVALUE {} MAXVALUE {} {} on the {to}",
                first.name,
                first.kind,
                first.increment,
                first.min,
                first.max,
                if first.cycle { "CYCLE" } else { "NO CYCLE" }
            )),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(name: &str) -> Sequence {
        Sequence {
            name: name.parse().unwrap(),
            kind: "bigint".into(),
            increment: 1,
            min: 1,
            max: 100,
            cycle: false,
            readable: true,
            unlogged: false,
        }
    }

    #[test]
    fn a_sequence_that_may_not_be_read_blocks() {
        let hidden = Sequence {
            readable: false,
            ..sequence("app.s")
        };
        let found = unreadable(&[sequence("a"), hidden], (Side::Publisher, "a\"dm"));
        assert_eq!(found[0].objects, ["app.s"]);
        let fix = found[0].fix.as_deref().unwrap();
        assert!(fix.contains(r#"ON SEQUENCE "app"."s" TO "a""dm""#), "{fix}");
    }

    #[test]
    fn missing_and_differing_sequences_are_told_apart() {
        let cycling = Sequence {
            cycle: true,
            ..sequence("b")
        };
        let found = unlike(&[sequence("a"), cycling], &[sequence("b")], Ends::FORWARD);
        assert_eq!(found[0].objects, ["public.a"]);
        assert_eq!(found[1].objects, ["public.b"]);
        assert!(found[1].fix.as_deref().unwrap().contains(" CYCLE on"));
        assert!(unlike(&[sequence("a")], &[sequence("a")], Ends::FORWARD).is_empty());
    }
}
