//! One run at a time for a database, and who may take over from a holder that is gone.

use std::time::Duration;

use uuid::Uuid;

use crate::cutover::deadline::Deadline;
use crate::cutover::pause::backends::end_and_await;
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::pause::fencing;
use crate::error::{Failure, Result};
use crate::journal::{self, Backend, Entry, Member, RUN_LOCK};
use crate::server::{Pair, Server, Session, application_name, interrupt, params};
use crate::value::ShellWord;

/// How long the sessions of a command that has ended may outlive it.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
/// How long whoever finds a run half-way waits for the one who is at it.
const SOMEBODY_AT_WORK: Duration = Duration::from_secs(5);
/// How long whoever would act waits for a guard, which finishes or undoes the run of a flare that was killed.
const GUARD_AT_WORK: Duration = Duration::from_secs(15);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// How long a holder may be silent beyond its deadline before it counts as gone.
const SILENCE: f64 = 10.0;

/// One run at a time for a database: a lock in `postgres` of both servers, always in the same order. It ends with the
/// command's sessions. All are taken, or none.
pub(in crate::cutover) fn lock_out_others(pair: &Pair, dbnames: &[&str]) -> Result<()> {
    let mut servers: [&Server; 2] = [&pair.publisher, &pair.subscriber];
    servers.sort_by_key(|server| server.identifier());
    let mut dbnames = dbnames.to_vec();
    dbnames.sort_unstable();
    let mut taken = Vec::new();
    for server in servers {
        for dbname in &dbnames {
            let refused = match try_lock(server, dbname) {
                Ok(true) => {
                    taken.push((server, *dbname));
                    continue;
                }
                Ok(false) => held_by_others(server, dbname).and_then(Failure::err),
                Err(report) => Err(report),
            };
            for (server, dbname) in taken {
                unlock(server, dbname);
            }
            return refused;
        }
    }
    Ok(())
}

/// The same for a command that may follow right behind another one.
pub(in crate::cutover) fn lock_out_others_once_ended(pair: &Pair, dbnames: &[&str]) -> Result<()> {
    let within = Deadline::after(ENDS_WITHIN);
    loop {
        match lock_out_others(pair, dbnames) {
            Err(report) if report.downcast_ref::<Failure>().is_some() && within.check().is_ok() => {
                interrupt::sleep(BETWEEN_TRIES)?;
            }
            locked => return locked,
        }
    }
}

/// Taken or not; one that this session holds already is taken again.
fn try_lock(server: &Server, dbname: &str) -> Result<bool> {
    server.admin().value(
        "SELECT pg_try_advisory_lock($1, hashtext($2))",
        params![RUN_LOCK, dbname],
    )
}

/// Gives one back; on a session that is lost it is gone already.
fn unlock(server: &Server, dbname: &str) {
    let given_back: Result<bool> = server.admin().value(
        "SELECT pg_advisory_unlock($1, hashtext($2))",
        params![RUN_LOCK, dbname],
    );
    if let Err(report) = given_back {
        log::debug!("give the lock of a run back: {report:#}");
    }
}

/// The sessions that hold the lock, by what they call themselves.
fn holders_of(server: &Server, dbname: &str) -> Result<Vec<String>> {
    server.admin().value(
        "SELECT array(SELECT format('%s (pid %s since %s)', a.application_name, a.pid, a.backend_start)
           FROM pg_locks l JOIN pg_stat_activity a USING (pid)
          WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.pid <> pg_backend_pid()
            AND l.classid::bigint = $1 AND l.objid::bigint = hashtext($2)::bigint & 4294967295)",
        params![RUN_LOCK, dbname],
    )
}

fn held_by_others(server: &Server, dbname: &str) -> Result<Failure> {
    let holders = holders_of(server, dbname)?;
    Ok(Failure::new(format!(
        "begin work on {dbname:?}: another flare is at work on it, on the {}: {}",
        server.target().endpoint,
        holders.join(", ")
    ))
    .hint(format!(
        "wait for it; `flare resume_write {}` ends a pause at once. If its process is frozen or gone: SELECT pg_terminate_backend(PID) on that server",
        ShellWord(dbname)
    )))
}

/// Who may be waited for when a run that looks unfinished is still somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtWork {
    /// Its flare as well as its guard: what is to be done concerns the same database.
    Wait,
    /// Only its guard, which is at it this very moment.
    Leave,
}

/// The locks of a run, until they are dropped.
#[derive(Debug)]
pub(in crate::cutover) struct Taken<'a> {
    pair: &'a Pair,
    dbnames: Vec<String>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for server in [&*self.pair.publisher, &*self.pair.subscriber] {
            for dbname in &self.dbnames {
                unlock(server, dbname);
            }
        }
    }
}

