//! The fence: nobody writes to the replicated tables of a closed database but apply, superusers included.
//!
//! A statement trigger on every published table, and on those above and below it in an inheritance: statement triggers
//! of a parent alone fire for what goes through it. Apply runs as replica and passes. The triggers share one function,
//! so that the fence opens for all tables at once.

use std::time::Duration;

use postgres::error::SqlState;

use super::status_table;
use crate::catalog::side::Replicated;
use crate::error::{Result, WrapErr};
use crate::server::{Server, Session, begin_before_autovacuum, params, sqlstate_of};
use crate::value::TableName;

/// The trigger, on every table.
pub(crate) const TRIGGER: &str = "flare_fence";

/// The function that refuses every statement that writes. 25006 is read_only_sql_transaction.
pub(crate) const CLOSED: &str = "
    CREATE OR REPLACE FUNCTION flare.fence() RETURNS trigger LANGUAGE plpgsql AS $fence$
    BEGIN
      RAISE EXCEPTION 'cannot execute % on %.%: flare keeps this database closed, the application writes on the other server',
        TG_OP, quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME)
        USING ERRCODE = 'read_only_sql_transaction', HINT = 'Connect to the other server: flare status says which.';
    END $fence$";

/// The same function, letting everything pass.
pub(crate) const OPEN: &str = "
    CREATE OR REPLACE FUNCTION flare.fence() RETURNS trigger LANGUAGE plpgsql AS $fence$
    BEGIN
      RETURN NULL;
    END $fence$";

const FENCED: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE t.tgname = 'flare_fence' AND NOT t.tgisinternal ORDER BY 1";

const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                    WHERE n.nspname = 'flare' AND p.proname = 'fence')";

/// The tables that still need the trigger for these to be closed.
pub(crate) fn unfenced(session: &Session, tables: &[TableName]) -> Result<Vec<TableName>> {
    let wanted = tables.iter().filter(|name| !status_table::is(name));
    let wanted: Vec<TableName> = wanted.cloned().collect();
    let (fence, params) = Replicated::Named(&wanted).fence()?;
    let unfenced = format!(
        "{fence} SELECT jsonb_build_object('schema', nspname, 'table', relname) FROM fence WHERE NOT stands ORDER BY nspname, relname"
    );
    session
        .list(&unfenced, params)
        .wrap_err("list the tables for the fence")
}

/// Puts the fence on one table. One that somebody disabled is replaced.
pub(crate) fn trigger_on(table: &TableName) -> String {
    format!(
        "DROP TRIGGER IF EXISTS {TRIGGER} ON {table};
         CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
           FOR EACH STATEMENT EXECUTE PROCEDURE flare.fence()"
    )
}

/// Raises it in the session's transaction, which holds the tables' locks, and commits that.
pub(crate) fn raise(session: &Session, tables: &[TableName], recording: &str) -> Result<()> {
    let mut sql = format!("CREATE SCHEMA IF NOT EXISTS flare; {CLOSED};");
    if !is_there(session)? {
        sql.push_str(recording);
        sql.push(';');
    }
    for table in unfenced(session, tables)? {
        sql.push_str(&trigger_on(&table));
        sql.push(';');
    }
    sql.push_str("COMMIT");
    session.batch(&sql).wrap_err("fence the tables")
}

/// Opens it for all tables at once, where there is one.
pub(crate) fn open(session: &Session) -> Result<()> {
    if is_there(session)? {
        session.batch(OPEN).wrap_err("open the fence")?;
    }
    Ok(())
}

/// Whether the database has a fence, open or closed.
pub(crate) fn is_there(session: &Session) -> Result<bool> {
    session.value(EXISTS, params![])
}

/// The tables that have one.
pub(crate) fn fenced(session: &Session) -> Result<Vec<TableName>> {
    session.list(FENCED, params![])
}

/// The schema goes where it is empty; in the database postgres it holds the journal.
const NOTHING_LEFT: &str = "
    DROP FUNCTION IF EXISTS flare.fence();
    DO $$ BEGIN
      IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'flare' AND pg_has_role(nspowner, 'USAGE')) THEN
        DROP SCHEMA flare;
      END IF;
    EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
    END $$";

/// How long taking the fence off one table may make the application wait for it.
const BRIEFLY: Duration = Duration::from_millis(50);
const TRIES: usize = 20;

/// Takes it away, table by table; those that are in use all the time keep it, open.
pub(crate) fn remove(server: &Server, session: &Session) -> Result<Vec<TableName>> {
    let begin = begin_before_autovacuum(server, session)?;
    let mut left = fenced(session)?;
    for _ in 0..TRIES {
        let mut busy = Vec::new();
        for table in left {
            let dropped = session.batch(&format!(
                "{begin}; SET LOCAL lock_timeout = {}; DROP TRIGGER IF EXISTS {TRIGGER} ON {table}; COMMIT",
                BRIEFLY.as_millis()
            ));
            if let Err(report) = dropped {
                session.batch("ROLLBACK")?;
                if sqlstate_of(&report) != Some(&SqlState::LOCK_NOT_AVAILABLE) {
                    return Err(report.wrap_err("take the fence away"));
                }
                busy.push(table);
            }
        }
        left = busy;
        if left.is_empty() {
            session
                .batch(NOTHING_LEFT)
                .wrap_err("take the fence away")?;
            break;
        }
    }
    Ok(left)
}
