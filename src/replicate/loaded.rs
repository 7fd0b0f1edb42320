//! What was loaded into the subscriber: `flare.loaded_schema` in its `postgres` database. It is asked when no pg_dump here
//! can read the subscriber, so that its schema cannot be compared.

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::server::{Login, Session, Subscriber, params};

/// A schema that was loaded, or found to be equal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Loaded {
    /// Of the publisher's schema as it was rewritten for the subscriber.
    pub(super) fingerprint: String,
    /// The pg_dump that wrote it: another version's words differ.
    pub(super) pg_dump_major: i32,
    /// Of the subscriber's relations and columns.
    pub(super) shape: String,
    /// Written by the server.
    #[serde(default)]
    pub(super) loaded_at: String,
}

const CREATE: &str = "
    CREATE SCHEMA IF NOT EXISTS flare;
    CREATE TABLE IF NOT EXISTS flare.loaded_schema (
        dboid         oid PRIMARY KEY,
        publisher     text NOT NULL,
        fingerprint   text NOT NULL,
        pg_dump_major int NOT NULL,
        shape         text NOT NULL,
        loaded_at     timestamptz NOT NULL DEFAULT clock_timestamp()
    )";

const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'flare' AND c.relname = 'loaded_schema')";

/// The subscriber's relations with their columns, in one short text; neither flare's own nor those of extensions.
pub(super) fn shape(subscriber: &Subscriber, dbname: &str) -> Result<String> {
    subscriber
        .connect(Login::Superuser, dbname)?
        .value(
            "SELECT md5(coalesce(string_agg(concat_ws('|', n.nspname, c.relname, c.relkind, a.attname, a.atttypid::regtype, a.atttypmod, a.attnotnull),
                                            E'\\n' ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\", a.attnum), ''))
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c', 'i') AND c.relpersistence <> 't' AND c.oid >= 16384
                AND n.nspname !~ '^pg_' AND n.nspname <> 'flare' AND c.relname !~ '^flare_replication_status'
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')",
            params![],
        )
        .wrap_err("look at the subscriber's relations")
}

/// Remembers what a database holds; without the right to, nothing is remembered, and that is all.
pub(super) fn remember(subscriber: &Subscriber, dbname: &str, publisher: u64, loaded: &Loaded) {
    let written = || -> Result<()> {
        let session = subscriber.connect(Login::Superuser, "postgres")?;
        if !session.value::<bool>(EXISTS, params![])? {
            session.batch(CREATE)?;
        }
        write(&session, dbname, publisher, loaded)
    };
    if let Err(report) = written() {
        log::info!("remember what was loaded into database {dbname:?}: {report:#}");
    }
}

fn write(session: &Session, dbname: &str, publisher: u64, loaded: &Loaded) -> Result<()> {
    let Loaded {
        fingerprint,
        pg_dump_major,
        shape,
        ..
    } = loaded;
    session.execute(
        "DELETE FROM flare.loaded_schema WHERE dboid NOT IN (SELECT oid FROM pg_database)",
        params![],
    )?;
    session.execute(
        "INSERT INTO flare.loaded_schema (dboid, publisher, fingerprint, pg_dump_major, shape)
         SELECT oid, $2, $3, $4, $5 FROM pg_database WHERE datname = $1
         ON CONFLICT (dboid) DO UPDATE SET publisher = excluded.publisher, fingerprint = excluded.fingerprint,
            pg_dump_major = excluded.pg_dump_major, shape = excluded.shape, loaded_at = clock_timestamp()",
        params![
            dbname,
            publisher.to_string(),
            fingerprint,
            *pg_dump_major,
            shape
        ],
    )?;
    Ok(())
}

/// Forgets a database, and those that are no more; the table goes with the last of them.
pub(crate) fn forget(session: &Session, dbname: &str) -> Result<()> {
    if !session.value::<bool>(EXISTS, params![])? {
        return Ok(());
    }
    let forgotten = || -> Result<()> {
        session.execute(
            "DELETE FROM flare.loaded_schema WHERE dboid NOT IN (SELECT oid FROM pg_database WHERE datname <> $1)",
            params![dbname],
        )?;
        let empty = session.value(
            "SELECT NOT EXISTS (SELECT FROM flare.loaded_schema)",
            params![],
        )?;
        if empty {
            session.batch("DROP TABLE flare.loaded_schema")
        } else {
            Ok(())
        }
    };
    forgotten().wrap_err("forget what was loaded, in table flare.loaded_schema")
}

/// What was loaded into this very database from this publisher.
pub(super) fn find(
    subscriber: &Subscriber,
    dbname: &str,
    publisher: u64,
) -> Result<Option<Loaded>> {
    let admin = subscriber.admin();
    if !admin.value::<bool>(EXISTS, params![])? {
        return Ok(None);
    }
    admin
        .first(
            "SELECT to_jsonb(l) FROM flare.loaded_schema l
              WHERE dboid = (SELECT oid FROM pg_database WHERE datname = $1) AND publisher = $2",
            params![dbname, publisher.to_string()],
        )
        .wrap_err("read what was loaded")
}
