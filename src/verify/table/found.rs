//! Tables as one side's catalog has them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::catalog::tables::names_of;
use crate::error::{Result, WrapErr};
use crate::server::Session;
use crate::value::TableName;
use crate::verify::canonical::Types;
use crate::verify::types;

/// A table of one side.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::verify) struct Found {
    #[serde(flatten)]
    pub(in crate::verify) name: TableName,
    pub(in crate::verify) relkind: char,
    /// As estimated by the last ANALYZE, or counted while they were written.
    pub(in crate::verify) reltuples: f64,
    pub(in crate::verify) bytes: i64,
    /// Another one after TRUNCATE, and after whatever writes the table anew.
    #[serde(default)]
    pub(in crate::verify) file: Option<String>,
    pub(in crate::verify) columns: Vec<Column>,
    pub(in crate::verify) keys: Vec<KeyIndex>,
    /// How far the first key column's order is that of the rows on disk (`pg_stats.correlation`), by column.
    pub(in crate::verify) correlation: BTreeMap<String, f64>,
}

/// A column of one side.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in crate::verify) struct Column {
    pub(in crate::verify) name: String,
    #[serde(rename = "type")]
    pub(in crate::verify) type_oid: u32,
    /// Without a modifier, as a cast wants it: `bpchar`, not `character`.
    pub(in crate::verify) written: String,
    /// With its modifier.
    pub(in crate::verify) declared: String,
    /// `pg_attribute.attgenerated`: empty, s or v.
    pub(in crate::verify) generated: String,
}

/// A unique index that names each row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in crate::verify) struct KeyIndex {
    pub(in crate::verify) columns: Vec<String>,
    /// Where each column's operators are.
    pub(in crate::verify) operators: Vec<String>,
    /// What an entry takes; 0 where the table's rows were never counted.
    pub(in crate::verify) bytes: i64,
}

/// Only indexes whose order is that of `ORDER BY` without more: default operator class, ascending, the column's collation.
const KEYS: &str = "
    SELECT coalesce(jsonb_agg(jsonb_build_object('columns', k.columns, 'operators', k.operators,
                              'bytes', CASE WHEN c.reltuples > 0 THEN (pg_relation_size(i.indexrelid) / c.reltuples)::int8 ELSE 0 END)
                              ORDER BY i.indisprimary DESC, cardinality(k.columns), i.indexrelid), '[]')
      FROM pg_index i
      JOIN pg_class x ON x.oid = i.indexrelid
      JOIN pg_am am ON am.oid = x.relam AND am.amname = 'btree'
     CROSS JOIN LATERAL (
           SELECT array_agg(a.attname::text ORDER BY u.n) AS columns,
                  array_agg(coalesce((SELECT q.nspname::text FROM pg_amop p JOIN pg_operator o ON o.oid = p.amopopr
                                        JOIN pg_namespace q ON q.oid = o.oprnamespace
                                       WHERE p.amopfamily = oc.opcfamily AND p.amoplefttype = oc.opcintype
                                         AND p.amoprighttype = oc.opcintype AND p.amopstrategy = 3
                                         AND o.oprname = '='), '') ORDER BY u.n) AS operators,
                  bool_and(a.attnotnull AND oc.opcdefault AND u.option = 0 AND u.coll = a.attcollation) AS plain
             FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[], i.indoption::int2[])
                  WITH ORDINALITY u(attnum, class, coll, option, n)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
             JOIN pg_opclass oc ON oc.oid = u.class
            WHERE u.n <= coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts)) k
     WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indisready AND i.indimmediate
       AND i.indpred IS NULL AND i.indexprs IS NULL AND k.plain AND NOT '' = ANY (k.operators)";

fn tables_sql(major: i32) -> String {
    // A partitioned table is measured by its partitions, which only a publication via the root (13+) names.
    let (bytes, rows) = if major >= 12 {
        (
            "CASE c.relkind WHEN 'p' THEN (SELECT sum(pg_table_size(p.relid)) FROM pg_partition_tree(c.oid) p)
                            ELSE pg_table_size(c.oid) END",
            "CASE c.relkind WHEN 'p' THEN (SELECT sum(greatest(r.reltuples, pg_stat_get_live_tuples(r.oid)))
                                             FROM pg_partition_tree(c.oid) p JOIN pg_class r ON r.oid = p.relid
                                            WHERE p.isleaf)
                            WHEN 'r' THEN CASE WHEN c.reltuples > 0 THEN c.reltuples ELSE pg_stat_get_live_tuples(c.oid) END END",
        )
    } else {
        (
            "pg_table_size(c.oid)",
            "CASE WHEN c.reltuples > 0 THEN c.reltuples ELSE pg_stat_get_live_tuples(c.oid) END",
        )
    };
    format!(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'relkind', c.relkind,
                  'reltuples', coalesce({rows}, 0)::float8, 'bytes', coalesce({bytes}, 0)::int8, 'file', pg_relation_filenode(c.oid)::text,
                  'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'type', a.atttypid::int8,
                                       'written', format_type(a.atttypid, -1),
                                       'declared', format_type(a.atttypid, a.atttypmod),
                                       'generated', coalesce(to_jsonb(a) ->> 'attgenerated', '')) ORDER BY a.attnum), '[]')
                                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
                  'correlation', (SELECT coalesce(jsonb_object_agg(s.attname, s.correlation), '{{}}') FROM pg_stats s
                                   WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND NOT s.inherited
                                     AND s.correlation IS NOT NULL),
                  'keys', ({KEYS}))
           FROM unnest($1::text[], $2::text[]) wanted(nspname, relname)
           JOIN pg_namespace n ON n.nspname = wanted.nspname
           JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.relname
          WHERE c.relkind IN ('r', 'p')"
    )
}

/// These tables as one side has them, and the types of their columns.
pub(in crate::verify) fn read(
    session: &Session,
    major: i32,
    names: &[TableName],
) -> Result<(Vec<Found>, Types)> {
    let found: Vec<Found> = session
        .list(&tables_sql(major), names_of(names))
        .wrap_err("read the tables to compare")?;
    let columns = found.iter().flat_map(|table| &table.columns);
    let types = types::describe(session, columns.map(|column| column.type_oid))?;
    Ok((found, types))
}
