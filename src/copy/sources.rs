//! The tables to copy, as the publisher describes them.

use super::plan::{Source, needs_key};
use crate::catalog::tables::names_of;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::TableName;

/// Tables with their columns and sizes; a partitioned table stands for its partitions.
///
/// Binary is for types that are built in on both sides: arrays and composites of other types hold their numbers of this
/// catalog, and every reg* type is one. Enums travel by their labels, domains as what they are over.
pub(super) fn sources(session: &Session, major: i32, names: &[TableName]) -> Result<Vec<Source>> {
    let stored = match major {
        12.. => "AND a.attgenerated = ''",
        _ => "",
    };
    // Reading the statistics of each table takes longer than the rest of this, so only where ranges are made of them; and each
    // fork of each relation is a look at the disk, so only what rows are in counts.
    let key_from = needs_key(major);
    let sql = format!(
        "WITH RECURSIVE wanted AS (
             SELECT c.oid, c.relkind FROM unnest($1, $2) w(nspname, relname)
               JOIN pg_namespace n ON n.nspname = w.nspname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.relname
             UNION
             SELECT c.oid, c.relkind FROM wanted w JOIN pg_inherits i ON i.inhparent = w.oid JOIN pg_class c ON c.oid = i.inhrelid
              WHERE w.relkind = 'p')
         SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'bytes', w.heap + w.toast,
                  'pages', w.heap / current_setting('block_size')::int8, 'columns', coalesce(a.columns, '[]'),
                  'binary', coalesce(a.binary, true), 'key', CASE WHEN w.heap + w.toast >= {key_from} THEN (
                     SELECT jsonb_build_object('column', k.attname, 'bounds', s.histogram_bounds::text::int8[])
                       FROM pg_index i JOIN pg_attribute k ON k.attrelid = i.indrelid AND k.attnum = i.indkey[0]
                       JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = k.attname AND NOT s.inherited
                      WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid
                        AND k.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
                        AND abs(s.correlation) > 0.5 AND s.histogram_bounds IS NOT NULL) END)
           FROM (SELECT c.oid, pg_relation_size(c.oid) AS heap,
                        CASE c.reltoastrelid WHEN 0 THEN 0 ELSE pg_relation_size(c.reltoastrelid) END AS toast
                   FROM pg_class c WHERE c.oid IN (SELECT oid FROM wanted WHERE relkind = 'r') OFFSET 0) w
           JOIN pg_class c ON c.oid = w.oid JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN LATERAL (
               SELECT jsonb_agg(a.attname ORDER BY a.attnum) AS columns,
                      bool_and((b.oid < 16384 OR b.typtype = 'e') AND b.typsend <> 0 AND b.typreceive <> 0
                               AND b.typname !~ '^_?(reg|xml)' AND b.typtype <> 'c'
                               AND (b.typelem = 0 OR b.typelem < 16384)) AS binary
                 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                 JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped {stored}) a ON true
          ORDER BY 1"
    );
    session
        .list(&sql, names_of(names))
        .wrap_err("read the tables to copy")
}

/// How large a database's large objects are in number: nothing copies them.
pub(super) fn large_objects(session: &Session) -> Result<i64> {
    session
        .value("SELECT count(*) FROM pg_largeobject_metadata", params![])
        .wrap_err("look for large objects")
}
