//! The tables that are there, and those that are published or will be.

use serde::Deserialize;

use crate::config::Publication;
use crate::error::Result;
use crate::preflight::question::Question;
use crate::preflight::registry::Before;
use crate::preflight::view::View;
use crate::value::TableName;

/// An ordinary or partitioned table of a user's schema, with what identifies its rows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Table {
    #[serde(flatten)]
    pub(crate) name: TableName,
    pub(crate) relkind: char,
    pub(crate) relpersistence: char,
    pub(crate) relreplident: char,
    /// Valid and not deferrable.
    pub(crate) has_primary_key: bool,
    pub(crate) identity_index: Option<String>,
    /// Of the indexes that REPLICA IDENTITY USING INDEX takes, the one with the fewest columns.
    #[serde(default)]
    pub(crate) usable_index: Option<String>,
    pub(crate) owner: String,
    pub(crate) bytes: i64,
    pub(crate) has_rows: bool,
    /// Rows updated and deleted since the statistics began.
    pub(crate) changes: i64,
    #[serde(default)]
    pub(crate) ancestors: Vec<TableName>,
}

/// Sizes from pg_class: they wait for no lock, but where neither it nor the statistics, which a crash empties, know of a
/// row. The status table is flare's own affair.
pub(crate) const TABLES: Question<Table> = Question::database(
    "tables",
    "WITH RECURSIVE up(relid, ancestor) AS (
         SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition
         UNION
         SELECT up.relid, i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.ancestor
           JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition),
     ancestors(relid, names) AS (
         SELECT up.relid, jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', a.relname))
           FROM up JOIN pg_class a ON a.oid = up.ancestor JOIN pg_namespace n ON n.oid = a.relnamespace GROUP BY 1),
     keys(relid, has_primary_key, identity_index) AS (
         SELECT i.indrelid, bool_or(i.indisprimary AND i.indisvalid AND i.indimmediate),
                max(c.relname) FILTER (WHERE i.indisreplident AND i.indisvalid)
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisprimary OR i.indisreplident GROUP BY 1),
     usable(relid, usable_index) AS (
         SELECT DISTINCT ON (i.indrelid) i.indrelid, c.relname
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indrelid >= 16384
            AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND NOT a.attnotnull AND a.attnum = ANY (i.indkey))
          ORDER BY i.indrelid, i.indnatts, c.relname)
     SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'relkind', c.relkind,
              'relpersistence', c.relpersistence, 'relreplident', c.relreplident,
              'has_primary_key', coalesce(k.has_primary_key, false), 'identity_index', k.identity_index, 'usable_index', u.usable_index,
              'owner', pg_get_userbyid(c.relowner), 'bytes', c.relpages::int8 * current_setting('block_size')::int8,
              'has_rows', CASE WHEN c.reltuples > 0 OR c.relpages > 0 OR pg_stat_get_live_tuples(c.oid) > 0 OR pg_stat_get_tuples_inserted(c.oid) > 0 THEN true
                           WHEN c.relkind = 'r' THEN coalesce(pg_relation_size(c.oid), 0) > 0 ELSE false END,
              'changes', pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid),
              'ancestors', coalesce(a.names, '[]'))
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN keys k ON k.relid = c.oid LEFT JOIN usable u ON u.relid = c.oid LEFT JOIN ancestors a ON a.relid = c.oid
      WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384
        AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> 'flare'
        AND c.relname <> 'flare_replication_status'
      ORDER BY n.nspname, c.relname",
);

/// The tables whose changes the publication sends.
pub(crate) const PUBLISHED: Question<TableName> = Question::database(
    "published",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
       FROM pg_publication p, pg_get_publication_tables(p.pubname) t
       JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE p.pubname = {pubname} AND c.relname <> 'flare_replication_status'",
);

impl Table {
    /// Whether UPDATE and DELETE could be sent.
    pub(crate) fn identifies_rows(&self) -> bool {
        match self.relreplident {
            'f' => true,
            'd' => self.has_primary_key,
            'i' => self.identity_index.is_some(),
            _ => false,
        }
    }

    /// Whether it is one of these, or a partition of one.
    pub(crate) fn is_of(&self, names: &[TableName]) -> bool {
        let named = |name: &TableName| self.name == *name || self.ancestors.contains(name);
        names.iter().any(named)
    }

    /// Whether whole rows are sent and searched for: a primary key on the other side would be used instead.
    pub(super) fn is_searched(&self, wanted: &Publication) -> bool {
        let full = self.relreplident == 'f' || self.is_of(&wanted.replica_identity_full_tables);
        full && !self.has_primary_key
    }
}

/// The ordinary tables that are published, or will be as the configuration has it.
pub(crate) fn covered(view: &View<'_>) -> Result<Vec<Table>> {
    let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
        return Ok(Vec::new());
    };
    let mut tables = publisher.rows(&TABLES)?;
    let published = publisher.rows(&PUBLISHED)?;
    let wanted = moving.publication;
    // With `tables: listed`, what the application has made since is published by nobody but create_publication.
    let new_ones_too = !(wanted.listed && view.subscribed) || view.before == Before::Publication;
    tables.retain(|table| {
        let names = wanted.tables.as_deref();
        let meant = names.map_or(new_ones_too, |names| table.is_of(names));
        table.relkind == 'r' && table.relpersistence == 'p' && (meant || table.is_of(&published))
    });
    Ok(tables)
}
