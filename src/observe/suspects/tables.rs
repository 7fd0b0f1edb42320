//! A table as both catalogs show it: what is sent of it, and who writes it.

mod judge;

use serde::Deserialize;

pub(super) use self::judge::judge;
use super::roles::{Subscription, major};
use super::{Stopped, Suspect, SuspectKind, briefly, suspect};
use crate::catalog::expressions::{FAILING, answers, failing};
use crate::error::Result;
use crate::server::params;
use crate::value::TableName;

/// A table as both catalogs show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: TableName,
    here: Option<Sent>,
    pub(super) there: Option<Taken>,
}

impl Table {
    /// One that neither catalog shows.
    #[cfg(test)]
    pub(super) fn unknown(name: TableName) -> Table {
        Table {
            name,
            here: None,
            there: None,
        }
    }

    /// The table as a query names it that is not to see the rows of tables that inherit from it: neither unique indexes nor
    /// the copy know those.
    pub(super) fn rows(&self) -> String {
        match &self.there {
            Some(there) if there.partitioned => self.name.to_string(),
            _ => format!("ONLY {}", self.name),
        }
    }

    /// The columns of the key that identifies a row that is sent; none where the whole row does, or nothing.
    pub(super) fn identity(&self) -> &[String] {
        let keyed = self.here.as_ref().filter(|it| !it.full);
        keyed.map_or(&[], |it| &it.identity)
    }
}

/// What the publisher sends of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Sent {
    columns: Vec<Column>,
    /// Columns of its replica identity; all of them where that is FULL.
    identity: Vec<String>,
    full: bool,
    /// Columns in it that no operator class compares.
    incomparable: Vec<String>,
    /// Whether the role that reads may read it.
    readable: bool,
    /// CHECK, UNIQUE and EXCLUDE, by their names.
    constraints: Vec<Constraint>,
}

/// A constraint, and whether old rows were held against it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Constraint {
    name: String,
    definition: String,
    valid: bool,
    /// Of a column's domain, to which apply holds each value of the row.
    #[serde(default)]
    domain: Option<TableName>,
}

/// A column that is sent, with its type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) not_null: bool,
    /// Has to have a value that nobody sends.
    #[serde(default)]
    pub(super) required: bool,
}

/// What the subscriber has of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Taken {
    /// Rows that are sent for it go to its partitions.
    partitioned: bool,
    pub(super) columns: Vec<Column>,
    /// The columns of the key that apply searches by, where there is one.
    key: Vec<String>,
    /// Unique indexes and exclusion constraints; those over functions that are not the server's own are left out, since no
    /// administrator runs code of the database.
    pub(super) uniques: Vec<Unique>,
    /// As whom rows are written.
    writer: String,
    owner: String,
    secured: bool,
    may_write: bool,
    /// Whether the subscription's owner may act for the table's.
    may_act: bool,
    constraints: Vec<Constraint>,
    /// ENABLE ALWAYS or REPLICA, with their functions.
    triggers: Vec<String>,
}

/// A unique index, or the one of an exclusion constraint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Unique {
    pub(super) index: String,
    /// The columns that its elements and its predicate read, with their types.
    pub(super) columns: Vec<Key>,
    pub(super) elements: Vec<Element>,
    pub(super) predicate: Option<String>,
    /// The definition of a constraint whose elements are compared by operators of their own: EXCLUDE, WITHOUT OVERLAPS.
    pub(super) excludes: Option<String>,
}

/// A column of an index, or an expression.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Element {
    /// Whether it is a column.
    pub(super) plain: bool,
    pub(super) text: String,
    /// None: equality.
    pub(super) operator: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) kind: String,
}

