//! Tables, and what identifies their rows for UPDATE and DELETE (manual: "Publication", replica identity).

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::TableName;

/// An ordinary or partitioned table of a user's schema.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Table {
    #[serde(flatten)]
    pub(crate) name: TableName,
    pub(crate) relkind: char,
    pub(crate) relpersistence: char,
    pub(crate) relreplident: char,
    pub(crate) owner: String,
    /// Whether the session's role may do what the owner may.
    pub(crate) mine: bool,
    /// Whether the database's owner of the configuration may.
    pub(crate) db_owners: bool,
    /// The partitioned tables it is a partition of, up to the root.
    pub(crate) ancestors: Vec<TableName>,
}

/// Tables that may be published: neither catalogs nor temporary (`is_publishable_class` in pg_publication.c). Of flare's own
/// only those of DDL are.
const TABLES: &str = "
    WITH RECURSIVE up(relid, ancestor) AS (
        SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition
        UNION
        SELECT up.relid, i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.ancestor
          JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition)
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'relkind', c.relkind,
             'relpersistence', c.relpersistence, 'relreplident', c.relreplident,
             'owner', pg_get_userbyid(c.relowner),
             'mine', pg_has_role(c.relowner, 'USAGE'),
             'db_owners', pg_has_role($1::name, c.relowner, 'USAGE'),
             'ancestors', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', an.nspname, 'table', a.relname)), '[]')
                             FROM up JOIN pg_class a ON a.oid = up.ancestor JOIN pg_namespace an ON an.oid = a.relnamespace
                            WHERE up.relid = c.oid))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384
       AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND (n.nspname <> 'flare' OR c.relname ~ '^ddl')
     ORDER BY n.nspname, c.relname";

/// All tables of the session's database.
pub(crate) fn all(session: &Session, db_owner: &str) -> Result<Vec<Table>> {
    session
        .list(TABLES, params![db_owner])
        .wrap_err("read the tables")
}

impl Table {
    /// Whether it is `name` or a partition of it.
    pub(crate) fn belongs_to(&self, name: &TableName) -> bool {
        self.name == *name || self.ancestors.contains(name)
    }
}

/// Relations whose size is not asked for: somebody holds the lock that excludes everybody, or waits for it, and the size
/// would wait, too. Apply waits for it with a TRUNCATE for as long as a table is copied.
pub(crate) const LOCKED: &str =
    "SELECT l.relation FROM pg_locks l WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())";

/// Those of `names` that hold rows. Sizes come first, so that only tables with pages are read.
pub(crate) fn not_empty(session: &Session, names: &[TableName]) -> Result<Vec<TableName>> {
    let rows: Vec<TableName> = session.list(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
           FROM unnest($1, $2) wanted(nspname, relname) JOIN pg_namespace n USING (nspname)
           JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.relname
          WHERE c.relkind = 'r' AND pg_relation_size(c.oid) > 0",
        names_of(names),
    )?;
    if rows.is_empty() {
        return Ok(rows);
    }
    let probes: Vec<String> = rows
        .iter()
        .map(|name| format!("EXISTS (SELECT FROM ONLY {name})"))
        .collect();
    let found: Vec<bool> = session
        .value(&format!("SELECT ARRAY[{}]", probes.join(", ")), params![])
        .wrap_err("look whether the tables are empty")?;
    let filled = rows.into_iter().zip(found).filter(|(_, filled)| *filled);
    Ok(filled.map(|(name, _)| name).collect())
}

/// Whether any table of a user was ever written to; what flare keeps in its schema does not count.
pub(crate) fn any_pages(session: &Session) -> Result<bool> {
    session
        .value(
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE c.relkind IN ('r', 'm') AND c.oid >= 16384 AND n.nspname !~ '^pg_'
                               AND n.nspname NOT IN ('flare', 'information_schema') AND pg_relation_size(c.oid) > 0)",
            params![],
        )
        .wrap_err("look whether any table was written to")
}

/// Those of `names` that are no tables here.
pub(crate) fn missing(session: &Session, names: &[TableName]) -> Result<Vec<TableName>> {
    session.list(
        "SELECT jsonb_build_object('schema', wanted.nspname, 'table', wanted.relname)
           FROM unnest($1, $2) wanted(nspname, relname)
          WHERE NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE n.nspname = wanted.nspname AND c.relname = wanted.relname
                               AND c.relkind IN ('r', 'p'))
          ORDER BY 1",
        names_of(names),
    )
}

/// A table, and whether there is nothing in it or in what DROP TABLE takes with it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Filled {
    #[serde(flatten)]
    pub(crate) name: TableName,
    pub(crate) empty: bool,
}

