//! What the server that sends says, in one query.

use serde::{Deserialize, Serialize};

use crate::observe::lsn_history;
use crate::value::Lsn;

/// What the publisher says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublisherSample {
    /// The publisher's clock.
    #[serde(default)]
    pub time: String,
    /// `pg_current_wal_lsn()`.
    pub current_wal_lsn: Lsn,
    /// `max_slot_wal_keep_size` (13 and later), as the server writes it; `-1`: no limit.
    pub max_slot_wal_keep_size: Option<String>,
    /// The replication slots of the database.
    pub slots: Vec<Slot>,
    /// The walsenders that use them.
    pub walsenders: Vec<Walsender>,
    /// Transactions with an xid, of any database, the oldest first, three at most, prepared ones included.
    #[serde(default)]
    pub old_transactions: Vec<OldTransaction>,
    /// Rows that the database's sessions have changed.
    pub rows: Option<RowCounts>,
    /// Sessions in the database, by user.
    pub connections: Vec<Connection>,
    /// Whether the role may see what others' sessions do (`pg_read_all_stats`).
    #[serde(default = "yes")]
    pub sees_all: bool,
    /// What may be done with the table of earlier positions.
    #[serde(default, skip_serializing)]
    pub(in crate::observe) lsn_history: LsnHistory,
}

pub(super) fn yes() -> bool {
    true
}

/// What the session's role may do with `flare.sample`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(in crate::observe) enum LsnHistory {
    /// Read and write.
    Usable,
    /// It is not there, or not as it should be, and may be made.
    Creatable,
    /// Nothing.
    #[default]
    Denied,
}

/// A slot as `pg_replication_slots` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slot {
    /// Its name.
    pub slot_name: String,
    /// Its output plugin.
    pub plugin: Option<String>,
    /// Whether a session uses it.
    pub active: bool,
    /// That session.
    pub active_pid: Option<i32>,
    /// The oldest position it needs.
    pub restart_lsn: Option<Lsn>,
    /// Up to here the subscriber has confirmed.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost` (13 and later).
    pub wal_status: Option<String>,
    /// Why it is lost (17 and later).
    pub invalidation_reason: Option<String>,
    /// What may still be written before the slot is lost (13 and later).
    pub safe_wal_size: Option<i64>,
    /// Transactions since the oldest one whose deleted catalog rows it still needs: `age(catalog_xmin)`.
    pub catalog_xmin_age: Option<i64>,
    /// What decoding has done for it (14 and later).
    pub decoding: Option<DecodingStats>,
    /// From `restart_lsn` to the current position.
    #[serde(default)]
    pub retained_wal_bytes: Option<u64>,
}

/// `pg_stat_replication_slots` (14 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DecodingStats {
    /// Bytes of transactions that were too large for `logical_decoding_work_mem`, written to disk while decoding.
    pub spill_bytes: u64,
    /// Bytes of transactions that were streamed before they ended.
    pub stream_bytes: u64,
    /// Bytes of all transactions decoded.
    pub total_bytes: u64,
}

/// A walsender as `pg_stat_replication` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Walsender {
    /// Its process.
    pub pid: i32,
    /// The role it replicates for.
    pub usename: Option<String>,
    /// The subscription, or the table sync's slot.
    pub application_name: Option<String>,
    /// Where the subscriber is.
    pub client_addr: Option<String>,
    /// `startup`, `catchup`, `streaming`.
    pub state: Option<String>,
    /// Sent up to here.
    pub sent_lsn: Option<Lsn>,
    /// Received by the subscriber up to here.
    pub write_lsn: Option<Lsn>,
    /// Flushed by the subscriber up to here.
    pub flush_lsn: Option<Lsn>,
    /// When it started.
    pub backend_start: Option<String>,
    /// What it waits for.
    #[serde(flatten)]
    pub waits: Waits,
}

/// What a process waits for at this moment, as `pg_stat_activity` shows it; both none: for nothing, it works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Waits {
    /// The kind of event.
    pub wait_event_type: Option<String>,
    /// The event.
    pub wait_event: Option<String>,
}

impl Waits {
    /// Whether it is this event; some are spelled differently in different versions.
    pub(in crate::observe) fn is(&self, event: &str) -> bool {
        let found = self.wait_event.as_deref();
        found.is_some_and(|found| found.eq_ignore_ascii_case(event))
    }

    /// Whether it is an event of this kind.
    pub(in crate::observe) fn is_for(&self, kind: &str) -> bool {
        self.wait_event_type.as_deref() == Some(kind)
    }
}

