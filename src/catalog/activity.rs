//! Who is at work on a server.

use std::fmt;

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};

/// A transaction with an xid: what a new logical slot has to wait for, in whatever database it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Writer {
    /// None: a prepared transaction.
    pub(crate) pid: Option<i32>,
    /// The prepared transaction's name.
    pub(crate) gid: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) dbname: Option<String>,
    pub(crate) state: Option<String>,
    /// Since the transaction began or was prepared.
    pub(crate) age_seconds: i64,
}

const WRITERS: &str = "
    SELECT to_jsonb(w) FROM (
        SELECT pid, NULL::text AS gid, usename AS user, datname AS dbname, state,
               extract(epoch FROM clock_timestamp() - xact_start)::int8 AS age_seconds
          FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> $2
        UNION ALL
        SELECT NULL, gid, owner, database, NULL, extract(epoch FROM clock_timestamp() - prepared)::int8
          FROM pg_prepared_xacts) w
     WHERE w.age_seconds >= $1 ORDER BY w.age_seconds DESC, w.pid";

/// Transactions with an xid that are at least this old, the oldest first; not that of process `but`.
pub(crate) fn writers(session: &Session, age_seconds: i64, but: i32) -> Result<Vec<Writer>> {
    session
        .list(WRITERS, params![age_seconds, but])
        .wrap_err("read the open transactions")
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().unwrap_or_default();
        let dbname = self.dbname.as_deref().unwrap_or_default();
        match (&self.gid, self.pid) {
            (Some(gid), _) => write!(f, "prepared transaction {gid:?}")?,
            (None, Some(pid)) => write!(f, "pid {pid}")?,
            (None, None) => write!(f, "a transaction")?,
        }
        write!(
            f,
            " (user {user:?}, database {dbname:?}, for {} s",
            self.age_seconds
        )?;
        match &self.state {
            Some(state) => write!(f, ", {state})"),
            None => write!(f, ")"),
        }
    }
}
