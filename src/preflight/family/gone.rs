//! What a newer version has no more: kinds of objects, functions and operators, and columns of the system's relations. The
//! schema cannot be loaded with them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;
use crate::server::Side;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "gone_objects",
        title: "the subscriber's version has every kind of object",
        before: Before::Setup,
        place: Place::Database,
        asks: &[GONE.on_publisher()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) => Ok(gone(
                &publisher.rows(&GONE)?,
                (publisher.side, publisher.major),
                (subscriber.side, subscriber.major),
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "gone_columns",
        title: "views read what the system's relations still have on the subscriber",
        before: Before::Setup,
        place: Place::Database,
        asks: &[READ.on_publisher(), SYSTEM_RELATIONS.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) => Ok(gone_columns(
                &publisher.rows(&READ)?,
                &subscriber.rows(&SYSTEM_RELATIONS)?,
                view.ends(),
            )),
            _ => Ok(Vec::new()),
        },
    },
];

/// An object that versions from `since` on refuse.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Gone {
    object: String,
    since: i32,
    why: String,
    /// The table that has oids, where that is what is gone.
    with_oids: Option<String>,
}

/// Of what the release notes call gone or refused: postfix operators, polymorphic aggregates and operators over functions of
/// arrays that have other arguments now, types of time that are no more, `opaque`, tables WITH OIDS (whose oids pg_dump leaves
/// out with a warning), generated columns of children whose parents' are not, foreign keys across collations that are not
/// deterministic, and expressions that call one of the system's functions or operators that is gone: of these no dependency is
/// on record, so that the stored expressions are searched. What belongs to an extension comes with the subscriber's version of it.
const GONE: Question<Gone> = Question::database(
    "gone objects",
    r"WITH moved(oid) AS (
         SELECT to_regprocedure(f)::oid FROM unnest(ARRAY['array_append(anyarray,anyelement)', 'array_cat(anyarray,anyarray)', 'array_prepend(anyelement,anyarray)',
                  'array_remove(anyarray,anyelement)', 'array_replace(anyarray,anyelement,anyelement)', 'array_position(anyarray,anyelement)',
                  'array_position(anyarray,anyelement,integer)', 'array_positions(anyarray,anyelement)', 'width_bucket(anyelement,anyarray)']) f),
     call(node, object, since) AS (
         SELECT 'opno ' || o.oid, format('operator %s', o.oid::regoperator), CASE WHEN o.oprname IN ('##', '<->', '@@') THEN 15 ELSE 14 END FROM pg_operator o
          WHERE o.oid < 16384 AND (o.oprright = 0 OR (o.oprname, o.oprleft, o.oprright) = ('!!', 0, 'int8'::regtype)
             OR o.oprname IN ('@', '~') AND o.oprleft IN ('point'::regtype, 'lseg'::regtype, 'box'::regtype, 'path'::regtype, 'polygon'::regtype, 'circle'::regtype)
             OR (o.oprname, o.oprleft, o.oprright) IN (('~', 'aclitem[]'::regtype, 'aclitem'::regtype), ('##', 'line'::regtype, 'box'::regtype), ('##', 'lseg'::regtype, 'line'::regtype),
                 ('<->', 'box'::regtype, 'line'::regtype), ('<->', 'line'::regtype, 'box'::regtype), ('@@', 0, 'path'::regtype)))
         UNION ALL SELECT 'funcid ' || p.oid, format('function %s', p.oid::regprocedure), g.since
           FROM (VALUES ('timenow', 12), ('currtid', 14), ('pg_start_backup', 15), ('pg_stop_backup', 15), ('pg_is_in_backup', 15), ('pg_backup_start_time', 15), ('path_center', 15),
                        ('numeric_fac', 14), ('close_lb', 15), ('close_sl', 15), ('dist_bl', 15), ('dist_lb', 15), ('interval_accum', 17), ('interval_accum_inv', 17), ('interval_avg', 17), ('interval_combine', 17),
                        ('pg_stat_get_bgwriter_timed_checkpoints', 17), ('pg_stat_get_bgwriter_requested_checkpoints', 17), ('pg_stat_get_bgwriter_buf_written_checkpoints', 17),
                        ('pg_stat_get_checkpoint_write_time', 17), ('pg_stat_get_checkpoint_sync_time', 17), ('pg_stat_get_buf_written_backend', 17), ('pg_stat_get_buf_fsync_backend', 17), ('pg_timezone_abbrevs', 18)) g(name, since)
           JOIN pg_proc p ON p.proname = g.name AND p.pronamespace = 'pg_catalog'::regnamespace
         UNION ALL SELECT 'funcid ' || p::oid, format('function %s', p), 15 FROM to_regprocedure('point(path)') p WHERE p IS NOT NULL),
     expression(classid, oid, object, words) AS (
         SELECT 'pg_class'::regclass::oid, r.ev_class, format(CASE c.relkind WHEN 'v' THEN 'view %s' WHEN 'm' THEN 'materialized view %s' ELSE 'rule of %s' END, c.oid::regclass), concat(r.ev_qual, r.ev_action)
           FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
         UNION ALL SELECT 'pg_class'::regclass, d.adrelid, format('default of %s.%I', d.adrelid::regclass, a.attname), d.adbin::text FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         UNION ALL SELECT 'pg_constraint'::regclass, n.oid, format('constraint %I of %s', n.conname, CASE n.conrelid WHEN 0 THEN n.contypid::regtype::text ELSE n.conrelid::regclass::text END), n.conbin::text FROM pg_constraint n WHERE n.contype = 'c'
         UNION ALL SELECT 'pg_type'::regclass, t.oid, format('default of %s', t.oid::regtype), t.typdefaultbin::text FROM pg_type t WHERE t.typtype = 'd'
         UNION ALL SELECT 'pg_class'::regclass, i.indrelid, format('index %s', i.indexrelid::regclass), concat(i.indexprs, i.indpred) FROM pg_index i
         UNION ALL SELECT 'pg_policy'::regclass, p.oid, format('policy %I of %s', p.polname, p.polrelid::regclass), concat(p.polqual, p.polwithcheck) FROM pg_policy p
         UNION ALL SELECT 'pg_trigger'::regclass, g.oid, format('trigger %I of %s', g.tgname, g.tgrelid::regclass), g.tgqual::text FROM pg_trigger g
         UNION ALL SELECT 'pg_class'::regclass, k.partrelid, format('partition key of %s', k.partrelid::regclass), k.partexprs::text FROM pg_partitioned_table k),
     calling AS (
         SELECT e.* FROM expression e WHERE e.oid >= 16384 AND e.words ~ (SELECT format(':(%s)\M', string_agg(node, '|')) FROM call) OFFSET 0),
     ours(classid, oid, object, since, why, with_oids) AS (
         SELECT 'pg_operator'::regclass::oid, o.oid, format('operator %s', o.oid::regoperator), 14, 'postfix operators are gone', NULL FROM pg_operator o WHERE o.oprright = 0
         UNION ALL SELECT 'pg_operator'::regclass, o.oid, format('operator %s', o.oid::regoperator), 14, 'its function takes anycompatible now', NULL FROM pg_operator o WHERE o.oprcode::oid IN (SELECT oid FROM moved) AND o.oprleft IN ('anyarray'::regtype, 'anyelement'::regtype)
         UNION ALL SELECT 'pg_proc'::regclass, a.aggfnoid, format('aggregate %s', a.aggfnoid::regprocedure), 14, 'its function takes anycompatible now', NULL
           FROM pg_aggregate a WHERE (a.aggtransfn::oid IN (SELECT oid FROM moved) OR a.aggfinalfn::oid IN (SELECT oid FROM moved)) AND a.aggtranstype IN ('anyarray'::regtype, 'anyelement'::regtype)
         UNION ALL SELECT 'pg_class'::regclass, c.oid, format('column %s.%I', c.oid::regclass, a.attname), 12, format('type %s is gone', format_type(a.atttypid, NULL)), NULL
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
          WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN ('abstime', 'reltime', 'tinterval', '_abstime', '_reltime', '_tinterval') AND NOT a.attisdropped
         UNION ALL SELECT 'pg_proc'::regclass, p.oid, format('function %s', p.oid::regprocedure), 13, 'type opaque is gone', NULL
           FROM pg_proc p JOIN pg_type t ON t.typname = 'opaque' AND t.typnamespace = 'pg_catalog'::regnamespace AND t.oid IN (SELECT unnest(p.proargtypes::oid[] || p.prorettype))
         UNION ALL SELECT 'pg_proc'::regclass, a.aggfnoid, format('aggregate %s', a.aggfnoid::regprocedure), c.since, format('its %s is gone', c.object), NULL
           FROM pg_aggregate a JOIN call c ON c.node IN ('funcid ' || a.aggtransfn::oid, 'funcid ' || a.aggfinalfn::oid, 'funcid ' || a.aggcombinefn::oid)
         UNION ALL SELECT e.classid, e.oid, e.object, c.since, format('%s is gone', c.object), NULL FROM calling e JOIN call c ON e.words ~ format(':%s\M', c.node)
         UNION ALL SELECT 'pg_class'::regclass, c.oid, format('column %s.%I', c.oid::regclass, a.attname), 16, format('it is generated, that of its parent %s is not', h.inhparent::regclass), NULL
           FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid JOIN pg_attribute a ON a.attrelid = c.oid AND to_jsonb(a) ->> 'attgenerated' = 's'
           JOIN pg_attribute b ON b.attrelid = h.inhparent AND b.attname = a.attname AND NOT b.attisdropped AND to_jsonb(b) ->> 'attgenerated' = ''
          WHERE a.attnum > 0
         UNION ALL SELECT 'pg_constraint'::regclass, n.oid, format('constraint %I of %s', n.conname, n.conrelid::regclass), 18, 'its two sides have collations that are not the same, and one is not deterministic', NULL
           FROM pg_constraint n CROSS JOIN LATERAL unnest(n.conkey, n.confkey) k(own, other)
           JOIN pg_attribute a ON a.attrelid = n.conrelid AND a.attnum = k.own JOIN pg_attribute b ON b.attrelid = n.confrelid AND b.attnum = k.other
           JOIN pg_collation d ON d.oid IN (a.attcollation, b.attcollation) AND to_jsonb(d) ->> 'collisdeterministic' = 'false'
          WHERE n.contype = 'f' AND coalesce(to_jsonb(n) ->> 'conparentid', '0') = '0' AND a.attcollation <> b.attcollation
         UNION ALL SELECT 'pg_class'::regclass, c.oid, format('index %s', c.oid::regclass), 12, 'its option recheck_on_update is gone', NULL
           FROM pg_class c, unnest(c.reloptions) o WHERE c.relkind IN ('i', 'I') AND o LIKE 'recheck_on_update=%'
         UNION ALL SELECT 'pg_class'::regclass, c.oid, format('table %s', c.oid::regclass), 12, 'no table has oids any more',
                          c.oid::regclass::text
           FROM pg_class c
          WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND (to_jsonb(c) ->> 'relhasoids')::boolean
            AND c.relnamespace::regnamespace::text <> 'flare')
     SELECT DISTINCT jsonb_build_object('object', o.object, 'since', o.since, 'why', o.why, 'with_oids', o.with_oids) FROM ours o
      WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'e')
      ORDER BY 1",
);

