//! `flare.sample` in the publisher's `postgres` database: where the publisher was, and when. It is the only memory of
//! a command that cron starts afresh, and is nowhere near the databases that are replicated.

use super::sample::{LsnHistory, PublisherSample};
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::{Literal, Lsn};

/// What the session's role may do with it, as a [`LsnHistory`].
pub(super) const ACCESS: &str = "(
    SELECT CASE
        WHEN c.oid IS NULL AND coalesce(has_schema_privilege(n.oid, 'CREATE'),
                                        has_database_privilege(current_database(), 'CREATE')) THEN 'Creatable'
        WHEN has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
         AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'DELETE') THEN 'Usable'
        ELSE 'Denied' END
      FROM (SELECT) one LEFT JOIN pg_namespace n ON n.nspname = 'flare'
      LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'sample')";

const CREATE: &str = "
    CREATE SCHEMA IF NOT EXISTS flare;
    CREATE TABLE IF NOT EXISTS flare.sample (lsn pg_lsn PRIMARY KEY, time timestamptz NOT NULL);";

/// Writes down where the publisher was. Older than a week is forgotten.
pub(super) fn write(session: &Session, sample: &PublisherSample) -> Result<()> {
    let create = match sample.lsn_history {
        LsnHistory::Usable => "",
        LsnHistory::Creatable => CREATE,
        LsnHistory::Denied => return Ok(()),
    };
    // Nothing is lost with a row that a crash takes away, and no synchronous standby is worth waiting for.
    session
        .batch(&format!(
            "SET synchronous_commit = off; {create}
             DELETE FROM flare.sample WHERE time < clock_timestamp() - interval '7 days' OR time > clock_timestamp();
             INSERT INTO flare.sample VALUES ({}, {}) ON CONFLICT DO NOTHING",
            Literal(sample.current_wal_lsn.to_string()),
            Literal(&sample.time)
        ))
        .wrap_err("write table flare.sample")
}

/// How many seconds ago the publisher was where the subscriber is now; none when that was never written down.
pub(super) fn age_of(
    session: &Session,
    lsn_history: LsnHistory,
    confirmed: Lsn,
) -> Result<Option<f64>> {
    match lsn_history {
        LsnHistory::Creatable | LsnHistory::Denied => Ok(None),
        LsnHistory::Usable => session
            .value(
                "SELECT extract(epoch FROM clock_timestamp() - max(time))::float8
                   FROM flare.sample WHERE lsn <= $1::pg_lsn",
                params![confirmed],
            )
            .wrap_err("read table flare.sample"),
    }
}
