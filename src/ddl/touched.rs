//! What a statement's open transaction has touched, and what it means for rows: asked once on each connection, since
//! writers wait meanwhile.
//!
//! Rows on their way would not be understood on the other side any more, though the statement does not lock their tables: a
//! row says the label of an enum, the attributes of a composite type (which each table has one of) and the name of its
//! schema as they were when it was written. And the walsender reads such a type only when nobody has locked it. So writers
//! of such tables are waited for, and kept waiting until both sides have the statement.

use serde::Deserialize;
use serde_json::json;

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::TableName;

/// What the transaction has locked against everybody or written, as it sees it: tables with the files of their rows; types
/// of rows that may be those of a column; labels and schemas with their names.
const TOUCHED: &str = "
    WITH locked AS (
        SELECT c.oid, c.relkind, c.relpersistence, c.relfilenode, c.reltype FROM pg_class c
         WHERE c.oid IN (SELECT relation FROM pg_locks
                          WHERE pid = pg_backend_pid() AND locktype = 'relation' AND mode = 'AccessExclusiveLock' AND granted
                            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())))
    SELECT jsonb_build_object(
      'tables', (SELECT coalesce(jsonb_agg(jsonb_build_object('oid', oid::bigint, 'file', relfilenode::bigint)), '[]')
                   FROM locked WHERE relkind = 'r' AND relpersistence = 'p'),
      'types', (SELECT coalesce(jsonb_agg(t.oid::bigint), '[]') FROM locked c JOIN pg_type t ON t.oid = c.reltype
                 WHERE EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray)
                                  AND d.classid IN ('pg_type'::regclass, 'pg_class'::regclass) AND d.deptype = 'n')),
      'names', (SELECT coalesce(jsonb_agg(jsonb_build_object('oid', oid::bigint, 'name', name)), '[]')
                  FROM (SELECT oid, enumlabel, xmin FROM pg_enum UNION ALL SELECT oid, nspname, xmin FROM pg_namespace) w(oid, name, xmin)
                 WHERE age(xmin) <= age((txid_current() & 4294967295)::text::xid)))";

/// Of that, as it is for everybody else: tables whose rows are in another file; and tables in schemas and with columns of
/// types that are others now, whatever is built of them.
const BEFORE: &str = "
    WITH RECURSIVE
    names AS (SELECT oid::oid, name FROM jsonb_to_recordset($2) n(oid bigint, name text)),
    types(oid) AS (
        SELECT t.oid FROM pg_type t WHERE t.oid IN (SELECT value::oid FROM jsonb_array_elements_text($3))
        UNION SELECT e.enumtypid FROM pg_enum e JOIN names n ON n.oid = e.oid WHERE e.enumlabel <> n.name
        UNION
        SELECT CASE d.classid WHEN 'pg_class'::regclass THEN (SELECT reltype FROM pg_class c WHERE c.oid = d.objid) ELSE d.objid END
          FROM types ty JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid = ty.oid
                                        AND d.classid IN ('pg_type'::regclass, 'pg_class'::regclass)),
    held(oid) AS (
        SELECT d.objid FROM types ty JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid = ty.oid
                                                     AND d.classid = 'pg_class'::regclass
        UNION SELECT c.oid FROM pg_class c
               WHERE c.relnamespace IN (SELECT s.oid FROM pg_namespace s JOIN names n ON n.oid = s.oid WHERE s.nspname <> n.name)),
    found(what, schema, name) AS (
        SELECT 'rewritten', n.nspname, c.relname
          FROM jsonb_to_recordset($1) s(oid bigint, file bigint) JOIN pg_class c ON c.oid = s.oid::oid
          JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relfilenode::bigint <> s.file
        UNION ALL
        SELECT 'held', n.nspname, c.relname
          FROM held JOIN pg_class c ON c.oid = held.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384)
    SELECT jsonb_object_agg(what, tables)
      FROM (SELECT what, jsonb_agg(jsonb_build_object('schema', schema, 'table', name) ORDER BY schema, name) FROM found GROUP BY what) f(what, tables)
    HAVING count(*) > 0";

#[derive(Default, Deserialize)]
struct Touched {
    tables: Vec<serde_json::Value>,
    types: Vec<i64>,
    names: Vec<serde_json::Value>,
}

/// Tables by the names that they have for everybody else.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Concerned {
    /// Their rows have been computed anew.
    pub(super) rewritten: Vec<TableName>,
    /// Their writers have to wait, though the statement itself may not lock them.
    pub(super) held: Vec<TableName>,
}

/// What the open transaction of `open` concerns; `beside` is another session of the same side.
pub(super) fn concerned(open: &Session, beside: &Session) -> Result<Concerned> {
    let touched: Option<Touched> = open.first(TOUCHED, params![])?;
    let Some(touched) = touched else {
        return Ok(Concerned::default());
    };
    if touched.tables.is_empty() && touched.types.is_empty() && touched.names.is_empty() {
        return Ok(Concerned::default());
    }
    before(beside, &touched)
}

fn before(beside: &Session, touched: &Touched) -> Result<Concerned> {
    let concerned: Option<Concerned> = beside.first(
        BEFORE,
        params![
            json!(touched.tables),
            json!(touched.names),
            json!(touched.types)
        ],
    )?;
    Ok(concerned.unwrap_or_default())
}

/// Asks both once.
pub(super) fn rehearse(open: &Session, beside: &Session) -> Result<()> {
    let touched: Option<Touched> = open.first(TOUCHED, params![])?;
    before(beside, &touched.unwrap_or_default()).map(drop)
}

/// Waits for the writers of these tables, and keeps others waiting until the transaction of `open` ends, whose role stays.
pub(super) fn hold_writers(open: &Session, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = tables.iter().map(TableName::to_string).collect();
    // The role that runs the statement may own the type, and not the tables.
    open.batch(&format!(
        "SELECT set_config('flare.role', current_setting('role'), true);
         SET LOCAL ROLE NONE; LOCK TABLE ONLY {} IN SHARE MODE;
         SELECT set_config('role', current_setting('flare.role'), true)",
        names.join(", ONLY ")
    ))
    .wrap_err("wait for those who write rows that the statement changes")
}
