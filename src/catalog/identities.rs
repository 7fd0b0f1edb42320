//! Replica identities: what UPDATE and DELETE are sent with (`pg_class.relreplident`).

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::TableName;

/// A table's replica identity.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Identity {
    #[serde(flatten)]
    pub(crate) name: TableName,
    /// d, n, f or i: primary key, nothing, the whole row, an index.
    pub(crate) relreplident: char,
    pub(crate) index: Option<String>,
    /// Whether the session's role may change it.
    pub(crate) mine: bool,
}

const IDENTITIES: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'relreplident', c.relreplident,
             'index', (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                        WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i'),
             'mine', pg_has_role(c.relowner, 'USAGE'))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384
       AND n.nspname NOT IN ('information_schema', 'flare') AND n.nspname !~ '^pg_'
     ORDER BY n.nspname, c.relname";

/// The replica identity of every table of the session's database.
pub(crate) fn identities(session: &Session) -> Result<Vec<Identity>> {
    session
        .list(IDENTITIES, params![])
        .wrap_err("read the replica identities")
}
