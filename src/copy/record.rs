//! What is on record of a copy, in schema `flare` of the database that it fills: `flare.copy_run`, where the copy stands,
//! `flare.copy`, its jobs, and `flare.copy_piece`, what was made after the rows. A job's end is written in the transaction of
//! its rows, so that a copy that was killed goes on with exactly what is missing.

use std::time::{Duration, Instant};

use serde::Deserialize;
use uuid::Uuid;

use super::holder::Held;
use super::plan::Job;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Server, Session, interrupt, params};
use crate::value::{Ident, Lsn, TableName};

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// The slot may be there, tables are not.
    Slot,
    /// Tables are there without indexes, rows are on their way.
    Rows,
    /// All rows are there.
    Post,
    /// So are the indexes and the rest.
    Done,
}

/// The copy on record.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Recorded {
    pub(super) subname: String,
    /// The publisher's system_identifier.
    pub(super) publisher: String,
    pub(super) slot_name: String,
    pub(super) phase: Phase,
    pub(super) holder: Option<String>,
    pub(super) holder_pid: Option<i32>,
    pub(super) snapshot: Option<String>,
    /// Where the snapshot's own slot begins.
    pub(super) lsn: Option<Lsn>,
    /// Where the subscription's slot begins.
    pub(super) slot_lsn: Option<Lsn>,
    pub(super) has_post_data: bool,
    /// The server's words for when it began.
    pub(super) began_at: String,
}

/// What is finished, of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Finished {
    pub(super) jobs: i64,
    pub(super) of_jobs: i64,
    pub(super) tables: i64,
    pub(super) rows: i64,
    pub(super) bytes: i64,
}

const CREATE: &str = "
    CREATE SCHEMA IF NOT EXISTS flare;
    CREATE TABLE flare.copy_run (
        run              uuid NOT NULL,
        subname          text PRIMARY KEY,
        publisher        text NOT NULL,
        slot_name        text NOT NULL,
        phase            text NOT NULL DEFAULT 'slot',
        holder           text,
        holder_pid       int,
        snapshot         text,
        lsn              text,
        slot_lsn         text,
        post_data        bytea,
        began_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
        alive_at         timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE flare.copy (
        job     int PRIMARY KEY,
        nspname text NOT NULL,
        relname text NOT NULL,
        range   text,
        columns text[] NOT NULL,
        format  text NOT NULL,
        size    bigint NOT NULL,
        lsn     text,
        rows    bigint,
        bytes   bigint,
        done_at timestamptz
    );
    CREATE TABLE flare.copy_piece (id text PRIMARY KEY)";

/// A flare that is at work says so this often.
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// One that has said nothing for this long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(10);
/// Shared by every session of a copy that writes into its database: whoever goes on ends who holds it.
const AT_WORK: (i32, i32) = (0x666c_6172, 1);

/// Has a session count as one of the copy's.
pub(super) fn join_work() -> String {
    let (class, object) = AT_WORK;
    format!("SELECT pg_advisory_lock_shared({class}, {object})")
}

/// Whether a copy is on record in the session's database.
pub(super) fn exists(session: &Session) -> Result<bool> {
    session
        .value(
            // By the catalogs: a name needs USAGE on its schema.
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE n.nspname = 'flare' AND c.relname = 'copy_run' AND has_schema_privilege(n.oid, 'USAGE'))",
            params![],
        )
        .wrap_err("look for a copy on record")
}

/// The copy on record.
pub(super) fn read(session: &Session) -> Result<Option<Recorded>> {
    if !exists(session)? {
        return Ok(None);
    }
    session
        .first(
            "SELECT jsonb_build_object('subname', subname, 'publisher', publisher, 'slot_name', slot_name, 'phase', phase,
                      'holder', holder, 'holder_pid', holder_pid, 'snapshot', snapshot, 'lsn', lsn, 'slot_lsn', slot_lsn,
                      'has_post_data', post_data IS NOT NULL, 'began_at', began_at::text)
               FROM flare.copy_run",
            params![],
        )
        .wrap_err("read the copy on record")
}

/// Puts a new copy on record.
pub(super) fn begin(
    session: &Session,
    server: &Server,
    run: Uuid,
    subname: &str,
    publisher: u64,
    slot_name: &str,
) -> Result<()> {
    // Who loads the schema need not be who writes the rows.
    let admin = Ident::new(&server.declared().superuser.user);
    session.batch(&format!(
        "BEGIN; {CREATE}; GRANT USAGE ON SCHEMA flare TO {admin}; GRANT SELECT, UPDATE, DELETE ON flare.copy_run TO {admin}"
    ))?;
    session.execute(
        "INSERT INTO flare.copy_run (run, subname, publisher, slot_name) VALUES ($1, $2, $3, $4)",
        params![run, subname, publisher.to_string(), slot_name],
    )?;
    session.batch("COMMIT").wrap_err("put the copy on record")
}

