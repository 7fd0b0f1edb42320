//! Replication slots: the place a subscription has reached, kept by the publisher.

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::Lsn;

/// A slot as `pg_replication_slots` shows it; `None` where the version has no such column.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Slot {
    pub(crate) slot_name: String,
    pub(crate) plugin: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) temporary: bool,
    pub(crate) active: bool,
    pub(crate) active_pid: Option<i32>,
    pub(crate) confirmed_flush_lsn: Option<Lsn>,
    /// From 13 on: reserved, extended, unreserved, lost.
    pub(crate) wal_status: Option<String>,
}

/// The slot of this name, in whatever database it is.
pub(crate) fn find(session: &Session, slot_name: &str) -> Result<Option<Slot>> {
    session
        .first(
            "SELECT to_jsonb(s) FROM pg_replication_slots s WHERE slot_name = $1",
            params![slot_name],
        )
        .wrap_err_with(|| format!("read replication slot {slot_name:?}"))
}

/// The logical slots of a database.
pub(crate) fn of_database(session: &Session, dbname: &str) -> Result<Vec<Slot>> {
    session
        .list(
            "SELECT to_jsonb(s) FROM pg_replication_slots s WHERE database = $1 ORDER BY slot_name",
            params![dbname],
        )
        .wrap_err_with(|| format!("read the replication slots of database {dbname:?}"))
}
