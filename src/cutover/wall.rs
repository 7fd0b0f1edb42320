//! wall: nothing that slipped through. Every published table is locked against writes until the pause is decided.

use std::time::Duration;

use postgres::error::SqlState;

use super::backends::{end, no_prepared_transaction};
use super::state::Pause;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Session, params, sqlstate_of};
use crate::value::TableName;

/// Written by the probe while the wall stands, and so not part of it.
pub(crate) const STATUS_TABLE: &str = "flare_replication_status";

const PUBLISHED: &str = "
    SELECT jsonb_build_object('schema', schemaname, 'table', tablename)
      FROM pg_publication_tables WHERE pubname = $1
       AND NOT (schemaname = 'public' AND tablename = $2) ORDER BY schemaname, tablename";

/// How often whoever blocks the wall is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The published tables that the application writes.
pub(crate) fn tables(session: &Session, pubname: &str) -> Result<Vec<TableName>> {
    session
        .list(PUBLISHED, params![pubname, STATUS_TABLE])
        .wrap_err_with(|| format!("list the tables of publication {pubname:?}"))
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

/// Locks the tables in a transaction that stays open; whoever stands in the way is ended.
pub(crate) fn raise(pause: &mut Pause) -> Result<()> {
    let wall = &pause.sessions.wall.session;
    let Some(lock) = lock_statement(&pause.published) else {
        return Ok(());
    };
    wall.batch(&pause.open_wall)?;
    let locking = wall.start(move |client| client.batch_execute(&lock))?;
    let mut stood_in_the_way = Vec::new();
    while wall
        .poll(&locking, LOOK_EVERY)
        .wrap_err("lock the published tables")?
        .is_none()
    {
        let removed = pause.deadline.check().and_then(|()| remove_blockers(pause));
        let Removed { blockers, ended } =
            removed.wrap_err_with(|| match stood_in_the_way.is_empty() {
                true => "lock the published tables".to_owned(),
                false => format!(
                    "lock the published tables: sessions {stood_in_the_way:?} stood in the way"
                ),
            })?;
        stood_in_the_way = blockers;
        pause.ended.extend(ended);
    }
    let after = tables(wall, &pause.pubname)?;
    match pause.published == after {
        true => Ok(()),
        false => Failure::new("the published tables have changed since the preparation")
            .hint("let no DDL run during the pause, and run the command again")
            .err(),
    }
}

/// Who stood in the way, and which of them could be ended.
struct Removed {
    blockers: Vec<i32>,
    ended: Vec<i32>,
}

fn remove_blockers(pause: &Pause) -> Result<Removed> {
    let watch = &pause.sessions.watch.session;
    let wall_pid = pause.sessions.wall.backend.pid;
    let blockers: Vec<i32> = watch.value("SELECT pg_blocking_pids($1)", params![wall_pid])?;
    if blockers.contains(&0) {
        // 0 is a prepared transaction; nobody can be ended for it.
        no_prepared_transaction(watch, pause.dbname())?;
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
