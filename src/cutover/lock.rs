//! One run at a time for a database, and who may take over from a holder that is gone.

use std::time::Duration;

use super::backends::end_and_await;
use super::deadline::Deadline;
use super::rights::Door;
use crate::error::{Failure, Result};
use crate::journal::{self, Entry, Member};
use crate::server::{Pair, Server, interrupt, params};

/// The first key of a run's advisory lock, "flar" in ASCII; the second is the database's name, hashed.
const RUN_LOCK: i32 = 0x66_6c_61_72;

/// How long whoever finds a run half-way waits for the one who is at it.
const GUARD_AT_WORK: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// How long a holder may be silent beyond its deadline before it counts as gone.
const SILENCE: f64 = 10.0;

/// One run at a time for a database: a lock in `postgres` of both servers, always in the same order. It ends with the
/// command's sessions.
pub(super) fn lock_out_others(pair: &Pair, dbnames: &[&str]) -> Result<()> {
    let mut servers: [&Server; 2] = [&pair.publisher, &pair.subscriber];
    servers.sort_by_key(|server| server.identifier());
    let mut dbnames = dbnames.to_vec();
    dbnames.sort_unstable();
    for server in servers {
        for dbname in &dbnames {
            if !try_lock(server, dbname)? {
                return Err(held_by_others(server, dbname)?.into());
            }
        }
    }
    Ok(())
}

/// Taken or not; one that this session holds already is taken again.
fn try_lock(server: &Server, dbname: &str) -> Result<bool> {
    server.admin().value(
        "SELECT pg_try_advisory_lock($1, hashtext($2))",
        params![RUN_LOCK, dbname],
    )
}

fn held_by_others(server: &Server, dbname: &str) -> Result<Failure> {
    let holders: Vec<String> = server.admin().value(
        "SELECT array(SELECT format('%s (pid %s since %s)', a.application_name, a.pid, a.backend_start)
           FROM pg_locks l JOIN pg_stat_activity a USING (pid)
          WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
            AND l.classid::bigint = $1 AND l.objid::bigint = hashtext($2)::bigint & 4294967295)",
        params![RUN_LOCK, dbname],
    )?;
    Ok(Failure::new(format!(
        "begin work on {dbname:?}: another flare is at work on it, on the {}: {}",
        server.target().endpoint,
        holders.join(", ")
    ))
    .hint(format!(
        "wait for it; `flare resume_write {dbname}` ends a pause at once"
    )))
}

/// Takes the locks of a run over. A holder that still has them, silent for longer than a pause may last, is ended.
pub(super) fn take_over(pair: &Pair, entry: &Entry) -> Result<()> {
    let dbnames = entry.dbnames();
    // Its guard may be at it this very moment.
    let patience = Deadline::after(GUARD_AT_WORK);
    let locked = loop {
        let locked = lock_out_others(pair, &dbnames);
        if locked.is_ok() || patience.check().is_err() {
            break locked;
        }
        interrupt::sleep(BETWEEN_TRIES)?;
    };
    let pause = entry.max_pause_ms as f64 / 1000.0;
    match locked {
        Err(_) if entry.silent_seconds > pause + SILENCE => {
            log::warn!(
                "{} has been silent for {:.0} s: its sessions are ended",
                entry.holder,
                entry.silent_seconds
            );
            end_sessions(pair, entry)?;
            lock_out_others(pair, &dbnames)
        }
        locked => locked,
    }
}

/// Ends what a dead run has left on both servers: whoever takes over does this first.
pub(super) fn end_sessions(pair: &Pair, entry: &Entry) -> Result<()> {
    let servers: [&Server; 2] = [&pair.publisher, &pair.subscriber];
    for server in servers {
        for backend in journal::sessions_alive(server.admin(), entry.run)? {
            end_and_await(server.admin(), &backend)?;
        }
    }
    Ok(())
}

/// The door of *from*, as the journal has it.
pub(super) fn door_of(member: &Member) -> Door {
    Door::new(
        member.privileges.clone(),
        member.keep.iter().cloned().collect(),
    )
}