const HERE: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'full', c.relreplident = 'f',
        'readable', has_schema_privilege(u.oid, n.oid, 'USAGE') AND has_table_privilege(u.oid, c.oid, 'SELECT'),
        'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'kind', format_type(a.atttypid, a.atttypmod), 'not_null', a.attnotnull) ORDER BY a.attnum), '[]')
                      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                       AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''),
        'constraints', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid), 'valid', k.convalidated,
                                 'domain', (SELECT jsonb_build_object('schema', dn.nspname, 'table', t.typname) FROM pg_type t JOIN pg_namespace dn ON dn.oid = t.typnamespace WHERE t.oid = k.contypid))), '[]')
                          FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'u', 'x') OR k.contype = 'c' AND k.conrelid = 0
                           AND k.contypid IN (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)),
        'identity', (SELECT coalesce(jsonb_agg(a.attname), '[]') FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                        AND (c.relreplident = 'f' OR a.attnum = ANY (i.indkey::int2[]))),
        'incomparable', (SELECT coalesce(jsonb_agg(a.attname), '[]') FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                          JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
                         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND b.typtype = 'b' AND b.typcategory <> 'A'
                           AND NOT EXISTS (SELECT FROM pg_opclass o WHERE o.opcdefault AND o.opcmethod IN (403, 405)
                                 AND (o.opcintype = b.oid OR EXISTS (SELECT FROM pg_cast k WHERE k.castsource = b.oid
                                      AND k.casttarget = o.opcintype AND k.castmethod = 'b' AND k.castcontext = 'i')))))
      FROM unnest($1, $2) w(nspname, relname) JOIN pg_namespace n ON n.nspname = w.nspname
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.relname
      LEFT JOIN pg_roles u ON u.rolname = $3
      LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)";

/// $4: whether rows are written as the subscription's owner. A 10 has no `indnkeyatts`.
const THERE: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'partitioned', c.relkind = 'p', 'owner', o.rolname, 'writer', u.rolname,
        'secured', c.relrowsecurity AND NOT (u.rolsuper OR u.rolbypassrls) AND (c.relforcerowsecurity OR NOT pg_has_role(u.oid, c.relowner, 'USAGE')),
        'may_write', has_schema_privilege(u.oid, n.oid, 'USAGE') AND has_table_privilege(u.oid, c.oid, 'INSERT')
             AND has_table_privilege(u.oid, c.oid, 'UPDATE') AND has_table_privilege(u.oid, c.oid, 'DELETE'),
        'may_act', %MAY_ACT%,
        'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'kind', format_type(a.atttypid, a.atttypmod),
                         'not_null', a.attnotnull, 'required', a.attnotnull AND NOT a.atthasdef AND a.attidentity = '') ORDER BY a.attnum), '[]')
                      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                       AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''),
        'constraints', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid), 'valid', k.convalidated,
                                 'domain', (SELECT jsonb_build_object('schema', dn.nspname, 'table', t.typname) FROM pg_type t JOIN pg_namespace dn ON dn.oid = t.typnamespace WHERE t.oid = k.contypid))), '[]')
                          FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'u', 'x') OR k.contype = 'c' AND k.conrelid = 0
                           AND k.contypid IN (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)),
        'key', coalesce((SELECT (SELECT jsonb_agg(a.attname) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[]))
                           FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND (i.indisreplident OR i.indisprimary)
                          ORDER BY i.indisreplident DESC LIMIT 1), '[]'),
        'uniques', (SELECT coalesce(jsonb_agg(jsonb_build_object('index', x.relname, 'columns', k.columns, 'elements', e.elements,
                              'predicate', pg_get_expr(i.indpred, i.indrelid), 'excludes', CASE WHEN e.compared THEN pg_get_constraintdef(con.oid) END)
                              ORDER BY i.indisprimary DESC, x.relname), '[]')
                      FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x'),
                      LATERAL (SELECT jsonb_agg(jsonb_build_object('plain', i.indkey[p.at - 1] <> 0, 'text', pg_get_indexdef(i.indexrelid, p.at, false),
                                        'operator', (SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname) FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
                                                      WHERE o.oid = con.conexclop[p.at])) ORDER BY p.at) AS elements, con.conexclop IS NOT NULL AS compared
                                 FROM generate_series(1, coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts)) p(at)) e,
                      LATERAL (SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'kind', format_type(a.atttypid, a.atttypmod)) ORDER BY array_position(i.indkey::int2[], a.attnum), a.attnum) AS columns
                                 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                                  AND (a.attnum = ANY ((i.indkey::int2[])[0:coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts) - 1])
                                       OR (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND a.attnum IN (SELECT d.refobjsubid FROM pg_depend d
                                           WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid))) k
                     WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion) AND i.indisvalid
                       AND (i.indpred IS NULL AND i.indexprs IS NULL OR NOT EXISTS (SELECT FROM pg_depend d
                             WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)))
                       AND NOT EXISTS (SELECT FROM unnest(con.conexclop) o(oid) WHERE o.oid >= 16384
                             AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e'))),
        'triggers', (SELECT coalesce(jsonb_agg(format('%s (%s)', t.tgname, t.tgfoid::regproc) ORDER BY t.tgname), '[]')
                       FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace
                      WHERE t.tgrelid = c.oid AND (NOT t.tgisinternal OR t.tgconstraint = 0) AND t.tgenabled IN ('A', 'R') AND f.nspname <> 'flare'))
      FROM unnest($1, $2) w(nspname, relname) JOIN pg_namespace n ON n.nspname = w.nspname
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.relname JOIN pg_roles o ON o.oid = c.relowner
      JOIN pg_roles s ON s.rolname = $3 JOIN pg_roles u ON u.oid = CASE WHEN $4 THEN s.oid ELSE o.oid END";

