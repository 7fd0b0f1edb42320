//! drain: everything on *to*. A row written behind the table locks arrives after all that was written before it, and
//! carries the sequences that have moved since they were set, and how many statements have to be there.
//!
//! Never `sent_lsn`, which counts what was not even sent as done; never the age of feedback, which costs half a second.

use crate::cutover::pause::batch::{self, Sent};
use crate::cutover::pause::signal::Signal;
use crate::cutover::pause::table_locks::{self, QUALIFIED};
use crate::cutover::report::StepName;
use crate::cutover::state::{Database, Pause};
use crate::ddl;
use crate::error::Result;
use crate::journal::Purpose;
use crate::replicate::status_table;
use crate::value::Literal;

/// The sequences whose `last_value` differs from what was set, in one jsonb; `known` maps their names to it.
///
/// `last_value` of the view is null before the first call, and without privilege, which the preparation refuses. One that
/// was called then and is null now was restarted: it is read from its relation.
const MOVED: &str = "
    SELECT coalesce(jsonb_agg(jsonb_build_array(name, last_value, true)), '[]') INTO payload
      FROM (SELECT QUALIFIED AS name, LAST_VALUE AS last_value
              FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_') s
     WHERE s.last_value IS NOT NULL AND s.last_value IS DISTINCT FROM (known ->> s.name)::bigint;
    FOR r IN
      SELECT QUALIFIED AS name
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relpersistence <> 't' AND known ->> QUALIFIED IS NOT NULL
         AND LAST_VALUE IS NULL
    LOOP
      EXECUTE format('SELECT %L::jsonb || jsonb_build_array(jsonb_build_array(%L::text, last_value, is_called)) FROM %s', payload, r.name, r.name)
         INTO payload;
    END LOOP;";

/// In a CASE, so that the planner asks it of nothing but sequences.
const LAST_VALUE: &str =
    "CASE WHEN c.relkind = 'S' AND c.relpersistence <> 't' THEN pg_sequence_last_value(c.oid) END";

/// Sends the batch of one database; it waits until nobody is left and the tables are locked.
pub(in crate::cutover) fn send<'a>(
    pause: &'a Pause<'_>,
    database: &'a Database,
) -> Result<Sent<'a>> {
    let terminated = Signal::Terminated.given_by(pause.sessions.terminate.backend.pid);
    let standing = format!(
        "{terminated} AND {}",
        table_locks::still_stand(&pause.databases)
    );
    let waits = Signal::Locked.await_lock_of(
        database.sessions.lock.backend.pid,
        "the tables were not locked",
    ) + &if pause.is_first(database) {
        Signal::Terminated.await_lock_of(
            pause.sessions.terminate.backend.pid,
            "the application's sessions do not end",
        )
    } else {
        batch::wait_until(&terminated, "the application's sessions do not end")
    } + "since := clock_timestamp();";
    let counted = match pause.entry.purpose {
        Purpose::Switch => format!(
            "{} payload := jsonb_build_object('sequences', payload, 'statements', statements);",
            counted()
        ),
        Purpose::PauseWrite => String::new(),
    };
    let statements = format!(
        "standing := {standing};
         IF pass = 2 AND NOT standing THEN {not_locked} END IF;
         {counted}
         INSERT INTO {status} (system_identifier, uuid, created_at, payload)
         SELECT '{identifier}', '{run}', clock_timestamp()::text, payload::text WHERE pass = 2
         ON CONFLICT (system_identifier) DO UPDATE
            SET uuid = excluded.uuid, created_at = excluded.created_at, payload = excluded.payload;",
        not_locked = batch::wait_until(&table_locks::still_stand(&pause.databases), "the tables were not locked"),
        status = status_table::table(&pause.pair.publisher),
        identifier = pause.pair.publisher.identifier(),
        run = pause.run(),
    );
    let block = batch::block(
        pause.deadline.left(),
        &declared(database),
        "",
        &format!(
            "{} answer := jsonb_build_object('lsn', pg_current_wal_insert_lsn()::text); {}",
            batch::twice(&waits, &statements),
            Signal::Probed.give(),
        ),
    );
    batch::send(
        StepName::Drain,
        format!("write the probe row of {:?}", database.dbname()),
        &database.sessions.probe,
        batch::answering(&block),
    )
}

/// Reads the sequences and counts the statements, as the batch will.
pub(in crate::cutover) fn rehearse<'a>(
    pause: &'a Pause<'_>,
    database: &'a Database,
) -> Result<Sent<'a>> {
    let looks = match pause.entry.purpose {
        Purpose::Switch => counted(),
        Purpose::PauseWrite => String::new(),
    };
    batch::rehearse(
        &database.sessions.probe,
        StepName::Drain,
        &declared(database),
        &format!(
            "{looks} PERFORM {};",
            table_locks::still_stand(&pause.databases)
        ),
        &[Signal::Fence, Signal::Probed],
    )
}

fn counted() -> String {
    MOVED
        .replace("QUALIFIED", QUALIFIED)
        .replace("LAST_VALUE", LAST_VALUE)
        + ddl::COUNTED
}

fn declared(database: &Database) -> String {
    let known: serde_json::Map<String, serde_json::Value> = database
        .on_from
        .values()
        .filter(|state| state.is_called)
        .map(|state| (state.name.to_string(), state.last_value.into()))
        .collect();
    format!(
        "known CONSTANT jsonb := {}; payload jsonb; statements jsonb; standing boolean; r record;",
        Literal(serde_json::Value::Object(known).to_string())
    )
}
