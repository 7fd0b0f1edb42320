//! flare's own table: where it is made, and what of the user's has its name, would be taken for it, and left out of
//! everything.

use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::server::Side;
use crate::value::{Ident, TableName};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "own_names",
        title: "nothing of yours has a name of flare's own",
        before: Before::Setup,
        place: Place::Database,
        asks: &[NAMED_LIKE_OURS.on_both()],
        judge: |view| {
            let mut found = Vec::new();
            for side in [view.publisher, view.subscriber].into_iter().flatten() {
                let schema = &side.side.host(view.config).status_schema;
                found.extend(taken(&side.rows(&NAMED_LIKE_OURS)?, schema, side.side));
            }
            Ok(found)
        },
    },
    Check {
        id: "status_schema",
        title: "db_owner may create flare's own table",
        before: Before::Publication,
        place: Place::Database,
        // The subscriber's schemas and their privileges come from there.
        asks: &[SCHEMAS.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) => {
                let host = publisher.side.host(view.config);
                Ok(refused(
                    &publisher.rows(&SCHEMAS)?,
                    (&host.status_schema, &host.db_owner.user),
                    publisher.side,
                ))
            }
            None => Ok(Vec::new()),
        },
    },
];

/// A schema that the status table could be in.
#[derive(Clone, Debug, Deserialize)]
struct Schema {
    schema: String,
    /// db_owner may create tables there.
    may_create: bool,
    /// The table is there.
    has_table: bool,
}

/// None where there is no such role.
const SCHEMAS: Question<Schema> = Question::database(
    "schemas for the status table",
    "SELECT jsonb_build_object('schema', n.nspname, 'may_create', has_schema_privilege(r.oid, n.oid, 'CREATE'),
              'has_table', EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'flare_replication_status'))
       FROM pg_namespace n JOIN pg_roles r ON r.rolname = {db_owner}
      WHERE n.nspname !~ '^(pg_|information_schema$|flare$)' OR n.nspname = 'pg_catalog' ORDER BY n.nspname",
);

fn refused(
    schemas: &[Schema],
    (status_schema, db_owner): (&str, &str),
    side: Side,
) -> Vec<Finding> {
    if schemas.is_empty() {
        return Vec::new();
    }
    let elsewhere =
        "name a schema in which db_owner may create tables in status_schema of the configuration";
    let finding = match schemas.iter().find(|it| it.schema == status_schema) {
        Some(schema) if schema.has_table || schema.may_create => return Vec::new(),
        Some(_) => Finding::blocker(format!(
            "{db_owner:?} may not create flare's own table on the {side} in schema {status_schema:?}"
        ))
        .fix(format!(
            "GRANT USAGE, CREATE ON SCHEMA {} TO {} on the {side}, or {elsewhere}",
            Ident::new(status_schema),
            Ident::new(db_owner)
        )),
        None => Finding::blocker(format!(
            "flare's own table cannot be created on the {side}: there is no schema {status_schema:?}"
        ))
        .fix(elsewhere),
    };
    vec![finding.objects([status_schema.to_owned()])]
}

/// A relation whose name begins as flare's status table's does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Relation {
    #[serde(flatten)]
    name: TableName,
    /// TABLE, VIEW and their kind, as ALTER takes it.
    word: String,
    /// Whether it has the columns of flare's own.
    has_our_columns: bool,
}

/// The primary key of flare's own table is none of these, nor are row types and arrays.
const NAMED_LIKE_OURS: Question<Relation> = Question::database(
    "named like ours",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname,
              'word', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END,
              'has_our_columns', c.relkind = 'r' AND (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a
                                   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) IN ('system_identifier,uuid,created_at', 'system_identifier,uuid,created_at,payload'))
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relname ~ '^flare_replication_status' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND c.relpersistence <> 't'
      ORDER BY n.nspname, c.relname",
);

fn taken(named: &[Relation], status_schema: &str, side: Side) -> Vec<Finding> {
    let ours = |it: &&Relation| {
        it.has_our_columns && it.name == TableName::new(status_schema, "flare_replication_status")
    };
    let others: Vec<&Relation> = named.iter().filter(|it| !ours(it)).collect();
    let Some(first) = others.first() else {
        return Vec::new();
    };
    vec![
        Finding::blocker(format!(
            "on the {side} these have the name of flare's status table, and would be taken for it: left out of the copy, the publication and every comparison"
        ))
        .objects(others.iter().map(|it| it.name.plain()))
        .fix(format!(
            "ALTER {} {} RENAME TO {}, or any name that does not begin with flare_replication_status; flare's own is {}",
            first.word,
            first.name,
            Ident::new("replication_status"),
            TableName::new(status_schema, "flare_replication_status")
        )),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Severity;

    #[test]
    fn the_table_is_there_or_can_be_made() {
        let schema = |name: &str, may_create, has_table| Schema {
            schema: name.into(),
            may_create,
            has_table,
        };
        let refused = |schemas: &[Schema]| refused(schemas, ("app", "o"), Side::Publisher);
        let system = schema("pg_catalog", false, false);
        assert!(refused(&[]).is_empty());
        for fine in [schema("app", true, false), schema("app", false, true)] {
            assert!(refused(&[system.clone(), fine]).is_empty());
        }
        for bad in [schema("app", false, false), schema("public", true, true)] {
            assert_eq!(
                refused(&[system.clone(), bad])[0].severity,
                Severity::Blocker
            );
        }
    }

    #[test]
    fn only_the_table_of_the_configured_schema_is_flares() {
        let relation = |name: &str, has_our_columns| Relation {
            name: name.parse().unwrap(),
            word: "TABLE".into(),
            has_our_columns,
        };
        let ours = relation("app.flare_replication_status", true);
        assert!(taken(std::slice::from_ref(&ours), "app", Side::Publisher).is_empty());
        let others = [
            relation("public.flare_replication_status", true),
            ours,
            relation("app.flare_replication_status_log", false),
        ];
        let found = &taken(&others, "app", Side::Subscriber)[0];
        assert_eq!(found.severity, Severity::Blocker);
        assert_eq!(
            found.objects,
            [
                "public.flare_replication_status",
                "app.flare_replication_status_log"
            ]
        );
    }
}
