//! Publications and what is in them.

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::TableName;

/// A publication as `pg_publication` shows it; `None` where the version has no such column.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Publication {
    pub(crate) pubname: String,
    pub(crate) puballtables: bool,
    pub(crate) pubinsert: bool,
    pub(crate) pubupdate: bool,
    pub(crate) pubdelete: bool,
    /// From 11 on.
    pub(crate) pubtruncate: Option<bool>,
    /// Changes of partitions are sent as changes of the root (13+).
    #[serde(default, rename = "pubviaroot")]
    pub(crate) via_root: bool,
    pub(crate) owner: String,
    /// Whether the session's role may do what the owner may.
    pub(crate) mine: bool,
    /// Tables that were named, partitioned ones as such.
    pub(crate) members: Vec<TableName>,
    /// Members of which only some rows or columns are published (15+).
    pub(crate) partial: Vec<TableName>,
}

const PUBLICATION: &str = "
    SELECT to_jsonb(p) || jsonb_build_object(
             'owner', pg_get_userbyid(p.pubowner), 'mine', pg_has_role(p.pubowner, 'USAGE'),
             'members', coalesce(jsonb_agg(m.name ORDER BY m.name) FILTER (WHERE m.name IS NOT NULL), '[]'),
             'partial', coalesce(jsonb_agg(m.name ORDER BY m.name) FILTER (WHERE m.partial), '[]'))
      FROM pg_publication p
      LEFT JOIN (SELECT pr.prpubid, jsonb_build_object('schema', n.nspname, 'table', c.relname) AS name,
                        coalesce(to_jsonb(pr) ->> 'prqual', to_jsonb(pr) ->> 'prattrs') IS NOT NULL AS partial
                   FROM pg_publication_rel pr JOIN pg_class c ON c.oid = pr.prrelid
                   JOIN pg_namespace n ON n.oid = c.relnamespace) m ON m.prpubid = p.oid
     WHERE p.pubname = $1
     GROUP BY p.*, p.oid, p.pubowner";

/// The publication of this name in the session's database.
pub(crate) fn find(session: &Session, pubname: &str) -> Result<Option<Publication>> {
    session
        .first(PUBLICATION, params![pubname])
        .wrap_err_with(|| format!("read publication {pubname:?}"))
}

/// The tables whose changes it sends, as a subscriber sees them: leaves of partitioned tables. Like every other query, it
/// asks the function behind pg_publication_tables: the view calls it once for each table on 10 and 11, and reads all
/// columns from 15 on, which takes seconds of a thousand tables.
pub(crate) fn tables(session: &Session, pubname: &str) -> Result<Vec<TableName>> {
    session
        .list(
            "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
               FROM pg_publication p, pg_get_publication_tables(p.pubname) t
               JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE p.pubname = $1 ORDER BY n.nspname, c.relname",
            params![pubname],
        )
        .wrap_err_with(|| format!("read the tables of publication {pubname:?}"))
}

/// How many publications the session's database has.
pub(crate) fn count(session: &Session) -> Result<i64> {
    session.value("SELECT count(*) FROM pg_publication", params![])
}
