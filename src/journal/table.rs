//! The rows of the journal.

use serde::Deserialize;
use uuid::Uuid;

use super::create::{exists, list_if_there};
use super::{Backend, Entry, Step};
use crate::config::Config;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Session, params};
use crate::value::Literal;

/// Writes a new run.
pub(crate) fn record(session: &Session, config: &Config, entry: &Entry) -> Result<()> {
    let row = serde_json::to_value(entry).wrap_err("write the journal entry")?;
    let (publisher, subscriber) = identifiers(config);
    session
        .execute(
            "INSERT INTO flare.journal (run, generation, publisher, subscriber, command, purpose, direction, reverse,
                                        step, databases, backends, holder, max_pause_ms)
             SELECT run, generation, $2, $3, command, purpose, direction, reverse,
                    step, databases, backends, holder, max_pause_ms
               FROM jsonb_to_record($1) AS entry(run uuid, generation bigint, command text, purpose text, direction text,
                    reverse boolean, step text, databases jsonb, backends jsonb, holder text, max_pause_ms bigint)",
            params![row, publisher, subscriber],
        )
        .wrap_err("write the journal")?;
    Ok(())
}

/// A pair of servers is known by both identifiers: another migration of one of them is another story.
fn identifiers(config: &Config) -> (String, String) {
    let of = |host: &crate::config::Host| host.system_identifier.to_string();
    (of(&config.publisher), of(&config.subscriber))
}

/// A row with the time since its holder was last seen.
const ENTRY: &str = "to_jsonb(j) || jsonb_build_object(
    'silent_seconds', extract(epoch FROM clock_timestamp() - j.seen_at)::float8)";

/// All runs between the two servers of the configuration, as this server has them, the newest first.
pub(crate) fn entries(session: &Session, config: &Config) -> Result<Vec<Entry>> {
    let (publisher, subscriber) = identifiers(config);
    let select = format!(
        "SELECT {ENTRY} FROM flare.journal j WHERE publisher = {} AND subscriber = {} ORDER BY generation DESC",
        Literal(publisher),
        Literal(subscriber)
    );
    list_if_there(session, &select).wrap_err("read the journal")
}

/// A database whose application another pair of servers has moved, and whose migration is not cleaned up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct MovedElsewhere {
    pub(crate) dbname: String,
    /// The system identifiers of that pair.
    pub(crate) publisher: String,
    pub(crate) subscriber: String,
}

/// The databases of other migrations that have been cut over, and neither fell back nor were cleaned up, as this server has
/// them.
pub(crate) fn moved_elsewhere(session: &Session, config: &Config) -> Result<Vec<MovedElsewhere>> {
    let (publisher, subscriber) = identifiers(config);
    let steps =
        [Step::Switching, Step::Switched, Step::Closed].map(|it| Literal(it.as_str()).to_string());
    let select = format!(
        "SELECT to_jsonb(newest) FROM (
             SELECT DISTINCT ON (d ->> 'dbname', publisher, subscriber)
                    d ->> 'dbname' AS dbname, publisher, subscriber, direction
               FROM flare.journal, jsonb_array_elements(databases) d
              WHERE step IN ({}) AND NOT (publisher = {} AND subscriber = {})
              ORDER BY d ->> 'dbname', publisher, subscriber, generation DESC) newest
          WHERE direction = 'forward'",
        steps.join(", "),
        Literal(publisher),
        Literal(subscriber)
    );
    list_if_there(session, &select).wrap_err("read the journal")
}

/// The number of the newest run that this server knows of, of whatever pair.
pub(crate) fn generation(session: &Session) -> Result<i64> {
    session
        .value(
            "SELECT coalesce(max(generation), 0) FROM flare.journal",
            params![],
        )
        .wrap_err("read the journal")
}

/// The holder of a run is alive.
pub(crate) fn beat(session: &Session, run: Uuid) -> Result<()> {
    session
        .execute(
            "UPDATE flare.journal SET seen_at = clock_timestamp() WHERE run = $1",
            params![run],
        )
        .map(drop)
}

/// The step of a run, whose row nobody else can move on until this transaction ends.
pub(crate) fn lock(session: &Session, run: Uuid) -> Result<Step> {
    let step: Option<Step> = session
        .first(
            "SELECT to_jsonb(step) FROM flare.journal WHERE run = $1 FOR UPDATE",
            params![run],
        )
        .wrap_err("read the journal")?;
    step.ok_or_else(|| Failure::new(format!("read the journal: there is no run {run}")).into())
}

