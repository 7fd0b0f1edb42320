//! Kinds of objects that a newer version has no more: the schema cannot be loaded with them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "gone_objects",
    title: "the subscriber's version has every kind of object",
    before: Before::Setup,
    place: Place::Database,
    asks: &[GONE.on_publisher()],
    judge: |view| match (view.publisher, view.subscriber) {
        (Some(publisher), Some(subscriber)) => Ok(gone(
            &publisher.rows(&GONE)?,
            publisher.major,
            subscriber.major,
        )),
        _ => Ok(Vec::new()),
    },
}];

/// An object that versions from `since` on refuse.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Gone {
    object: String,
    since: i32,
    why: String,
}

/// As pg_upgrade has them: postfix operators, polymorphic aggregates and operators over functions of arrays that have other
/// arguments now, types of time that are no more. What belongs to an extension comes with the subscriber's version of it.
const GONE: Question<Gone> = Question::database(
    "gone objects",
    "WITH moved(oid) AS (
         SELECT to_regprocedure(f)::oid FROM unnest(ARRAY['array_append(anyarray,anyelement)', 'array_cat(anyarray,anyarray)', 'array_prepend(anyelement,anyarray)',
                  'array_remove(anyarray,anyelement)', 'array_replace(anyarray,anyelement,anyelement)', 'array_position(anyarray,anyelement)',
                  'array_position(anyarray,anyelement,integer)', 'array_positions(anyarray,anyelement)', 'width_bucket(anyelement,anyarray)']) f),
     ours(classid, oid, object, since, why) AS (
         SELECT 'pg_operator'::regclass::oid, o.oid, format('operator %s', o.oid::regoperator), 14, 'postfix operators are gone' FROM pg_operator o WHERE o.oprright = 0
         UNION ALL SELECT 'pg_operator'::regclass, o.oid, format('operator %s', o.oid::regoperator), 14, 'its function takes anycompatible now' FROM pg_operator o WHERE o.oprcode::oid IN (SELECT oid FROM moved) AND o.oprleft IN ('anyarray'::regtype, 'anyelement'::regtype)
         UNION ALL SELECT 'pg_proc'::regclass, a.aggfnoid, format('aggregate %s', a.aggfnoid::regprocedure), 14, 'its function takes anycompatible now'
           FROM pg_aggregate a WHERE (a.aggtransfn::oid IN (SELECT oid FROM moved) OR a.aggfinalfn::oid IN (SELECT oid FROM moved)) AND a.aggtranstype IN ('anyarray'::regtype, 'anyelement'::regtype)
         UNION ALL SELECT 'pg_class'::regclass, c.oid, format('column %s.%I', c.oid::regclass, a.attname), 12, format('type %s is gone', format_type(a.atttypid, NULL))
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
          WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN ('abstime', 'reltime', 'tinterval', '_abstime', '_reltime', '_tinterval') AND NOT a.attisdropped)
     SELECT jsonb_build_object('object', o.object, 'since', o.since, 'why', o.why) FROM ours o
      WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'e')
      ORDER BY o.object",
);

fn gone(objects: &[Gone], publisher: i32, subscriber: i32) -> Vec<Finding> {
    let mut by_version: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for it in objects {
        if publisher < it.since && it.since <= subscriber {
            let words = format!("{} ({})", it.object, it.why);
            by_version.entry(it.since).or_default().push(words);
        }
    }
    let found = by_version.into_iter().map(|(since, objects)| {
        Finding::blocker(format!(
            "these cannot be made on the subscriber: versions from {since} on refuse them"
        ))
        .objects(objects)
        .fix("drop them, or make them anew in a way that both versions know, before the schema is loaded")
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Severity;

    #[test]
    fn what_is_gone_blocks_only_where_the_version_is_passed() {
        let object = |since| Gone {
            object: format!("operator !! of {since}"),
            since,
            why: "gone".into(),
        };
        let objects = [object(12), object(14)];
        assert!(gone(&objects, 14, 18).is_empty());
        assert!(gone(&objects, 10, 11).is_empty());
        let found = gone(&objects, 12, 18);
        assert_eq!(found[0].objects, ["operator !! of 14 (gone)"]);
        assert_eq!(found[0].severity, Severity::Blocker);
        assert_eq!(gone(&objects, 10, 18).len(), 2);
    }
}