#[derive(Deserialize)]
struct Named<T> {
    #[serde(flatten)]
    name: TableName,
    #[serde(flatten)]
    rest: T,
}

fn named<T: Clone>(rows: &[Named<T>], name: &TableName) -> Option<T> {
    let row = rows.iter().find(|it| it.name == *name);
    row.map(|it| it.rest.clone())
}

/// These tables, on both sides.
pub(super) fn look(
    stopped: &Stopped<'_>,
    subscription: &Subscription,
    names: &[TableName],
) -> Result<Vec<Table>> {
    let mut of_publisher = crate::catalog::tables::names_of(names);
    of_publisher.extend(params![stopped.repl]);
    let here: Vec<Named<Sent>> = briefly(stopped.from, |from| from.list(HERE, of_publisher))?;
    let mut of_subscriber = crate::catalog::tables::names_of(names);
    of_subscriber.extend(params![
        subscription.owner.as_str(),
        subscription.runs_as_owner
    ]);
    let may_act = match (major(stopped.to)?, subscription.runs_as_owner) {
        (16.., false) => "pg_has_role(s.oid, o.oid, 'SET')",
        _ => "true",
    };
    let sql = THERE.replace("%MAY_ACT%", may_act);
    let there: Vec<Named<Taken>> = briefly(stopped.to, |to| to.list(&sql, of_subscriber))?;
    let tables = names.iter().map(|name| Table {
        name: name.clone(),
        here: named(&here, name),
        there: named(&there, name),
    });
    Ok(tables.collect())
}

/// The subscription's tables whose copy is not complete.
pub(super) fn unready(stopped: &Stopped<'_>) -> Result<Vec<TableName>> {
    stopped.to.list(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
           FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE r.srsubid IN (SELECT subid FROM pg_stat_subscription WHERE subname = $1) AND r.srsubstate IN ('i', 'd')
          ORDER BY 1",
        params![stopped.subname],
    )
}

/// The tables that are published.
pub(super) fn published(
    stopped: &Stopped<'_>,
    subscription: &Subscription,
) -> Result<Vec<TableName>> {
    stopped.from.list(
        "SELECT DISTINCT jsonb_build_object('schema', n.nspname, 'table', c.relname)
           FROM pg_publication p, LATERAL pg_get_publication_tables(p.pubname) t
           JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE p.pubname = ANY ($1)",
        params![subscription.subpublications.clone()],
    )
}

/// Expressions that fail without a search_path.
pub(super) fn expressions(stopped: &Stopped<'_>) -> Result<Vec<Suspect>> {
    let (_, to) = stopped.sides;
    let evaluated = || briefly(&(stopped.as_owner)()?, |owner| answers(owner, FAILING));
    let failing = briefly(stopped.to, |to| failing(to, stopped.db_owner, evaluated))?;
    let suspects = failing.into_iter().map(|it| {
        suspect(
            SuspectKind::Expression,
            format!("{} needs a search_path, which is empty in apply: {}", it.what, it.why),
            format!(
                "ALTER FUNCTION {} SET search_path = ..., with the schema of what it names, on the {to}",
                it.functions
            ),
        )
    });
    Ok(suspects.collect())
}