/// Takes a copy on record over from a flare that is dead, and ends what it left at work; refuses while another is alive.
pub(super) fn take_over(session: &Session, run: Uuid) -> Result<()> {
    let claimed = || -> Result<bool> {
        let rows = session.execute(
            "UPDATE flare.copy_run SET run = $1, alive_at = clock_timestamp()
              WHERE alive_at < clock_timestamp() - $2 * interval '1 second'",
            params![run, DEAD_AFTER.as_secs_f64()],
        )?;
        Ok(rows == 1)
    };
    let said = || -> Result<String> {
        session.value("SELECT alive_at::text FROM flare.copy_run", params![])
    };
    let before = said()?;
    let since = Instant::now();
    while !claimed()? {
        if said()? != before || since.elapsed() > DEAD_AFTER * 2 {
            return Failure::new("go on with the copy: another flare is at work on it")
                .hint("wait for it, or end it")
                .err();
        }
        interrupt::sleep(Duration::from_millis(200))?;
    }
    end_work(session)
}

/// Ends the sessions that an earlier flare left at work, and waits until they are gone: a COMMIT may be under way.
pub(super) fn end_work(session: &Session) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let (class, object) = AT_WORK;
    let since = Instant::now();
    loop {
        let left: Vec<i32> = session.value(
            "SELECT array(SELECT l.pid FROM pg_locks l
                           WHERE l.locktype = 'advisory' AND l.classid::text = $1 AND l.objid::text = $2 AND l.pid <> pg_backend_pid()
                             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            params![class.to_string(), object.to_string()],
        )?;
        if left.is_empty() {
            return Ok(());
        }
        if since.elapsed() > LIMIT {
            return Failure::new(format!(
                "end the sessions that an earlier run left at work: {left:?} are still there after {}",
                humantime::format_duration(LIMIT)
            ))
            .hint("end them on the subscriber (pg_terminate_backend), then run the command again")
            .err();
        }
        for pid in left {
            session
                .execute("SELECT pg_terminate_backend($1)", params![pid])
                .wrap_err_with(|| format!("end session {pid} of an earlier run"))?;
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
}

/// Says that this run is alive; false where another has taken over.
pub(super) fn stay_alive(session: &Session, run: Uuid) -> Result<bool> {
    let rows = session.execute(
        "UPDATE flare.copy_run SET alive_at = clock_timestamp() WHERE run = $1",
        params![run],
    )?;
    Ok(rows == 1)
}

/// The run ends without having finished: the next one need not wait until it is taken for dead.
pub(super) fn let_go(session: &Session, run: Uuid) -> Result<()> {
    session
        .execute(
            "UPDATE flare.copy_run SET alive_at = '-infinity' WHERE run = $1",
            params![run],
        )
        .map(drop)
}

/// A snapshot was taken; the first one is that of the subscription's own slot.
pub(super) fn hold(session: &Session, held: &Held) -> Result<()> {
    session
        .execute(
            "UPDATE flare.copy_run SET holder = $1, holder_pid = $2, snapshot = $3, lsn = $4, slot_lsn = coalesce(slot_lsn, $4)",
            params![&held.holder, held.pid, &held.snapshot, held.lsn.to_string()],
        )
        .map(drop)
        .wrap_err("put the snapshot on record")
}

/// What the load of the tables ends with, in its transaction.
pub(super) const TABLES_LOADED: &str = "UPDATE flare.copy_run SET phase = 'rows';\n";

/// What the load of the rest begins with, where it is one transaction.
pub(super) const REST_LOADED: &str = "UPDATE flare.copy_run SET phase = 'done'";

/// The first snapshot of a copy that begins anew.
pub(super) fn hold_anew(session: &Session, held: &Held) -> Result<()> {
    session.batch("UPDATE flare.copy_run SET slot_lsn = NULL")?;
    hold(session, held)
}

/// Keeps what is to be loaded after the rows.
pub(super) fn keep_post_data(session: &Session, script: &[u8]) -> Result<()> {
    let hex: String = script.iter().map(|byte| format!("{byte:02x}")).collect();
    session
        .execute(
            "UPDATE flare.copy_run SET post_data = decode($1, 'hex')",
            params![hex],
        )
        .map(drop)
        .wrap_err("put what follows the rows on record")
}

/// What is to be loaded after the rows.
pub(super) fn kept_post_data(session: &Session) -> Result<Vec<u8>> {
    session
        .value("SELECT post_data FROM flare.copy_run", params![])
        .wrap_err("read what follows the rows")
}

/// All rows are there.
pub(super) fn rows_done(session: &Session) -> Result<()> {
    session.batch("UPDATE flare.copy_run SET phase = 'post'")
}

/// Puts jobs on record, in one statement.
pub(super) fn plan(session: &Session, jobs: &[Job]) -> Result<()> {
    let column = |of: &dyn Fn(&Job) -> String| jobs.iter().map(of).collect::<Vec<String>>();
    let columns: Vec<serde_json::Value> =
        jobs.iter().map(|job| job.columns.clone().into()).collect();
    let number = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
    let first: i32 = session.value("SELECT coalesce(max(job), 0) FROM flare.copy", params![])?;
    let ids: Vec<i32> = (0..jobs.len()).map(|at| first + 1 + number(at)).collect();
    let sizes: Vec<i64> = jobs.iter().map(|job| job.size).collect();
    let ranges: Vec<Option<String>> = jobs.iter().map(|job| job.range.clone()).collect();
    let lsns: Vec<Option<String>> = jobs
        .iter()
        .map(|job| job.lsn.map(|lsn| lsn.to_string()))
        .collect();
    session
        .execute(
            "INSERT INTO flare.copy (job, nspname, relname, range, columns, format, size, lsn)
             SELECT job, nspname, relname, range,
                    array(SELECT e FROM jsonb_array_elements_text($5 -> (n::int - 1)) WITH ORDINALITY x(e, at) ORDER BY at), format, size, lsn
               FROM unnest($1, $2, $3, $4, $6, $7, $8) WITH ORDINALITY j(job, nspname, relname, range, format, size, lsn, n)",
            params![
                ids,
                column(&|job| job.table.schema.as_str().to_owned()),
                column(&|job| job.table.table.as_str().to_owned()),
                ranges,
                serde_json::Value::Array(columns),
                column(&|job| job.format.as_str().to_owned()),
                sizes,
                lsns
            ],
        )
        .map(drop)
        .wrap_err("put the jobs of the copy on record")
}

/// The jobs that are not finished, largest first.
pub(super) fn left(session: &Session) -> Result<Vec<Job>> {
    session
        .list(
            "SELECT jsonb_build_object('job', job, 'schema', nspname, 'table', relname, 'range', range, 'columns', columns,
                      'format', format, 'size', size, 'lsn', lsn)
               FROM flare.copy WHERE done_at IS NULL ORDER BY size DESC, job",
            params![],
        )
        .wrap_err("read the jobs that are left")
}