/// Takes the locks of a run over; none when another flare is at work on it and is to be left alone. Whoever still has
/// them, be it the run's flare, its guard or a command that settles it, and is silent for longer than a pause may last, is
/// ended.
pub(in crate::cutover) fn take_over<'a>(
    pair: &'a Pair,
    entry: &Entry,
    at_work: AtWork,
) -> Result<Option<Taken<'a>>> {
    let dbnames = entry.dbnames();
    let [of_anybody, of_a_guard] = [SOMEBODY_AT_WORK, GUARD_AT_WORK].map(Deadline::after);
    let locked = loop {
        let locked = lock_out_others(pair, &dbnames);
        if locked.is_ok() {
            break locked;
        }
        let guard = a_guard_is_at_it(pair, &dbnames)?;
        let within = if at_work != AtWork::Leave && guard {
            of_a_guard
        } else {
            of_anybody
        };
        if within.check().is_err() || (at_work == AtWork::Leave && !guard) {
            break locked;
        }
        interrupt::sleep(BETWEEN_TRIES)?;
    };
    let locked = match locked {
        Err(report) => match silent(pair, entry)? {
            Some(seconds) => {
                log::warn!(
                    "whoever is at work on the run of {} has been silent for {seconds:.0} s: its sessions are ended",
                    entry.holder,
                );
                end_sessions(pair, entry)?;
                end_holders(pair, &dbnames, seconds)?;
                lock_out_others(pair, &dbnames)
            }
            None => Err(report),
        },
        locked => locked,
    };
    let locked = match locked {
        Err(report) if report.downcast_ref::<Failure>().is_some() && at_work == AtWork::Leave => {
            log::info!("{report:#}");
            return Ok(None);
        }
        locked => locked,
    };
    locked.map(|()| {
        Some(Taken {
            pair,
            dbnames: dbnames.iter().map(|dbname| dbname.to_string()).collect(),
        })
    })
}

/// For how long nobody has said that the run goes on, where that is too long for anybody who is not frozen.
fn silent(pair: &Pair, entry: &Entry) -> Result<Option<f64>> {
    let now = journal::run_of(pair.publisher.admin(), entry.run)?;
    let seconds = now.map_or(0.0, |it| it.silent_seconds);
    let pause = entry.max_pause_ms as f64 / 1000.0;
    Ok((seconds > pause + SILENCE).then_some(seconds))
}

/// The sessions that hold the lock, and those that bear the same name in these databases and are as old.
const HOLDERS: &str = "
    WITH holders AS (SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                      WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.pid <> pg_backend_pid()
                        AND l.classid::bigint = $1
                        AND l.objid::bigint IN (SELECT hashtext(dbname)::bigint & 4294967295 FROM unnest($2::text[]) dbname))
    SELECT jsonb_build_object('pid', a.pid, 'backend_start', MICROSECONDS) FROM pg_stat_activity a
     WHERE a.pid IN (SELECT pid FROM holders)
        OR (a.datname = ANY ($2) AND a.application_name IN (SELECT application_name FROM holders)
            AND a.backend_start < clock_timestamp() - $3 * interval '1 second')";

/// Ends whoever holds the lock and has fallen silent: a frozen process would keep it for ever, and go on one day.
fn end_holders(pair: &Pair, dbnames: &[&str], seconds: f64) -> Result<()> {
    let dbnames: Vec<String> = dbnames.iter().map(|it| it.to_string()).collect();
    for server in [&*pair.publisher, &*pair.subscriber] {
        let holders: Vec<Backend> = server.admin().list(
            &HOLDERS.replace("MICROSECONDS", journal::MICROSECONDS),
            params![RUN_LOCK, dbnames.clone(), seconds],
        )?;
        for holder in &holders {
            end_and_await(server.admin(), holder)?;
        }
    }
    Ok(())
}

/// Whether the guard process of a run holds its lock, or has just given it back.
fn a_guard_is_at_it(pair: &Pair, dbnames: &[&str]) -> Result<bool> {
    let mut holders = Vec::new();
    for server in [&*pair.publisher, &*pair.subscriber] {
        for dbname in dbnames {
            holders.extend(holders_of(server, dbname)?);
        }
    }
    let guard = application_name("guard");
    Ok(holders.iter().all(|holder| holder.starts_with(&guard)))
}

/// Ends what a dead run has left on both servers, but the sessions that hold its tables: nothing that was on its way can
/// decide the run any more.
pub(in crate::cutover) fn end_undecided(pair: &Pair, entry: &Entry) -> Result<()> {
    end_but_lockers(pair.publisher.admin(), entry.run)?;
    for backend in journal::sessions_alive(pair.subscriber.admin(), entry.run)? {
        end_and_await(pair.subscriber.admin(), &backend)?;
    }
    Ok(())
}

/// The same on *from* alone.
pub(in crate::cutover) fn end_but_lockers(admin: &Session, run: Uuid) -> Result<()> {
    let lockers = fencing::lockers(admin, run)?;
    for backend in journal::sessions_alive(admin, run)? {
        if !lockers.contains(&backend) {
            end_and_await(admin, &backend)?;
        }
    }
    Ok(())
}

/// Ends what a dead run has left on both servers: whoever takes over does this before anything is undone or finished.
pub(in crate::cutover) fn end_sessions(pair: &Pair, entry: &Entry) -> Result<()> {
    let servers: [&Server; 2] = [&pair.publisher, &pair.subscriber];
    for server in servers {
        for backend in journal::sessions_alive(server.admin(), entry.run)? {
            end_and_await(server.admin(), &backend)?;
        }
    }
    Ok(())
}

/// The privileges of *from*, as the journal has them.
pub(in crate::cutover) fn privileges_of(member: &Member) -> ConnectPrivileges {
    ConnectPrivileges::new(
        member.privileges.clone(),
        member.keep.iter().cloned().collect(),
    )
}
