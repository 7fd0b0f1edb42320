//! What is asked rarely, since it costs something for each table.

use serde::Deserialize;

use crate::catalog::tables::LOCKED;
use crate::error::Result;
use crate::server::{Session, params};

/// Facts for each table, and the directory of WAL.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// The published tables.
    pub published: Vec<PublishedTable>,
    /// Tables of the subscription in which apply finds a row by reading all of them.
    pub unindexed: Vec<String>,
    /// Tables that have not been copied, all of them.
    pub uncopied: Vec<String>,
    /// Size of the publisher's `pg_wal`, where the role may look into it.
    pub wal_directory_bytes: Option<u64>,
}

/// A published table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PublishedTable {
    /// Its name.
    pub table: String,
    /// Its size on the publisher, without indexes; none while somebody has locked it.
    pub bytes: Option<u64>,
    /// Its rows, as the last ANALYZE estimated them.
    pub reltuples: f64,
}

impl Survey {
    /// The publisher's tables, asked in the database itself. A size waits for whoever has locked the table, so those
    /// are left out.
    pub(in crate::observe) fn published(
        session: &Session,
        pubnames: &[String],
    ) -> Result<Vec<PublishedTable>> {
        session.list(
            &format!("WITH published AS (SELECT DISTINCT t.relid FROM pg_publication p, LATERAL pg_get_publication_tables(p.pubname) t
                                 WHERE p.pubname = ANY ($1))
             SELECT jsonb_build_object('table', p.relid::regclass::text, 'reltuples', c.reltuples,
                       'bytes', CASE WHEN p.relid NOT IN ({LOCKED})
                                     THEN pg_table_size(p.relid) END)
               FROM published p JOIN pg_class c ON c.oid = p.relid"),
            params![pubnames.to_vec()],
        )
    }

    /// The size of `pg_wal`; none where the role may not look into it.
    pub(in crate::observe) fn wal_directory(session: &Session) -> Result<Option<u64>> {
        let allowed: bool = session.value(
            "SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE')",
            params![],
        )?;
        if !allowed {
            return Ok(None);
        }
        let bytes: i64 = session.value(
            "SELECT coalesce(sum(size), 0)::int8 FROM pg_ls_waldir()",
            params![],
        )?;
        Ok(u64::try_from(bytes).ok())
    }

    /// $1: the subscription. Before 16 only a replica identity or a primary key leads to a row; from then
    /// on any index whose first column is one (manual: "Publication", replica identity).
    pub(in crate::observe) fn unindexed(
        session: &Session,
        subname: &str,
        major: i32,
    ) -> Result<Vec<String>> {
        let other = if major >= 16 {
            "OR (i.indpred IS NULL AND i.indkey[0] <> 0 AND m.amname IN ('btree', 'hash'))"
        } else {
            ""
        };
        session.value(
            &format!(
                "SELECT coalesce(array_agg(c.oid::regclass::text ORDER BY c.oid), '{{}}')
                   FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid
                  WHERE r.srsubid IN (SELECT subid FROM pg_stat_subscription WHERE subname = $1) AND c.relkind = 'r'
                    AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                                      JOIN pg_am m ON m.oid = x.relam
                                     WHERE i.indrelid = c.oid AND i.indisvalid
                                       AND (i.indisreplident OR i.indisprimary {other}))"
            ),
            params![subname],
        )
    }

    /// Tables whose copy is not complete.
    pub(in crate::observe) fn uncopied(session: &Session, subname: &str) -> Result<Vec<String>> {
        session.value(
            "SELECT coalesce(array_agg(srrelid::regclass::text), '{}') FROM pg_subscription_rel
              WHERE srsubid IN (SELECT subid FROM pg_stat_subscription WHERE subname = $1) AND srsubstate IN ('i', 'd')",
            params![subname],
        )
    }
}
