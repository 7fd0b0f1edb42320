//! sequences, disable, mark: on *to*, once the probe row has been applied.
//!
//! The statements that the row's payload counts must be there, and its sequences are set; then the subscription is
//! disabled; then, when that has committed, the position is read where the way back starts. It is only remembered:
//! advancing a slot now would cap at the flushed position and send applied rows back.

use crate::cutover::pause::batch::{self, Sent};
use crate::cutover::pause::signal::Signal;
use crate::cutover::report::StepName;
use crate::cutover::state::{Database, Pause};
use crate::ddl;
use crate::error::Result;
use crate::replicate::status_table;
use crate::value::{Ident, Literal};

/// Sets what the payload names; none is set back behind what it has reached here, in the direction of its increment,
/// unless it cycles or was restarted.
const SET: &str = "
    FOR r IN
      SELECT v ->> 0 AS name, (v ->> 1)::bigint AS last_value, (v ->> 2)::boolean AS is_called FROM jsonb_array_elements(payload -> 'sequences') v
    LOOP
      IF to_regclass(r.name) IS NULL THEN
        RAISE EXCEPTION 'it has no sequence %', r.name USING HINT = 'run flare replicate_schema --missing, or create it there';
      END IF;
    END LOOP;
    PERFORM setval(to_regclass(v ->> 0),
                   CASE WHEN s.seqcycle OR NOT (v ->> 2)::boolean THEN (v ->> 1)::bigint
                        WHEN s.seqincrement > 0 THEN greatest((v ->> 1)::bigint, pg_sequence_last_value(s.seqrelid))
                        ELSE least((v ->> 1)::bigint, pg_sequence_last_value(s.seqrelid)) END,
                   (v ->> 2)::boolean)
       FROM jsonb_array_elements(payload -> 'sequences') v JOIN pg_sequence s ON s.seqrelid = to_regclass(v ->> 0);
    answer := jsonb_build_object('set', jsonb_array_length(payload -> 'sequences'));";

/// Sends the batch that awaits the probe row, and sets the sequences that it names.
pub(in crate::cutover) fn send_sequences<'a>(
    pause: &'a Pause<'_>,
    database: &'a Database,
    payload: Payload,
) -> Result<Sent<'a>> {
    let its_row = its_row(pause);
    let arrived = format!(
        "EXISTS (SELECT FROM {} WHERE {})",
        status_table::table(&pause.pair.publisher),
        its_row,
    );
    let waits = batch::wait_until(
        &arrived,
        "drain, the last row did not arrive on the other server",
    );
    let body = match payload {
        Payload::Sequences => format!(
            "{} {}",
            batch::twice(
                &format!("{waits} since := clock_timestamp();"),
                &format!(
                    "SELECT s.payload INTO payload FROM {} s WHERE {its_row}; {} {SET}",
                    status_table::table(&pause.pair.publisher),
                    ddl::ALL_HAVE_COME,
                )
            ),
            Signal::Sequences.give()
        ),
        Payload::None => waits,
    };
    let block = batch::block(
        pause.deadline.left(),
        "payload jsonb; statements jsonb; r record;",
        "",
        &body,
    );
    batch::send(
        match payload {
            Payload::Sequences => StepName::Sequences,
            Payload::None => StepName::Drain,
        },
        match payload {
            Payload::Sequences => format!(
                "wait for the last row (drain) and set the sequences of {:?}",
                database.dbname()
            ),
            Payload::None => format!("wait for the last row of {:?}", database.dbname()),
        },
        &database.sessions.arrival,
        // A lock on the status table, too, is waited for no longer than the pause lasts.
        format!(
            "SET lock_timeout = {}; {}",
            pause.deadline.left().as_millis().max(1),
            batch::answering(&block)
        ),
    )
}

/// Looks for the probe row and at the sequences, as the batch will, and sets none.
pub(in crate::cutover) fn rehearse_sequences<'a>(
    pause: &'a Pause<'_>,
    database: &'a Database,
) -> Result<Sent<'a>> {
    let looks = format!(
        "SELECT s.payload INTO payload FROM {} s WHERE {};
         payload := jsonb_build_object('sequences', '[]'::jsonb); {SET}",
        status_table::table(&pause.pair.publisher),
        its_row(pause),
    );
    batch::rehearse(
        &database.sessions.arrival,
        StepName::Sequences,
        "payload jsonb; r record;",
        &looks,
        &[Signal::Sequences, Signal::Opened],
    )
}

/// Has the session that will disable the subscription ready.
pub(in crate::cutover) fn rehearse_disable(database: &Database) -> Result<Sent<'_>> {
    let session = &database.sessions.subscription;
    batch::rehearse(session, StepName::Disable, "", "", &[])
}

/// The probe row of this run.
fn its_row(pause: &Pause<'_>) -> String {
    format!(
        "system_identifier = {} AND uuid = {}",
        Literal(pause.pair.publisher.identifier().to_string()),
        Literal(pause.run().to_string()),
    )
}

/// What the probe row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cutover) enum Payload {
    /// Nothing: a pause by `pause_write`.
    None,
    /// The sequences that have moved.
    Sequences,
}

/// Sends the batch that disables the subscription when the sequences are set, and reads the mark.
pub(in crate::cutover) fn send_disable<'a>(
    pause: &'a Pause<'_>,
    database: &'a Database,
) -> Result<Sent<'a>> {
    let waits = Signal::Sequences.await_from(
        database.sessions.arrival.backend.pid,
        "the sequences were not set",
    );
    let statement = format!(
        "ALTER SUBSCRIPTION {} DISABLE",
        Ident::new(&database.stream.subname)
    );
    let block = batch::block(
        pause.deadline.left(),
        "",
        &waits,
        &format!("EXECUTE {};", Literal(&statement)),
    );
    let sql = format!(
        "BEGIN; {block}; COMMIT;
         SELECT set_config('flare.committed', clock_timestamp()::text, false);
         SELECT (current_setting('flare.answer')::jsonb || jsonb_build_object('found', jsonb_build_object(
                 'lsn', pg_current_wal_insert_lsn()::text,
                 'ms', extract(epoch FROM clock_timestamp() - current_setting('flare.committed')::timestamptz) * 1000)))::text"
    );
    batch::send(
        StepName::Disable,
        format!("disable subscription {:?}", database.stream.subname),
        &database.sessions.subscription,
        sql,
    )
}