fn gone(objects: &[Gone], from: (Side, i32), to: (Side, i32)) -> Vec<Finding> {
    let gone = |it: &&Gone| from.1 < it.since && it.since <= to.1;
    let mut by_kind: BTreeMap<(i32, bool), Vec<&Gone>> = BTreeMap::new();
    for it in objects.iter().filter(gone) {
        let kind = (it.since, it.with_oids.is_some());
        by_kind.entry(kind).or_default().push(it);
    }
    let found = by_kind.into_iter().map(|((since, _), objects)| {
        let fix = match &objects[0].with_oids {
            Some(table) => format!("ALTER TABLE {table} SET WITHOUT OIDS on the {}, and so on, where nothing reads the oids", from.0),
            None => "drop them, or make them anew in a way that both versions know, before the schema is loaded".to_owned(),
        };
        let words = |it: &&Gone| format!("{} ({})", it.object, it.why);
        Finding::blocker(format!(
            "these cannot be made on the {}: versions from {since} on refuse them", to.0
        ))
        .objects(objects.iter().map(words))
        .fix(fix)
    });
    found.collect()
}

/// A column of one of the system's views or tables, and which view of the user's reads it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Read {
    view: String,
    relation: String,
    column: String,
}

/// A column of the system's views is on record (pg_depend). One of its tables is not, those being pinned: the view's text is
/// searched for the columns that a version has taken away.
const READ: Question<Read> = Question::database(
    "columns that views read",
    r"WITH searched AS (
         SELECT v.oid, c.relname, a.attname
           FROM (VALUES ('relhaspkey'), ('proisagg'), ('proiswindow'), ('adsrc'), ('relhasoids'), ('consrc'), ('protransform'), ('stxdependencies'), ('stxndistinct'),
                        ('datlastsysoid'), ('daticulocale'), ('colliculocale'), ('attcacheoff')) g(attname)
           JOIN pg_attribute a ON a.attname = g.attname JOIN pg_class c ON c.oid = a.attrelid AND c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r'
           JOIN pg_rewrite r ON r.ev_class >= 16384 AND r.ev_action::text ~ format(':relid %s\M', c.oid) JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm') OFFSET 0),
     used(view, relation, attname) AS (
         SELECT v.oid, c.relname, a.attname
           FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
           JOIN pg_class c ON c.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
          WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND v.oid >= 16384
            AND c.relkind = 'v' AND c.relnamespace = 'pg_catalog'::regnamespace AND c.oid < 16384
         UNION SELECT s.oid, s.relname, s.attname FROM searched s WHERE pg_get_viewdef(s.oid) ~ format('\m%s\M', s.attname))
     SELECT jsonb_build_object('view', u.view::regclass::text, 'relation', u.relation, 'column', u.attname) FROM used u
      WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = u.view AND e.deptype = 'e')",
);

