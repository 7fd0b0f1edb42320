//! The fence: nobody writes to the replicated tables of a closed database but apply, superusers included.
//!
//! A statement trigger on every published table, and on those above and below it in an inheritance: statement triggers
//! of a parent alone fire for what goes through it. Apply runs as replica and passes. The triggers share one function,
//! so that the fence opens for all tables at once.

use std::time::Duration;

use super::briefly::{self, LockWait};
use super::status_table;
use crate::catalog::side::Replicated;
use crate::error::{Result, WrapErr};
use crate::server::{Server, Session, begin_before_autovacuum, params};
use crate::value::{Literal, TableName};

/// The trigger, on every table.
pub(crate) const TRIGGER: &str = "flare_fence";

/// What refuses a statement. 25006 is read_only_sql_transaction.
const REFUSE: &str = "RAISE EXCEPTION 'cannot execute % on %.%: flare keeps this database closed, the application writes on the other server',
        TG_OP, quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME)
        USING ERRCODE = 'read_only_sql_transaction', HINT = 'Connect to the other server: flare status says which.';";

/// While sessions of the database are read-only by default, as a pause makes them and an undo does not leave them.
pub(crate) const WHILE_SHUT: &str =
    "EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
        WHERE d.datname = current_database() AND s.setrole = 0 AND 'default_transaction_read_only=on' = ANY (s.setconfig))";

/// The function that refuses every statement that writes.
pub(crate) fn closed() -> String {
    function(REFUSE)
}

/// The same for as long as the database is shut: before the point of no return, since an undo leaves it open.
fn closed_while_shut() -> String {
    function(&format!(
        "IF {WHILE_SHUT} THEN {REFUSE} END IF; RETURN NULL;"
    ))
}

/// The same function, letting everything pass.
pub(crate) fn opened() -> String {
    function("RETURN NULL;")
}

fn function(body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION flare.fence() RETURNS trigger LANGUAGE plpgsql AS $fence$
         BEGIN {body} END $fence$"
    )
}

const FENCED: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE t.tgname = 'flare_fence' AND NOT t.tgisinternal ORDER BY 1";

const EXISTS: &str = "EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
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
pub(crate) fn trigger_on(table: impl std::fmt::Display) -> String {
    format!(
        "DROP TRIGGER IF EXISTS {TRIGGER} ON {table};
         CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
           FOR EACH STATEMENT EXECUTE PROCEDURE flare.fence()"
    )
}

/// Raises it in the session's transaction, which holds the tables' locks, and commits that.
pub(crate) fn raise(session: &Session, tables: &[TableName], recording: &str) -> Result<()> {
    let mut sql = format!("CREATE SCHEMA IF NOT EXISTS flare; {};", closed());
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

/// The fence as it is ahead of a pause: its triggers are there and its function is open, so that one statement raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// Its triggers that stand.
    triggers: i64,
    /// Tables without one, which are written all the time.
    pub(crate) missing: usize,
}

/// Of the function's triggers those that stand.
const TRIGGERS: &str = "
    SELECT count(*) FROM pg_depend d JOIN pg_trigger t ON t.oid = d.objid
     WHERE d.classid = 'pg_trigger'::regclass AND d.refclassid = 'pg_proc'::regclass
       AND d.refobjid = 'flare.fence()'::regprocedure AND t.tgenabled IN ('O', 'A')";

/// How long writers may have to wait behind the lock of one trigger, and how often it is tried.
const PLACED: LockWait = LockWait {
    lock_timeout: Duration::from_millis(20),
    tries: 5,
};

/// Puts its triggers in place, open, while the application writes. `begin` is the beginning of a transaction.
pub(crate) fn place(
    session: &Session,
    begin: &str,
    tables: &[TableName],
    recording: &str,
) -> Result<Ahead> {
    let mut function = format!("CREATE SCHEMA IF NOT EXISTS flare; {}", opened());
    if !is_there(session)? {
        function = format!("{function}; {recording}");
    }
    session.batch(&function)?;
    // A crash that loses some loses nothing else.
    let begin = format!("{begin}; SET LOCAL synchronous_commit = off");
    let without = unfenced(session, tables)?;
    let undone = |some: &[TableName]| unfenced(session, some);
    let trigger = |table: &TableName| trigger_on(table);
    let left = briefly::each(session, &begin, without, &PLACED, trigger, undone)?;
    Ok(Ahead {
        triggers: session.value(TRIGGERS, params![])?,
        missing: left.len(),
    })
}

/// What raises it in a block of the transaction that holds the tables' locks, for as long as the database is shut. Where all
/// triggers are there ahead, and still are, to look for each table would take longer than the rest.
pub(crate) fn raising(
    tables: &[TableName],
    recording: &str,
    ahead: Option<Ahead>,
) -> Result<String> {
    let names = serde_json::to_string(tables).wrap_err("list the tables for the fence")?;
    let (fence, _) = Replicated::Named(tables).fence()?;
    // The names come last: they may contain the other word.
    let fence = fence.replace("$1", &format!("{}::jsonb", Literal(&names)));
    let complete = match ahead {
        Some(Ahead {
            triggers,
            missing: 0,
        }) => format!("({TRIGGERS}) = {triggers}"),
        _ => "false".to_owned(),
    };
    Ok(format!(
        "CREATE SCHEMA IF NOT EXISTS flare;
         known := {EXISTS};
         EXECUTE {while_shut};
         IF NOT known THEN EXECUTE {recording}; END IF;
         IF NOT {complete} THEN
           FOR fenced IN {fence} SELECT format('%I.%I', nspname, relname) AS name FROM fence WHERE NOT stands ORDER BY 1
           LOOP
             EXECUTE format({trigger}, fenced.name);
           END LOOP;
         END IF;",
        while_shut = Literal(&closed_while_shut()),
        recording = Literal(recording),
        trigger = Literal(&trigger_on("%1$s")),
    ))
}

/// Opens it for all tables at once, where there is one.
pub(crate) fn open(session: &Session) -> Result<()> {
    if is_there(session)? {
        session.batch(&opened()).wrap_err("open the fence")?;
    }
    Ok(())
}

/// Whether the database has a fence, open or closed.
pub(crate) fn is_there(session: &Session) -> Result<bool> {
    session.value(&format!("SELECT {EXISTS}"), params![])
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

/// How long taking the fence off one table may make the application wait for it, and how often it is tried.
const REMOVED: LockWait = LockWait {
    lock_timeout: Duration::from_millis(50),
    tries: 20,
};

/// Takes it away, table by table; those that are in use all the time keep it, open.
pub(crate) fn remove(server: &Server, session: &Session) -> Result<Vec<TableName>> {
    let begin = begin_before_autovacuum(server, session)?;
    let tables = fenced(session)?;
    let drop = |table: &TableName| format!("DROP TRIGGER IF EXISTS {TRIGGER} ON {table}");
    let undone = |_: &[TableName]| fenced(session);
    let left = briefly::each(session, begin, tables, &REMOVED, drop, undone)
        .wrap_err("take the fence away")?;
    if left.is_empty() {
        session
            .batch(NOTHING_LEFT)
            .wrap_err("take the fence away")?;
    }
    Ok(left)
}