/// The user's tables of a database that another one has not.
pub(crate) fn lacking_in(other: &Session, session: &Session) -> Result<Vec<Filled>> {
    let found: Vec<Filled> = session.list(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'empty', NOT EXISTS (
                    WITH RECURSIVE tree(oid) AS (SELECT c.oid UNION SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid)
                    SELECT FROM tree WHERE pg_relation_size(tree.oid) > 0))
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.relname !~ '^flare_replication_status'
            AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flare')
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
          ORDER BY n.nspname, c.relname",
        params![],
    )?;
    let names: Vec<TableName> = found.iter().map(|it| it.name.clone()).collect();
    let missing = missing(other, &names)?;
    Ok(found
        .into_iter()
        .filter(|it| missing.contains(&it.name))
        .collect())
}

/// What stops a role from copying tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Unreadable {
    /// No USAGE on the schema or no SELECT on the table.
    pub(crate) denied: Vec<TableName>,
    /// Row security would hide rows from the role, in silence.
    pub(crate) filtered: Vec<TableName>,
}

/// Those of `names` that `role` cannot read, or not all of.
pub(crate) fn unreadable(session: &Session, role: &str, names: &[TableName]) -> Result<Unreadable> {
    let mut params = names_of(names);
    params.extend(params![role]);
    let found: Option<Unreadable> = session.first(
        "SELECT jsonb_build_object(
                  'denied', coalesce(jsonb_agg(name) FILTER (WHERE denied), '[]'),
                  'filtered', coalesce(jsonb_agg(name) FILTER (WHERE filtered), '[]'))
           FROM (SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname) AS name,
                        NOT (has_schema_privilege($3::name, n.oid, 'USAGE') AND has_table_privilege($3::name, c.oid, 'SELECT')) AS denied,
                        c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)
                          AND (c.relforcerowsecurity OR NOT pg_has_role($3::name, c.relowner, 'USAGE')) AS filtered
                   FROM unnest($1, $2) wanted(nspname, relname) JOIN pg_namespace n USING (nspname)
                   JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.relname
                   JOIN pg_roles r ON r.rolname = $3
                  ORDER BY n.nspname, c.relname) t",
        params,
    )?;
    Ok(found.unwrap_or_default())
}

/// Owners of `names`, and `db_owner`, as whom `role` may not act (16+): its subscription could not write there.
pub(crate) fn owners_out_of_reach(
    session: &Session,
    role: &str,
    db_owner: &str,
    names: &[TableName],
) -> Result<Vec<String>> {
    let mut params = names_of(names);
    params.extend(params![db_owner, role]);
    session.value(
        "SELECT array(SELECT r.rolname::text FROM pg_roles r
                       WHERE NOT pg_has_role($4::name, r.oid, 'SET')
                         AND (r.rolname = $3 OR r.oid IN (
                              SELECT c.relowner FROM unnest($1, $2) wanted(nspname, relname) JOIN pg_namespace n USING (nspname)
                                JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.relname))
                       ORDER BY 1)",
        params,
    )
}

/// Bytes of each table's rows, in the order of the names; 0 for one that is not there.
pub(crate) fn bytes(session: &Session, names: &[TableName]) -> Result<Vec<i64>> {
    session.value(
        "SELECT array(SELECT coalesce((SELECT pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                        WHERE n.nspname = w.nspname AND c.relname = w.relname), 0)
                        FROM unnest($1, $2) WITH ORDINALITY w(nspname, relname, at) ORDER BY w.at)",
        names_of(names),
    )
}

/// Whether a table of the session's database was never analysed.
pub(crate) fn lack_statistics(session: &Session) -> Result<bool> {
    session
        .value(
            "SELECT EXISTS (SELECT FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
                             WHERE c.relkind = 'r' AND s.last_analyze IS NULL AND s.last_autoanalyze IS NULL)",
            params![],
        )
        .wrap_err("look for tables without statistics")
}

/// Schemas and names, as two arrays.
pub(crate) fn names_of(names: &[TableName]) -> Vec<crate::server::Param> {
    let schemas: Vec<String> = names.iter().map(|n| n.schema.as_str().to_owned()).collect();
    let tables: Vec<String> = names.iter().map(|n| n.table.as_str().to_owned()).collect();
    params![schemas, tables]
}

/// Names as people read them, the first few of many.
pub(crate) fn listed<'n>(names: impl IntoIterator<Item = &'n TableName>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<String> = names.into_iter().map(TableName::plain).collect();
    match names.len() {
        n if n > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
        _ => names.join(", "),
    }
}
