//! What newer servers have no more of what came with them: members of contrib's extensions, and system objects that
//! somebody was granted something on.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::error::Result;
use crate::server::{Session, params};

/// Extension, member and the first server whose version of the extension lacks it (the extensions' update scripts, compared
/// from 10 to 18). Functions of which only the arguments have changed are called as before; a privilege names them exactly.
const WITHDRAWN: &[(&str, &str, i32)] = &[
    ("cube", "operator @", 14),
    ("cube", "operator ~", 14),
    ("hstore", "operator @", 14),
    ("hstore", "operator ~", 14),
    ("intarray", "operator @", 14),
    ("intarray", "operator ~", 14),
    ("seg", "operator @", 14),
    ("seg", "operator ~", 14),
    ("pg_stat_statements", "column total_time", 13),
    ("pg_stat_statements", "column min_time", 13),
    ("pg_stat_statements", "column max_time", 13),
    ("pg_stat_statements", "column mean_time", 13),
    ("pg_stat_statements", "column stddev_time", 13),
    ("pg_stat_statements", "column blk_read_time", 17),
    ("pg_stat_statements", "column blk_write_time", 17),
    ("pg_stat_statements", RESULT, 13),
    ("pg_stat_statements", RESULT, 14),
    ("pg_stat_statements", RESULT, 15),
    ("pg_stat_statements", RESULT, 17),
    ("pg_stat_statements", RESULT, 18),
    (
        "pg_stat_statements",
        "privilege pg_stat_statements_reset()",
        12,
    ),
    (
        "pg_stat_statements",
        "privilege pg_stat_statements_reset(oid, oid, bigint)",
        17,
    ),
    ("pageinspect", "privilege bt_page_items(text, integer)", 14),
    ("pageinspect", "privilege bt_page_stats(text, integer)", 14),
    ("pageinspect", "privilege get_raw_page(text, integer)", 14),
    (
        "pageinspect",
        "privilege get_raw_page(text, text, integer)",
        14,
    ),
    ("pageinspect", "privilege page_checksum(bytea, integer)", 14),
    (
        "pg_walinspect",
        "function pg_get_wal_records_info_till_end_of_wal(pg_lsn)",
        16,
    ),
    (
        "pg_walinspect",
        "function pg_get_wal_stats_till_end_of_wal(pg_lsn, boolean)",
        16,
    ),
    (
        "pg_walinspect",
        "privilege pg_get_wal_records_info_till_end_of_wal(pg_lsn)",
        16,
    ),
    (
        "pg_walinspect",
        "privilege pg_get_wal_stats_till_end_of_wal(pg_lsn, boolean)",
        16,
    ),
    (
        "postgres_fdw",
        "privilege postgres_fdw_get_connections()",
        18,
    ),
];

/// A view over the function names all its columns, by their places, and these have moved.
const RESULT: &str = "result of pg_stat_statements(boolean)";

/// Whether a server of the second version lacks a member that one of the first has: `operator @`, `column c`,
/// `function f(text)`, `privilege f(text)`, `result of f(text)`. An extension may be older than its server, where nobody has
/// updated it; the columns of a result are those of the server's version.
pub(crate) fn is_withdrawn(extension: &str, member: &str, from: i32, to: i32) -> bool {
    WITHDRAWN.iter().any(|(of, name, since)| {
        *of == extension && *name == member && to >= *since && (member != RESULT || from < *since)
    })
}

/// An object that came with the server or with an extension, and on which privileges were changed since.
#[derive(Deserialize)]
struct Granted {
    schema: String,
    /// As pg_dump names its privileges: `FUNCTION f(a text)`, `TABLE t`, `COLUMN t.c`.
    entry: String,
    /// How it is found on the other server: `f(text)`, `t`, `t.c`.
    name: String,
    extension: Option<String>,
}

const GRANTED: &str = "
    WITH member(classid, objid, extname) AS (
         SELECT d.classid, d.objid, e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
          WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
     granted(classid, oid, sub, acl, schema, entry, name) AS (
         SELECT 'pg_proc'::regclass::oid, p.oid, 0, p.proacl, p.pronamespace::regnamespace,
                format('FUNCTION %I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)) FROM pg_proc p WHERE p.proacl IS NOT NULL
         UNION ALL SELECT 'pg_class'::regclass, c.oid, 0, c.relacl, c.relnamespace::regnamespace, format('TABLE %I', c.relname), c.relname FROM pg_class c WHERE c.relacl IS NOT NULL
         UNION ALL SELECT 'pg_class'::regclass, c.oid, a.attnum, a.attacl, c.relnamespace::regnamespace, format('COLUMN %I.%I', c.relname, a.attname), format('%s.%s', c.relname, a.attname)
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attacl IS NOT NULL)
    SELECT jsonb_build_object('schema', (SELECT nspname FROM pg_namespace n WHERE n.oid = g.schema), 'entry', g.entry, 'name', g.name, 'extension', m.extname)
      FROM granted g LEFT JOIN member m ON m.classid = g.classid AND m.objid = g.oid
     WHERE (m.extname IS NOT NULL OR g.schema = 'pg_catalog'::regnamespace AND g.oid < 16384)
       AND NOT EXISTS (SELECT FROM pg_init_privs i WHERE i.classoid = g.classid AND i.objoid = g.oid AND i.objsubid = g.sub AND i.initprivs = g.acl)";

const THERE: &str = "
    SELECT array(SELECT format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)) FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ($1)
           UNION ALL SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname = ANY ($1)
           UNION ALL SELECT format('%s.%s', c.relname, a.attname) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                      WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname = ANY ($1) AND NOT a.attisdropped)";

/// Privileges of a database that the other server has no object for, as pg_dump names them: schema and entry.
///
/// # Errors
/// When a server does not answer.
pub(crate) fn privileges_without_object(
    from: &Session,
    to: &Session,
    major: i32,
) -> Result<BTreeSet<(String, String)>> {
    let mut granted: Vec<Granted> = from.list(GRANTED, params![])?;
    if granted.is_empty() {
        return Ok(BTreeSet::new());
    }
    let base = |it: &Granted| {
        it.name
            .split(['(', '.'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let names: Vec<String> = granted.iter().map(base).collect();
    let there: Vec<String> = to.value(THERE, params![names])?;
    granted.retain(|it| match &it.extension {
        Some(extension) => is_withdrawn(extension, &format!("privilege {}", it.name), 0, major),
        None => !there.contains(&it.name),
    });
    Ok(granted
        .into_iter()
        .map(|it| (it.schema, it.entry))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_gone_from_a_server_on() {
        assert!(is_withdrawn("hstore", "operator @", 10, 14));
        assert!(!is_withdrawn("hstore", "operator @", 10, 13));
        assert!(!is_withdrawn("ltree", "operator @", 10, 18));
        assert!(is_withdrawn(
            "pg_stat_statements",
            "column total_time",
            15,
            18
        ));
        assert!(is_withdrawn("pg_stat_statements", RESULT, 15, 17));
        assert!(!is_withdrawn("pg_stat_statements", RESULT, 15, 16));
    }
}
