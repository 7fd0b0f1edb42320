//! Making the journal, and letting both the administrator and the owner use it.

use postgres::error::SqlState;
use serde::de::DeserializeOwned;

use crate::error::{Advise, Result, WrapErr};
use crate::server::{Login, Server, Session, is_denied, params, sqlstate_of};
use crate::value::{Ident, Literal};

const CREATE: &str = concat!(
    "BEGIN; ",
    own_schema!(),
    "
    CREATE TABLE IF NOT EXISTS flare.journal (
        run          uuid PRIMARY KEY,
        generation   bigint NOT NULL,
        publisher    text NOT NULL,
        subscriber   text NOT NULL,
        command      text NOT NULL,
        purpose      text NOT NULL,
        direction    text NOT NULL,
        reverse      boolean NOT NULL,
        step         text NOT NULL,
        databases    jsonb NOT NULL,
        backends     jsonb NOT NULL,
        holder       text NOT NULL,
        max_pause_ms bigint NOT NULL,
        started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
        changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
        seen_at      timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE IF NOT EXISTS flare.shut (
        dbname     text PRIMARY KEY,
        privileges jsonb NOT NULL,
        keep       jsonb NOT NULL,
        shut_at    timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    COMMIT"
);

/// The tables, for both accounts.
const TABLES: [&str; 2] = ["journal", "shut"];

/// Makes sure the journal is there, and that the accounts of both the administrator and the owner may use it.
pub(crate) fn create(server: &Server) -> Result<()> {
    let admin = server.admin();
    if !exists(admin, "shut")? {
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
        "SELECT array(SELECT r.rolname::text FROM pg_roles r
                       WHERE r.rolname = ANY ($1)
                         AND EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                      WHERE n.nspname = 'flare' AND c.relname = ANY ($2)
                                        AND NOT (has_schema_privilege(r.oid, n.oid, 'USAGE')
                                             AND has_table_privilege(r.oid, c.oid, 'SELECT')
                                             AND has_table_privilege(r.oid, c.oid, 'INSERT')
                                             AND has_table_privilege(r.oid, c.oid, 'UPDATE')
                                             AND has_table_privilege(r.oid, c.oid, 'DELETE'))))",
        params![
            accounts.map(str::to_owned).to_vec(),
            TABLES.map(str::to_owned).to_vec()
        ],
    )?;
    for account in lacking {
        grant(server, &account)?;
    }
    Ok(())
}

/// Looked up in the catalogs: a name needs USAGE on the schema.
pub(super) fn exists(session: &Session, table: &str) -> Result<bool> {
    session.value(&format!("SELECT {EXISTS}"), params![table])
}

const EXISTS: &str = "EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                               WHERE n.nspname = 'flare' AND c.relname = $1)";

/// The rows of a `SELECT` of JSON values from flare's tables, or none where these are not there: in one round trip, since a
/// block plans a statement only when it comes to it.
pub(super) fn list_if_there<T: DeserializeOwned>(
    session: &Session,
    select: &str,
) -> Result<Vec<T>> {
    let block = format!(
        "BEGIN
           PERFORM set_config('flare.answer', '[]', true);
           IF {THERE} THEN
             PERFORM set_config('flare.answer',
               (SELECT coalesce(jsonb_agg(entry), '[]') FROM ({select}) entries (entry))::text, true);
           END IF;
         END",
        THERE = EXISTS.replace("$1", "'shut'"),
    );
    let asked = format!(
        "DO LANGUAGE plpgsql {}; SELECT current_setting('flare.answer')",
        Literal(block)
    );
    let rows = match session.simple(&asked) {
        // There may be no such language in this database.
        Err(report) if sqlstate_of(&report) == Some(&SqlState::UNDEFINED_OBJECT) => {
            return if exists(session, "shut")? {
                session.list(select, params![])
            } else {
                Ok(Vec::new())
            };
        }
        rows => rows?,
    };
    let answer = rows.first().and_then(|row| row.get(0)).unwrap_or("[]");
    serde_json::from_str(answer).wrap_err("read flare's tables")
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
        "GRANT USAGE ON SCHEMA flare TO {account}; GRANT SELECT, INSERT, UPDATE, DELETE ON flare.journal, flare.shut TO {account}",
        account = Ident::new(account)
    );
    let mine: bool = server.admin().value(
        "SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = 'flare' AND c.relname = 'journal'",
        params![],
    )?;
    let granting = format!("{} {statements}", in_turn!());
    let granted = if mine {
        server.admin().batch(&granting)
    } else {
        server
            .connect(Login::DbOwner, "postgres")
            .and_then(|session| session.batch(&granting))
    };
    granted
        .wrap_err_with(|| format!("let {account:?} use the journal"))
        .hint(|| format!("run in database postgres as the owner of flare.journal: {statements}"))
}