/// The step of a run.
pub(crate) fn step_of(session: &Session, run: Uuid) -> Result<Step> {
    let step: Option<Step> = session
        .first(
            "SELECT to_jsonb(step) FROM flare.journal WHERE run = $1",
            params![run],
        )
        .wrap_err("read the journal")?;
    step.ok_or_else(|| Failure::new(format!("read the journal: there is no run {run}")).into())
}

/// The step of a run, as an expression for statements that travel with others.
pub(crate) fn step_in_sql(run: Uuid) -> String {
    format!(
        "(SELECT step FROM flare.journal WHERE run = {})",
        Literal(run.to_string())
    )
}

/// The newest run at one of these steps that has the database; none also when there is no journal.
pub(crate) fn find(session: &Session, dbname: &str, steps: &[Step]) -> Result<Option<Entry>> {
    if !exists(session, "shut")? {
        return Ok(None);
    }
    let steps: Vec<String> = steps.iter().map(|step| step.as_str().to_owned()).collect();
    session
        .first(
            &format!(
                "SELECT {ENTRY} FROM flare.journal j
                  WHERE step = ANY ($2)
                    AND EXISTS (SELECT FROM jsonb_array_elements(databases) d WHERE d ->> 'dbname' = $1)
                  ORDER BY generation DESC LIMIT 1"
            ),
            params![dbname, steps],
        )
        .wrap_err("read the journal")
}

/// A run, as this server has it.
pub(crate) fn run_of(session: &Session, run: Uuid) -> Result<Option<Entry>> {
    let select = format!(
        "SELECT {ENTRY} FROM flare.journal j WHERE run = {}",
        Literal(run.to_string())
    );
    let found = list_if_there(session, &select).wrap_err("read the journal")?;
    Ok(found.into_iter().next())
}

/// The sessions of a run on this server that still live.
pub(crate) fn sessions_alive(session: &Session, run: Uuid) -> Result<Vec<Backend>> {
    match run_of(session, run)? {
        Some(entry) => backends_alive(session, &entry.backends),
        None => Ok(Vec::new()),
    }
}

/// The start of a server process in `pg_stat_activity a`.
pub(crate) const MICROSECONDS: &str = "(extract(epoch FROM a.backend_start) * 1000000)::bigint";

/// Those of these server processes that still live.
pub(crate) fn backends_alive(session: &Session, backends: &[Backend]) -> Result<Vec<Backend>> {
    let wanted = serde_json::to_value(backends).wrap_err("write the list of sessions")?;
    session.list(
        &format!(
            "SELECT jsonb_build_object('pid', a.pid, 'backend_start', {MICROSECONDS})
               FROM jsonb_to_recordset($1) AS b(pid int, backend_start bigint)
               JOIN pg_stat_activity a ON a.pid = b.pid AND {MICROSECONDS} = b.backend_start"
        ),
        params![wanted],
    )
}

/// Deletes what this server has of the runs of a database, and its record as shut.
pub(crate) fn forget(session: &Session, config: &Config, dbname: &str) -> Result<()> {
    if !exists(session, "shut")? {
        return Ok(());
    }
    let (publisher, subscriber) = identifiers(config);
    // The others that were moved in the same pause go on having it.
    session
        .execute(
            "UPDATE flare.journal
                SET databases = (SELECT coalesce(jsonb_agg(d), '[]') FROM jsonb_array_elements(databases) d
                                  WHERE d ->> 'dbname' <> $3)
              WHERE publisher = $1 AND subscriber = $2
                AND EXISTS (SELECT FROM jsonb_array_elements(databases) d WHERE d ->> 'dbname' = $3)",
            params![publisher, subscriber, dbname],
        )
        .wrap_err("empty the journal")?;
    session
        .execute(
            "DELETE FROM flare.journal WHERE databases = '[]'::jsonb",
            params![],
        )
        .wrap_err("empty the journal")?;
    session
        .execute("DELETE FROM flare.shut WHERE dbname = $1", params![dbname])
        .wrap_err("empty the journal")?;
    Ok(())
}

/// Whether neither a run nor a shut database is on record.
pub(crate) fn is_empty(session: &Session) -> Result<bool> {
    if !exists(session, "shut")? {
        return Ok(true);
    }
    session.value(
        "SELECT NOT EXISTS (SELECT FROM flare.journal) AND NOT EXISTS (SELECT FROM flare.shut)",
        params![],
    )
}