/// One of the system's views or tables.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct SystemRelation {
    relation: String,
    columns: BTreeSet<String>,
}

const SYSTEM_RELATIONS: Question<SystemRelation> = Question::server(
    "system relations",
    "SELECT jsonb_build_object('relation', c.relname, 'columns', jsonb_agg(a.attname))
       FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
      WHERE c.relkind IN ('r', 'v') AND c.relnamespace = 'pg_catalog'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
      GROUP BY c.relname",
);

fn gone_columns(read: &[Read], there: &[SystemRelation], Ends { from, to }: Ends) -> Vec<Finding> {
    let is_there = |it: &&Read| {
        let mut views = there.iter();
        views.any(|view| view.relation == it.relation && view.columns.contains(&it.column))
    };
    let mut gone: Vec<&Read> = read.iter().filter(|it| !is_there(it)).collect();
    gone.sort_by_key(|it| (&it.view, &it.relation, &it.column));
    let Some(first) = gone.first() else {
        return Vec::new();
    };
    let words = |it: &&Read| format!("{} (reads {}.{})", it.view, it.relation, it.column);
    vec![
        Finding::blocker(format!("views read columns of the system's views and tables that the {to}'s version has not: the schema cannot be loaded with them"))
        .objects(gone.iter().map(words))
        .fix(format!(
            "DROP VIEW {}, or CREATE OR REPLACE it without that column, on the {from}",
            first.view
        )),
    ]
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
            with_oids: None,
        };
        let objects = [object(12), object(14)];
        assert!(gone(&objects, (Side::Publisher, 14), (Side::Subscriber, 18)).is_empty());
        assert!(gone(&objects, (Side::Publisher, 10), (Side::Subscriber, 11)).is_empty());
        let found = gone(&objects, (Side::Publisher, 12), (Side::Subscriber, 18));
        assert_eq!(found[0].objects, ["operator !! of 14 (gone)"]);
        assert_eq!(found[0].severity, Severity::Blocker);
        assert_eq!(
            gone(&objects, (Side::Publisher, 10), (Side::Subscriber, 18)).len(),
            2
        );
        let oids = Gone {
            with_oids: Some("a".into()),
            ..object(12)
        };
        let found = gone(
            &[object(12), oids],
            (Side::Publisher, 11),
            (Side::Subscriber, 12),
        );
        assert_eq!(found.len(), 2);
        assert!(
            found[1]
                .fix
                .as_deref()
                .unwrap()
                .starts_with("ALTER TABLE a SET WITHOUT OIDS on")
        );
    }
    #[test]
    fn a_column_that_the_subscriber_lacks_is_named_with_its_view() {
        let read = |relation: &str, column: &str| Read {
            view: "public.monitoring".into(),
            relation: relation.into(),
            column: column.into(),
        };
        let there = [SystemRelation {
            relation: "pg_stat_wal".into(),
            columns: BTreeSet::from(["wal_bytes".to_owned()]),
        }];
        assert!(
            gone_columns(&[read("pg_stat_wal", "wal_bytes")], &there, Ends::FORWARD).is_empty()
        );
        let found = gone_columns(
            &[
                read("pg_stat_wal", "wal_sync"),
                read("pg_shadow", "usename"),
            ],
            &there,
            Ends::FORWARD,
        );
        assert_eq!(
            found[0].objects,
            [
                "public.monitoring (reads pg_shadow.usename)",
                "public.monitoring (reads pg_stat_wal.wal_sync)"
            ]
        );
    }
}
