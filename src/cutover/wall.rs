//! wall: nothing that slipped through. Every published table is locked against writes until the pause is decided.

use std::time::Duration;

use postgres::error::SqlState;

use super::backends::{end, no_prepared_transaction};
use super::state::{Database, Pause};
use crate::catalog::publications;
use crate::catalog::tables::listed;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::server::{Session, params, sqlstate_of};
use crate::value::TableName;

/// Written by the probe while the wall stands, and so not part of it.
pub(crate) const STATUS_TABLE: &str = "flare_replication_status";

/// How often whoever blocks the wall is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The published tables that the application writes.
pub(crate) fn tables(session: &Session, pubname: &str) -> Result<Vec<TableName>> {
    let mut published = publications::tables(session, pubname)?;
    published.retain(|name| *name != TableName::new("public", STATUS_TABLE));
    Ok(published)
}

/// The statement that locks them all, at once.
pub(crate) fn lock_statement(tables: &[TableName]) -> Option<String> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| {
        format!(
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            names.join(", ")
        )
    })
}

/// Locks the tables as a reader does, which hinders nobody, and lets them go.
pub(crate) fn touch(wall: &Session, begin: &str, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let touched = wall.batch(&format!(
        "{begin}; SET LOCAL lock_timeout = '2s'; LOCK TABLE {} IN ACCESS SHARE MODE",
        names.join(", ")
    ));
    wall.batch("ROLLBACK")?;
    touched.wrap_err("touch the published tables").hint(|| {
        "a session holds them exclusively: find it in pg_locks, and run the command again".into()
    })
}

/// Locks the tables of all databases, in transactions that stay open; whoever stands in the way is ended.
pub(crate) fn raise(pause: &mut Pause<'_>) -> Result<()> {
    let mut waiting = Vec::new();
    for (at, database) in pause.databases.iter().enumerate() {
        let Some(lock) = lock_statement(&database.published) else {
            continue;
        };
        let begin = pause.open_wall;
        let wall = &database.sessions.wall.session;
        let locking = wall.start(move |client| {
            client.batch_execute(begin)?;
            client.batch_execute(&lock)
        })?;
        waiting.push((at, locking, Vec::new()));
    }
    while let Some((at, locking, mut stood_in_the_way)) = waiting.pop() {
        let wall = &pause.databases[at].sessions.wall.session;
        let locked = wall.poll(&locking, LOOK_EVERY);
        if locked.wrap_err("lock the published tables")?.is_some() {
            continue;
        }
        let removed = pause
            .deadline
            .check()
            .and_then(|()| remove_blockers(pause, &pause.databases[at]));
        let Removed { blockers, ended } =
            removed.wrap_err_with(|| match stood_in_the_way.is_empty() {
                true => "lock the published tables".to_owned(),
                false => format!(
                    "lock the published tables: sessions {stood_in_the_way:?} stood in the way"
                ),
            })?;
        if !blockers.is_empty() {
            stood_in_the_way = blockers;
        }
        pause.databases[at].ended.extend(ended);
        waiting.push((at, locking, stood_in_the_way));
    }
    pause.databases.iter().try_for_each(unchanged)
}

/// What was listed before is all there is behind the wall.
fn unchanged(database: &Database) -> Result<()> {
    let wall = &database.sessions.wall.session;
    let now = tables(wall, &database.stream.pubname)?;
    if now == database.published {
        return Ok(());
    }
    let come = now.iter().filter(|name| !database.published.contains(name));
    let gone = database.published.iter().filter(|name| !now.contains(name));
    Failure::new(format!(
        "the published tables of {:?} have changed since the preparation: {}",
        database.dbname(),
        listed(come.chain(gone))
    ))
    .hint("let no DDL run during the pause, and run the command again")
    .err()
}

/// Who stood in the way, and which of them could be ended.
struct Removed {
    blockers: Vec<i32>,
    ended: Vec<i32>,
}

fn remove_blockers(pause: &Pause<'_>, database: &Database) -> Result<Removed> {
    let watch = &pause.sessions.watch.session;
    let wall_pid = database.sessions.wall.backend.pid;
    let blockers: Vec<i32> = watch.value("SELECT pg_blocking_pids($1)", params![wall_pid])?;
    if blockers.contains(&0) {
        // 0 is a prepared transaction; nobody can be ended for it.
        no_prepared_transaction(watch, database.dbname())?;
        return Failure::new("a prepared transaction holds them").err();
    }
    let mut ended = Vec::new();
    for pid in blockers.iter().filter(|pid| !pause.own_pids.contains(pid)) {
        match end(watch, *pid) {
            // Autovacuum yields by itself, a superuser's session may: an administrator may end neither.
            Err(report) if sqlstate_of(&report) == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                log::debug!("{report:#}");
            }
            Err(report) => return Err(report),
            Ok(()) => ended.push(*pid),
        }
    }
    Ok(Removed { blockers, ended })
}

/// Ends whoever keeps a session waiting for a lock.
pub(super) fn end_blockers_of(watch: &Session, waiting: i32) -> Result<()> {
    let blockers: Vec<i32> = watch.value("SELECT pg_blocking_pids($1)", params![waiting])?;
    let sessions = blockers.iter().filter(|pid| **pid != 0);
    sessions.into_iter().try_for_each(|pid| end(watch, *pid))
}

/// True while every table of every wall is locked; for the statement that must travel together with it.
pub(crate) fn still_stands(databases: &[Database]) -> String {
    let walls: Vec<String> = databases
        .iter()
        .filter(|it| !it.published.is_empty())
        .map(|it| format!("({}, {})", it.sessions.wall.backend.pid, it.published.len()))
        .collect();
    match walls.is_empty() {
        true => "true".to_owned(),
        false => format!(
            "(SELECT count(*) FROM (VALUES {}) wall(pid, tables)
               JOIN (SELECT l.pid, count(*) AS locked FROM pg_locks l
                      WHERE l.locktype = 'relation' AND l.mode = 'ShareRowExclusiveLock' AND l.granted
                      GROUP BY l.pid) held ON held.pid = wall.pid AND held.locked >= wall.tables) = {}",
            walls.join(", "),
            walls.len()
        ),
    }
}