/// A transaction that has an xid and has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OldTransaction {
    /// Its session; none for a prepared one.
    pub pid: Option<i32>,
    /// The prepared transaction's name.
    pub gid: Option<String>,
    /// Whose it is.
    pub usename: Option<String>,
    /// Where.
    pub datname: Option<String>,
    /// `active`, `idle in transaction`.
    pub state: Option<String>,
    /// Since it began, or was prepared.
    pub seconds: f64,
}

/// Rows changed, from `pg_stat_database`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RowCounts {
    /// Inserted.
    pub tup_inserted: u64,
    /// Updated.
    pub tup_updated: u64,
    /// Deleted.
    pub tup_deleted: u64,
}

impl RowCounts {
    /// All of them.
    pub(in crate::observe) fn changed(&self) -> u64 {
        self.tup_inserted + self.tup_updated + self.tup_deleted
    }
}

/// Sessions of one user in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Connection {
    /// The role; none for the server's own processes.
    pub usename: Option<String>,
    /// How many sessions.
    pub count: u64,
    /// How many of them run a statement.
    pub active: u64,
    /// How many of them wait for a lock.
    #[serde(default)]
    pub waiting: u64,
    /// How many of them do nothing, in a transaction.
    #[serde(default)]
    pub idle_in_transaction: u64,
}

impl Slot {
    /// Whether WAL it needs is gone, or may be.
    pub(in crate::observe) fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some()
    }
}

pub(super) fn connections_in(dbname: &str) -> String {
    format!(
        "'connections', (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.count DESC, c.usename), '[]')
                      FROM (SELECT usename, count(*), count(*) FILTER (WHERE state = 'active') AS active,
                                   count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting,
                                   count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction
                              FROM pg_stat_activity
                             WHERE datname = {dbname} AND application_name <> current_setting('application_name')
                             GROUP BY usename) c)"
    )
}

/// Rows changed in the database with this oid.
pub(super) fn rows_in(oid: &str) -> String {
    format!(
        "'rows', (SELECT jsonb_build_object('tup_inserted', pg_stat_get_db_tuples_inserted(d.oid),
                        'tup_updated', pg_stat_get_db_tuples_updated(d.oid),
                        'tup_deleted', pg_stat_get_db_tuples_deleted(d.oid))
                    FROM pg_database d WHERE d.oid = {oid})"
    )
}

pub(super) const SEES_ALL: &str = "'sees_all', (SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_read_all_stats')";

impl PublisherSample {
    /// $1: the database. Asked in `postgres`, one session does for all databases.
    pub(in crate::observe) fn sql(major: i32) -> String {
        let decoding = if major >= 14 {
            "(SELECT to_jsonb(d) FROM pg_stat_get_replication_slot(s.slot_name) d)"
        } else {
            "NULL"
        };
        format!(
            "SELECT jsonb_build_object(
                'time', clock_timestamp(),
                'current_wal_lsn', pg_current_wal_lsn(),
                'max_slot_wal_keep_size', current_setting('max_slot_wal_keep_size', true),
                'slots', (SELECT coalesce(jsonb_agg(to_jsonb(s) || jsonb_build_object(
                                    'catalog_xmin_age', age(s.catalog_xmin), 'decoding', {decoding})
                                    ORDER BY s.slot_name), '[]')
                            FROM pg_replication_slots s WHERE s.database = $1),
                'walsenders', (SELECT coalesce(jsonb_agg(to_jsonb(r) || jsonb_build_object(
                                        'wait_event_type', a.wait_event_type, 'wait_event', a.wait_event)
                                        ORDER BY r.pid), '[]')
                                 FROM pg_stat_replication r, pg_stat_get_activity(r.pid) a
                                WHERE r.pid IN (SELECT active_pid FROM pg_replication_slots
                                                 WHERE database = $1)),
                'old_transactions', (SELECT coalesce(jsonb_agg(to_jsonb(o) ORDER BY o.seconds DESC), '[]') FROM (
                        SELECT pid, NULL AS gid, usename, datname, state,
                               extract(epoch FROM clock_timestamp() - xact_start) AS seconds
                          FROM pg_stat_activity
                         WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
                        UNION ALL
                        SELECT NULL, gid, owner, database, NULL, extract(epoch FROM clock_timestamp() - prepared)
                          FROM pg_prepared_xacts
                         ORDER BY 6 DESC LIMIT 3) o),
                'lsn_history', {},
                {SEES_ALL},
                {},
                {})",
            lsn_history::ACCESS,
            rows_in("(SELECT o.oid FROM pg_database o WHERE o.datname = $1)"),
            connections_in("$1")
        )
    }
}