/// What is finished.
pub(super) fn finished(session: &Session) -> Result<Finished> {
    let found = session
        .first(
            "SELECT jsonb_build_object('jobs', count(done_at), 'of_jobs', count(*), 'tables', count(DISTINCT (nspname, relname)),
                      'rows', coalesce(sum(rows), 0)::int8, 'bytes', coalesce(sum(bytes), 0)::int8) FROM flare.copy",
            params![],
        )
        .wrap_err("read what is copied")?;
    Ok(found.unwrap_or_default())
}

/// Tables of which a job is not finished.
pub(super) fn unfinished_tables(session: &Session) -> Result<Vec<TableName>> {
    session.list(
        "SELECT DISTINCT jsonb_build_object('schema', nspname, 'table', relname) FROM flare.copy WHERE done_at IS NULL",
        params![],
    )
}

/// Empties tables that an earlier snapshot has filled in part, and takes them off the record: all of it or nothing.
pub(super) fn empty(session: &Session, tables: &[TableName]) -> Result<()> {
    let (schemas, names) = columns_of(tables);
    let all: Vec<String> = tables.iter().map(ToString::to_string).collect();
    session.batch("BEGIN")?;
    if !all.is_empty() {
        // Plain TRUNCATE of a parent empties its children too.
        let only: Vec<String> = all.iter().map(|name| format!("ONLY {name}")).collect();
        session.batch(&format!("TRUNCATE {}", only.join(", ")))?;
    }
    session.execute(
        "DELETE FROM flare.copy USING unnest($1, $2) t(nspname, relname)
          WHERE copy.nspname = t.nspname AND copy.relname = t.relname",
        params![schemas, names],
    )?;
    session
        .batch("COMMIT")
        .wrap_err("empty the tables that are begun anew")
}

/// The tables on record, each with the point of its snapshot where that is not the subscription's own slot's.
pub(super) fn tables(session: &Session) -> Result<Vec<(TableName, Option<Lsn>)>> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(flatten)]
        name: TableName,
        lsn: Option<Lsn>,
    }
    let rows: Vec<Row> = session.list(
        "SELECT DISTINCT jsonb_build_object('schema', nspname, 'table', relname, 'lsn', lsn) FROM flare.copy",
        params![],
    )?;
    Ok(rows.into_iter().map(|row| (row.name, row.lsn)).collect())
}

/// Ids of the pieces that were made.
pub(super) fn pieces(session: &Session) -> Result<Vec<String>> {
    session
        .value("SELECT array(SELECT id FROM flare.copy_piece)", params![])
        .wrap_err("read what was made after the rows")
}

/// The statement that takes the copy off the record.
pub(super) const FORGET: &str = "DROP TABLE IF EXISTS flare.copy_piece, flare.copy, flare.copy_run";

/// Takes the copy off the record; the schema goes with it when nothing else is in it.
pub(super) fn forget(session: &Session) -> Result<()> {
    session.batch(FORGET)?;
    let empty: bool = session.value(
        "SELECT EXISTS (SELECT FROM pg_namespace n WHERE nspname = 'flare'
                           AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid)
                           AND NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid))",
        params![],
    )?;
    match empty {
        true => session.batch("DROP SCHEMA flare"),
        false => Ok(()),
    }
}

fn columns_of(tables: &[TableName]) -> (Vec<String>, Vec<String>) {
    tables
        .iter()
        .map(|name| {
            (
                name.schema.as_str().to_owned(),
                name.table.as_str().to_owned(),
            )
        })
        .unzip()
}
