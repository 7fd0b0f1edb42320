//! The table, and the one way to move a run on: win its row.

use postgres::error::SqlState;
use uuid::Uuid;

use super::{Backend, Entry, Step};
use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::server::{Login, Server, Session, params, sqlstate_of};
use crate::value::Ident;

const CREATE: &str = "
    BEGIN;
    CREATE SCHEMA IF NOT EXISTS flare;
    CREATE TABLE IF NOT EXISTS flare.journal (
        run          uuid PRIMARY KEY,
        command      text NOT NULL,
        direction    text NOT NULL,
        step         text NOT NULL,
        databases    jsonb NOT NULL,
        backends     jsonb NOT NULL,
        holder       text NOT NULL,
        max_pause_ms bigint NOT NULL,
        started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
        changed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    COMMIT";

/// Makes sure the journal is there, and that the accounts of both the administrator and the owner may use it.
pub(crate) fn create(server: &Server) -> Result<()> {
    let admin = server.admin();
    if !exists(admin)? {
        match try_create(admin) {
            Err(report) if is_denied(&report) => {
                log::info!(
                    "the administrator may not create the journal, trying db_owner: {report:#}"
                );
                create_as_owner(server)?;
            }
            created => created.wrap_err("create the journal, table flare.journal")?,
        }
    }
    let host = server.declared();
    let accounts = [host.superuser.user.as_str(), host.db_owner.user.as_str()];
    let lacking: Vec<String> = admin.value(
        "SELECT array(SELECT r.rolname::text FROM pg_roles r, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE r.rolname = ANY ($1) AND n.nspname = 'flare' AND c.relname = 'journal'
                         AND NOT (has_schema_privilege(r.oid, n.oid, 'USAGE')
                              AND has_table_privilege(r.oid, c.oid, 'SELECT')
                              AND has_table_privilege(r.oid, c.oid, 'INSERT')
                              AND has_table_privilege(r.oid, c.oid, 'UPDATE')))",
        params![accounts.map(str::to_owned).to_vec()],
    )?;
    for account in lacking {
        grant(server, &account)?;
    }
    Ok(())
}

/// Looked up in the catalogs: a name needs USAGE on the schema.
fn exists(session: &Session) -> Result<bool> {
    session.value(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                         WHERE n.nspname = 'flare' AND c.relname = 'journal')",
        params![],
    )
}

fn is_denied(report: &Report) -> bool {
    sqlstate_of(report) == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

fn try_create(session: &Session) -> Result<()> {
    let created = session.batch(CREATE);
    if created.is_err() {
        session.batch("ROLLBACK")?;
    }
    created
}

fn create_as_owner(server: &Server) -> Result<()> {
    let host = server.declared();
    let (admin, owner) = (&host.superuser.user, &host.db_owner.user);
    let created = server
        .connect(Login::DbOwner, "postgres")
        .and_then(|session| try_create(&session));
    created
        .wrap_err_with(|| {
            format!("create the journal, table flare.journal, as {admin:?} or as {owner:?}")
        })
        .hint(|| {
            format!(
                "GRANT CREATE ON DATABASE postgres TO {} on the {}, as the owner of that database: flare keeps its journal there, in a schema of its own",
                Ident::new(admin),
                server.side()
            )
        })
}

/// Whoever of the two has made the journal lets the other one use it.
fn grant(server: &Server, account: &str) -> Result<()> {
    let statements = format!(
        "GRANT USAGE ON SCHEMA flare TO {account}; GRANT SELECT, INSERT, UPDATE ON flare.journal TO {account}",
        account = Ident::new(account)
    );
    let mine: bool = server.admin().value(
        "SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = 'flare' AND c.relname = 'journal'",
        params![],
    )?;
    let granted = match mine {
        true => server.admin().batch(&statements),
        false => server
            .connect(Login::DbOwner, "postgres")
            .and_then(|session| session.batch(&statements)),
    };
    granted
        .wrap_err_with(|| format!("let {account:?} use the journal"))
        .hint(|| format!("run in database postgres as the owner of flare.journal: {statements}"))
}

/// Writes a new run.
pub(crate) fn record(session: &Session, entry: &Entry) -> Result<()> {
    let row = serde_json::to_value(entry).wrap_err("write the journal entry")?;
    session
        .execute(
            "INSERT INTO flare.journal (run, command, direction, step, databases, backends, holder, max_pause_ms)
             SELECT run, command, direction, step, databases, backends, holder, max_pause_ms
               FROM jsonb_to_record($1) AS entry(run uuid, command text, direction text, step text,
                    databases jsonb, backends jsonb, holder text, max_pause_ms bigint)",
            params![row],
        )
        .wrap_err("write the journal")?;
    Ok(())
}

/// Moves a run from one step to the next; true when this session won. Only the winner goes on.
pub(crate) fn advance(session: &Session, run: Uuid, from: &[Step], to: Step) -> Result<bool> {
    let from: Vec<String> = from.iter().map(|step| step.as_str().to_owned()).collect();
    let won = session
        .execute(
            "UPDATE flare.journal SET step = $3, changed_at = clock_timestamp() WHERE run = $1 AND step = ANY ($2)",
            params![run, from, to.as_str()],
        )
        .wrap_err_with(|| format!("write {:?} in the journal", to.as_str()))?;
    Ok(won == 1)
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

/// The SQL condition that the run is at this step; for the statements that must travel together with it.
pub(crate) fn row_has(run: Uuid, step: Step) -> String {
    format!("run = '{run}' AND step = '{}'", step.as_str())
}

/// The newest run at one of these steps that paused the database; none also when there is no journal.
pub(crate) fn find(session: &Session, dbname: &str, steps: &[Step]) -> Result<Option<Entry>> {
    if !exists(session)? {
        return Ok(None);
    }
    let steps: Vec<String> = steps.iter().map(|step| step.as_str().to_owned()).collect();
    session
        .first(
            "SELECT to_jsonb(j) FROM flare.journal j
              WHERE step = ANY ($2)
                AND EXISTS (SELECT FROM jsonb_array_elements(databases) d WHERE d ->> 'dbname' = $1)
              ORDER BY started_at DESC LIMIT 1",
            params![dbname, steps],
        )
        .wrap_err("read the journal")
}

/// Those of these server processes that still live.
pub(crate) fn backends_alive(session: &Session, backends: &[Backend]) -> Result<Vec<Backend>> {
    let wanted = serde_json::to_value(backends).wrap_err("write the list of sessions")?;
    session.list(
        "SELECT jsonb_build_object('pid', a.pid, 'backend_start', a.backend_start::text)
           FROM jsonb_to_recordset($1) AS b(pid int, backend_start text)
           JOIN pg_stat_activity a ON a.pid = b.pid AND a.backend_start::text = b.backend_start",
        params![wanted],
    )
}
