//! TRUNCATE where one of the servers is a PostgreSQL 10, which neither sends one nor takes one: a trigger on every table of
//! both sides, which acts on the side that is written; see `sql/truncate.sql`.

use std::time::Duration;

use postgres::error::SqlState;

use super::sides::Sides;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Server, Session, begin_before_autovacuum, params, sqlstate_of};
use crate::value::TableName;

const TRIGGER: &str = "flare_truncate";

/// Whether replication carries no TRUNCATE between them.
pub(super) fn are_lost(server: &Server, other: &Server) -> bool {
    server.major().min(other.major()) < 11
}

const UNWATCHED: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384 AND n.nspname NOT IN ('flare', 'information_schema')
       AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = $1)
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY n.nspname, c.relname";

const WATCHED: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE t.tgname = $1 AND NOT t.tgisinternal ORDER BY n.nspname, c.relname";

/// The tables that have no trigger yet.
pub(super) fn unwatched(session: &Session) -> Result<Vec<TableName>> {
    session
        .list(UNWATCHED, params![TRIGGER])
        .wrap_err("list the tables whose TRUNCATE nobody sees")
}

/// Puts it on them.
pub(super) fn watch(server: &Server, session: &Session) -> Result<()> {
    on_each(server, session, unwatched(session)?, |table| {
        format!(
            "CREATE TRIGGER {TRIGGER} BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE PROCEDURE flare.truncated()"
        )
    })
}

/// The same on both sides, where it is on the others.
pub(super) fn watch_new(sides: &Sides<'_>) -> Result<()> {
    let (open, receiving) = sides.records();
    let there = "SELECT to_regprocedure('flare.truncated()') IS NOT NULL";
    let servers: [&Server; 2] = [&sides.pair.publisher, &sides.pair.subscriber];
    for (server, session) in servers.into_iter().zip([open, receiving]) {
        if session.value(there, params![])? {
            watch(server, session)?;
        }
    }
    Ok(())
}

/// Takes it away, before the functions that it calls.
pub(super) fn unwatch(server: &Server, session: &Session) -> Result<()> {
    let watched: Vec<TableName> = session
        .list(WATCHED, params![TRIGGER])
        .wrap_err("list the tables whose TRUNCATE is seen")?;
    on_each(server, session, watched, |table| {
        format!("DROP TRIGGER IF EXISTS {TRIGGER} ON {table}")
    })?;
    session
        .batch("DROP FUNCTION IF EXISTS flare.truncated()")
        .wrap_err("take the triggers away that see a TRUNCATE")
}

/// How long one table may make the application wait for it, and how often it is tried.
const BRIEFLY: Duration = Duration::from_millis(50);
const TRIES: usize = 100;

/// Table by table, each in a transaction of its own.
fn on_each(
    server: &Server,
    session: &Session,
    mut tables: Vec<TableName>,
    statement: impl Fn(&TableName) -> String,
) -> Result<()> {
    let begin = begin_before_autovacuum(server, session)?;
    for _ in 0..TRIES {
        let mut busy = Vec::new();
        for table in tables {
            let done = session.batch(&format!(
                "{begin}; SET LOCAL lock_timeout = {}; {}; COMMIT",
                BRIEFLY.as_millis(),
                statement(&table)
            ));
            let Err(report) = done else { continue };
            session.batch("ROLLBACK")?;
            match sqlstate_of(&report) {
                Some(&SqlState::LOCK_NOT_AVAILABLE) => busy.push(table),
                // It is gone, or another flare was here.
                Some(&SqlState::UNDEFINED_TABLE | &SqlState::DUPLICATE_OBJECT) => {}
                _ => return Err(report.wrap_err(format!("see a TRUNCATE of {}", table.plain()))),
            }
        }
        tables = busy;
        if tables.is_empty() {
            return Ok(());
        }
    }
    let names: Vec<String> = tables.iter().map(TableName::plain).collect();
    Failure::new(format!(
        "{} of the {}: locked by others all the time, so that its trigger {TRIGGER} could not be made or taken away",
        names.join(", "),
        server.side()
    ))
    .hint("run the command again when that transaction has ended")
    .err()
}
