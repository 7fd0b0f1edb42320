//! One run at a time for a database, and what becomes of a run whose flare died.

use super::backends::end_backends;
use super::rights::Door;
use super::sessions::at_the_door;
use super::undo;
use crate::error::{Failure, Result};
use crate::journal::{self, Entry, Step};
use crate::replicate::{Mode, Run};
use crate::server::{Pair, Publisher, Server, params};

/// The first key of a run's advisory lock, "flar" in ASCII; the second is the database's name, hashed.
const RUN_LOCK: i32 = 0x66_6c_61_72;

/// One run at a time for a database: a lock in `postgres` of both servers, always in the same order.
pub(super) fn lock_out_others(pair: &Pair, dbname: &str) -> Result<()> {
    let mut servers: [&Server; 2] = [&pair.publisher, &pair.subscriber];
    servers.sort_by_key(|server| server.identifier());
    for server in servers {
        let locked: bool = server.admin().value(
            "SELECT pg_try_advisory_lock($1, hashtext($2))",
            params![RUN_LOCK, dbname],
        )?;
        if !locked {
            let holders: Vec<String> = server.admin().value(
                "SELECT array(SELECT format('%s (pid %s since %s)', a.application_name, a.pid, a.backend_start)
                   FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                    AND l.classid::bigint = $1 AND l.objid::bigint = hashtext($2)::bigint & 4294967295)",
                params![RUN_LOCK, dbname],
            )?;
            return Failure::new(format!(
                "start a pause of {dbname:?}: another flare is at work on it, on the {}: {}",
                server.target().endpoint,
                holders.join(", ")
            ))
            .hint(format!(
                "wait for it; `flare resume_write {dbname}` ends it at once"
            ))
            .err();
        }
    }
    Ok(())
}

/// A pause whose flare died is undone before a new one begins: nobody else holds the lock, so nobody is at it.
pub(super) fn take_over_unfinished(publisher: &Publisher, dbname: &str, run: &Run) -> Result<()> {
    let admin = publisher.admin();
    let Some(left) = journal::find(admin, dbname, &[Step::Paused])? else {
        return Ok(());
    };
    if run.mode == Mode::DryRun {
        return Failure::new(format!(
            "an earlier run ({} by {}, begun {}) stopped while writes were paused",
            left.command, left.holder, left.started_at
        ))
        .hint(format!("`flare resume_write {dbname}` opens the door"))
        .err();
    }
    run.progress.step(&format!(
        "an earlier run ({} by {}, begun {}) stopped while writes were paused: undoing it first",
        left.command, left.holder, left.started_at
    ));
    end_backends(admin, &left)?;
    let door = door_of(&left, dbname)?;
    at_the_door(publisher, dbname, |session| {
        undo::open_door(session, left.run, &door, &[Step::Paused], Step::Undone).map(drop)
    })
}

/// The door as the journal has it.
pub(super) fn door_of(entry: &Entry, dbname: &str) -> Result<Door> {
    let found = entry
        .databases
        .iter()
        .find(|database| database.dbname == dbname);
    let database = found.ok_or_else(|| {
        Failure::new(format!(
            "read the journal: run {} has no database {dbname:?}",
            entry.run
        ))
    })?;
    Ok(Door::new(
        database.privileges.clone(),
        database.keep.iter().cloned().collect(),
    ))
}
