//! Replication slots: the place a subscription has reached, kept by the publisher.

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::{Lsn, MAX_IDENT_BYTES};

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

impl Slot {
    /// Whether the WAL that it needs was removed (13+).
    pub(crate) fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
    }
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

/// The slot of a subscription: its own name where that is a slot's name (lower case, digits, underscores), else one made of it.
pub(crate) fn name_for(subname: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    // CREATE SUBSCRIPTION takes the word none for no slot at all.
    if subname.chars().all(fits) && subname.len() <= MAX_IDENT_BYTES && subname != "none" {
        return subname.to_owned();
    }
    let plain = subname.chars().map(|c| match c.to_ascii_lowercase() {
        c if fits(c) => c,
        _ => '_',
    });
    // FNV-1a: two names that become alike keep different slots, on every run the same.
    let hash = subname.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let plain: String = plain.take(MAX_IDENT_BYTES - 9).collect();
    format!("{plain}_{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_valid_names_that_differ() {
        assert_eq!(name_for("bench1"), "bench1");
        for odd in ["Bench-1", "bench-1", "none", "ü", &"x".repeat(64)] {
            let name = name_for(odd);
            assert!(name.len() <= MAX_IDENT_BYTES && name.len() > 8, "{name}");
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{name}"
            );
        }
        assert_ne!(name_for("Bench-1"), name_for("bench-1"));
    }
}
