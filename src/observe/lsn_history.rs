//! `flare.sample` in the publisher's `postgres` database: where the publisher was, and when. It is the only memory of
//! a command that cron starts afresh, and is nowhere near the databases that are replicated.

use super::age::Age;
use super::sample::{LsnHistory, PublisherSample};
use crate::error::{Result, WrapErr};
use crate::journal::own_schema;
use crate::server::{Session, params};
use crate::value::{Literal, Lsn};

/// What the session's role may do with it, as a [`LsnHistory`].
pub(super) const ACCESS: &str = "(
    SELECT CASE
        WHEN c.oid IS NULL AND coalesce(has_schema_privilege(n.oid, 'CREATE'),
                                        has_database_privilege(current_database(), 'CREATE')) THEN 'Creatable'
        WHEN NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'since')
            THEN CASE WHEN pg_has_role(c.relowner, 'USAGE') THEN 'Creatable' ELSE 'Denied' END
        WHEN has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
         AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'DELETE') THEN 'Usable'
        ELSE 'Denied' END
      FROM (SELECT) one LEFT JOIN pg_namespace n ON n.nspname = 'flare'
      LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'sample')";

const CREATE: &str = concat!(
    own_schema!(),
    "
    CREATE TABLE IF NOT EXISTS flare.sample (lsn pg_lsn PRIMARY KEY, time timestamptz NOT NULL);
    ALTER TABLE flare.sample ADD COLUMN IF NOT EXISTS restart_lsns jsonb;
    ALTER TABLE flare.sample ADD COLUMN IF NOT EXISTS since timestamptz;"
);

/// A rate is taken over this many seconds, or from the newest look before that.
const RATE_SECONDS: i64 = 600;

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
             INSERT INTO flare.sample (lsn, since, time, restart_lsns)
             SELECT {}::pg_lsn, {time}::timestamptz, {time}::timestamptz, jsonb_object_agg(slot_name, restart_lsn) FROM pg_replication_slots
                 WHERE restart_lsn IS NOT NULL
                 ON CONFLICT (lsn) DO UPDATE SET time = excluded.time, restart_lsns = excluded.restart_lsns",
            Literal(sample.current_wal_lsn.to_string()),
            time = Literal(&sample.time)
        ))
        .wrap_err("write table flare.sample")
}

/// How old a state is that ends at this position, by where the publisher was when somebody looked.
pub(super) fn age_of(session: &Session, lsn_history: LsnHistory, confirmed: Lsn) -> Result<Age> {
    match lsn_history {
        LsnHistory::Creatable | LsnHistory::Denied => Ok(Age::between(None, None)),
        LsnHistory::Usable => {
            let [at_least, at_most] = session
                .value::<Vec<Option<f64>>>(
                    "SELECT ARRAY[extract(epoch FROM clock_timestamp() - min(coalesce(since, time)) FILTER (WHERE lsn > $1::pg_lsn)),
                                  extract(epoch FROM clock_timestamp() - max(time) FILTER (WHERE lsn <= $1::pg_lsn))]::float8[]
                       FROM flare.sample",
                    params![confirmed],
                )
                .wrap_err("read table flare.sample")?[..]
            else {
                return Ok(Age::between(None, None));
            };
            Ok(Age::between(at_least, at_most))
        }
    }
}

/// How fast the WAL that a slot retains has grown since earlier looks, in bytes a second; none without such a look.
pub(super) fn growth(
    session: &Session,
    lsn_history: LsnHistory,
    slot_name: &str,
    retained_wal_bytes: u64,
) -> Result<Option<f64>> {
    if lsn_history != LsnHistory::Usable {
        return Ok(None);
    }
    session
        .value(
            "SELECT ($2::int8 - (e.lsn - (e.restart_lsns ->> $1)::pg_lsn))::float8
                      / extract(epoch FROM clock_timestamp() - e.time)::float8
               FROM (SELECT 1) one LEFT JOIN LATERAL (
                      SELECT * FROM flare.sample s
                       WHERE s.restart_lsns ? $1 AND s.time < clock_timestamp() - interval '3 seconds'
                       ORDER BY s.time < clock_timestamp() - $3::int8 * interval '1 second',
                                abs(extract(epoch FROM clock_timestamp() - s.time) - $3) LIMIT 1) e ON true",
            params![slot_name, i64::try_from(retained_wal_bytes).unwrap_or(i64::MAX), RATE_SECONDS],
        )
        .wrap_err("read table flare.sample")
}
