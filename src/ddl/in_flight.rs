//! Rows on their way that would not be understood on the other side any more, though the statement does not lock their
//! tables: a row says the label of an enum, the attributes of a composite type and the name of its schema as they were when
//! it was written. So writers of such tables are waited for, and kept waiting until both sides have the statement.

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::TableName;

/// What the open transaction has written of it, with the names that it has now.
const WRITTEN: &str = "
    WITH own(age) AS (SELECT age((txid_current() & 4294967295)::text::xid))
    SELECT jsonb_build_object('oid', oid::bigint, 'name', name, 'what', what) FROM (
        SELECT oid, enumlabel, 'label', xmin FROM pg_enum
        UNION ALL SELECT oid, nspname, 'schema', xmin FROM pg_namespace
        UNION ALL SELECT a.attrelid, NULL, 'composite', a.xmin FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                   WHERE c.relkind = 'c' AND a.attnum > 0) w(oid, name, what, xmin), own
     WHERE age(w.xmin) <= own.age";

/// Which of it was there before, under another name or with other attributes: the oids of types and schemas.
const CHANGED: &str = "
    SELECT jsonb_build_object('oid', coalesce(e.enumtypid, n.oid, c.reltype)::bigint, 'name', w.name, 'what', w.what)
      FROM jsonb_to_recordset($1) w(oid bigint, name text, what text)
      LEFT JOIN pg_enum e ON w.what = 'label' AND e.oid = w.oid::oid AND e.enumlabel <> w.name
      LEFT JOIN pg_namespace n ON w.what = 'schema' AND n.oid = w.oid::oid AND n.nspname <> w.name
      LEFT JOIN pg_class c ON w.what = 'composite' AND c.oid = w.oid::oid
     WHERE coalesce(e.enumtypid, n.oid, c.reltype) IS NOT NULL";

/// Tables in these schemas, or with columns of these types, whatever is built of them.
const TABLES: &str = "
    WITH RECURSIVE types(oid) AS (
        SELECT oid::oid FROM unnest($1::bigint[]) oid
        UNION
        SELECT d.oid FROM types ty CROSS JOIN LATERAL (
            SELECT t.oid FROM pg_type t WHERE t.typelem = ty.oid OR t.typbasetype = ty.oid
            UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngsubtype = ty.oid
            UNION ALL SELECT c.reltype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                       WHERE a.atttypid = ty.oid AND c.relkind = 'c' AND NOT a.attisdropped) d)
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384
       AND (n.oid::bigint = ANY ($2::bigint[])
            OR EXISTS (SELECT FROM pg_attribute a JOIN types ty ON ty.oid = a.atttypid
                        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
     ORDER BY 1";

#[derive(Deserialize)]
struct Changed {
    oid: i64,
    what: String,
}

/// Waits for the writers of such tables, and keeps others waiting until the transaction of `open` ends; `beside` is another
/// session of the same side.
pub(super) fn hold_writers(open: &Session, beside: &Session) -> Result<()> {
    let written: Vec<serde_json::Value> = open.list(WRITTEN, params![])?;
    if written.is_empty() {
        return Ok(());
    }
    let changed: Vec<Changed> = beside.list(CHANGED, params![serde_json::Value::from(written)])?;
    if changed.is_empty() {
        return Ok(());
    }
    let (schemas, types): (Vec<Changed>, Vec<Changed>) =
        changed.into_iter().partition(|it| it.what == "schema");
    let oids = |changed: Vec<Changed>| changed.iter().map(|it| it.oid).collect::<Vec<_>>();
    let tables: Vec<TableName> = open.list(TABLES, params![oids(types), oids(schemas)])?;
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = tables.iter().map(TableName::to_string).collect();
    // The role that runs the statement may own the type, and not the tables.
    open.batch(&format!(
        "SET LOCAL ROLE NONE; LOCK TABLE ONLY {} IN SHARE MODE",
        names.join(", ONLY ")
    ))
    .wrap_err("wait for those who write rows that the statement changes")
}
