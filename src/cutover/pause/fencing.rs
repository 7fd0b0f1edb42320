//! The locks of *from* become its fence by themselves: no instant in between in which somebody could write, whoever dies.
//!
//! The session that holds the locks of a database waits on the server, whatever becomes of its client, and makes the fence
//! in the same transaction. It is raised as soon as the last row is written, beside the drain, and committed as soon as that
//! row has arrived, beside the end of the old stream; a `switch` hook, which may still refuse, comes before. The point of no
//! return makes it durable: a crash of the server takes locks with it, and no fence. Its triggers are there by then, but
//! those of tables that were written all the time. Of many such it would lengthen the pause: there the locks stand at that
//! point, and the fence comes while the other side opens.
//!
//! It stands for as long as the database is shut, as a pause makes it and an undo does not leave it; the rest of the switch
//! makes it stand for good.

use std::time::Duration;

use crossbeam_channel::Receiver;
use uuid::Uuid;

use crate::cutover::deadline::Deadline;
use crate::cutover::pause::batch;
use crate::cutover::pause::signal::{Signal, decided_by_others};
use crate::cutover::pause::table_locks;
use crate::cutover::state::{Database, Pause};
use crate::error::{Report, Result, WrapErr};
use crate::journal::{self, Backend};
use crate::replicate::fence;
use crate::server::{Publisher, Session, interrupt, params};
use crate::value::Literal;

/// The answer of a session that makes the fence.
pub(in crate::cutover) type Fencing = Receiver<std::result::Result<(), postgres::Error>>;

/// How much longer than the pause may last the locks wait to be told what has become of it.
const LONGER: Duration = Duration::from_secs(2);
/// How long whoever takes a run over waits for the fences.
const MADE_WITHIN: Duration = Duration::from_secs(5);
/// So many triggers may be missing when the fence is raised while the last row is on its way.
const BESIDE_THE_DRAIN: usize = 100;

/// Has the locks of every database, once they are held, become the fence. In a transaction that has failed the server
/// refuses it.
pub(in crate::cutover) fn send(pause: &Pause<'_>) -> Result<Vec<Fencing>> {
    let databases = pause.databases.iter();
    databases.map(|it| send_to(pause, it)).collect()
}

fn send_to(pause: &Pause<'_>, database: &Database) -> Result<Fencing> {
    let probe = database.sessions.probe.backend.pid;
    let raise = fence::raising(
        &database.published,
        &database.default_before.recording(),
        database.fence_ahead,
    )?;
    let raise = format!(
        "PERFORM set_config('lock_timeout', '5s', true); {raise} PERFORM set_config('lock_timeout', '{}', true);",
        left(pause)
    );
    let (beside_the_drain, afterwards, commit) = if is_early(database) {
        let raise = format!("{} {raise}", wait_for(Signal::Probed, probe));
        // The point of no return is a commit of the same server that comes later, and is durable at once.
        (
            raise,
            String::new(),
            "SET LOCAL synchronous_commit = off; COMMIT",
        )
    } else {
        (String::new(), raise, "COMMIT")
    };
    let body = format!(
        "DECLARE
           until CONSTANT timestamptz := clock_timestamp() + {left} * interval '1 millisecond';
           known boolean;
           fenced record;
         BEGIN
           {here}
           {beside_the_drain}
           {told}
           LOOP
             IF NOT {shut} THEN RAISE EXCEPTION 'the pause was undone'; END IF;
             EXIT WHEN {given} OR {by_others} OR clock_timestamp() > until;
             PERFORM pg_sleep(0.005);
           END LOOP;
           {afterwards}
         EXCEPTION WHEN query_canceled OR OTHERS THEN
           {hide}
           RAISE;
         END",
        left = left(pause),
        here = Signal::Fencing.show(),
        hide = Signal::Fencing.hide(),
        shut = fence::WHILE_SHUT,
        told = wait_for(Signal::Fence, probe),
        given = Signal::Fence.given_by(probe),
        by_others = decided_by_others(pause.run()),
    );
    let sql = format!(
        "SET LOCAL lock_timeout = {}; DO LANGUAGE plpgsql {}; {commit}; SELECT {}",
        left(pause),
        Literal(&body),
        Signal::Fenced.showing(),
    );
    database
        .sessions
        .lock
        .session
        .start(move |client| client.batch_execute(&sql))
        .wrap_err_with(|| format!("have the locks of {:?} become a fence", database.dbname()))
}

/// How long the locks wait, in milliseconds.
fn left(pause: &Pause<'_>) -> u128 {
    (pause.deadline.left() + LONGER).as_millis().max(1)
}

/// Waits in a block until a server process gives the signal or has ended, or for as long as a lock may be waited for.
fn wait_for(signal: Signal, pid: i32) -> String {
    format!(
        "BEGIN {} EXCEPTION WHEN lock_not_available THEN NULL; END;",
        signal.await_lock(pid)
    )
}

/// Whether the fence is committed before the point of no return.
fn is_early(database: &Database) -> bool {
    database
        .fence_ahead
        .map_or(database.published.len(), |ahead| ahead.missing)
        <= BESIDE_THE_DRAIN
}

/// Tells the locks that nothing but flare's own stands before the point of no return. Nothing waits for it here.
pub(in crate::cutover) fn commit(pause: &Pause<'_>) {
    tell(pause, &format!("SELECT {}", Signal::Fence.giving()));
}

/// Tells them to look what has become of the pause.
pub(in crate::cutover) fn undone(pause: &Pause<'_>) {
    for signal in [Signal::Probed, Signal::Fence] {
        tell(pause, &signal.let_go());
    }
}

fn tell(pause: &Pause<'_>, sql: &str) {
    for database in &pause.databases {
        let sql = sql.to_owned();
        let session = &database.sessions.probe.session;
        if let Err(report) = session.start(move |client| client.batch_execute(&sql)) {
            log::info!("tell the locks of {:?}: {report:#}", database.dbname());
        }
    }
}

/// Waits in a block until every fence is committed or, of many tables, will be made whatever becomes of flare; or one of
/// them will not.
pub(in crate::cutover) fn await_prepared(pause: &Pause<'_>) -> String {
    let prepared: Vec<String> = pause.databases.iter().map(prepared).collect();
    let failed = pause.databases.iter().map(|it| {
        format!(
            "NOT {} AND NOT {}",
            table_locks::still_stand(std::slice::from_ref(it)),
            Signal::Fencing.given_by(it.sessions.lock.backend.pid)
        )
    });
    let failed: Vec<String> = failed.collect();
    let until = format!("({}) OR {}", prepared.join(" AND "), failed.join(" OR "));
    batch::wait_until(&until, "the locks do not become a fence")
}

fn prepared(database: &Database) -> String {
    let pid = database.sessions.lock.backend.pid;
    if is_early(database) {
        Signal::Fenced.given_by(pid)
    } else {
        Signal::Fencing.given_by(pid)
    }
}

/// True while nobody can write in any database of the run: its fence is committed, or its locks stand.
pub(in crate::cutover) fn nobody_can_write(pause: &Pause<'_>) -> String {
    let databases = pause.databases.iter().map(|database| {
        if is_early(database) {
            prepared(database)
        } else {
            table_locks::still_stand(std::slice::from_ref(database))
        }
    });
    let databases: Vec<String> = databases.collect();
    databases.join(" AND ")
}

/// Why a fence could not be made, where that is known by now.
pub(in crate::cutover) fn refused(pause: &Pause<'_>) -> Option<Report> {
    let mut answers = pause.databases.iter().zip(&pause.fencing);
    answers.find_map(|(database, made)| {
        let session = &database.sessions.lock.session;
        let answer = session.poll(made, Duration::ZERO).err()?;
        let what = format!("fence the tables of {:?}", database.dbname());
        Err::<(), _>(answer).wrap_err(what).err()
    })
}

/// The sessions of a run that hold its tables.
pub(in crate::cutover) fn lockers(admin: &Session, run: Uuid) -> Result<Vec<Backend>> {
    let holding: Vec<i32> = admin.value(
        "SELECT coalesce(array_agg(DISTINCT pid), '{}') FROM pg_locks
          WHERE locktype = 'relation' AND mode = 'ShareRowExclusiveLock' AND granted",
        params![],
    )?;
    let mut alive = journal::sessions_alive(admin, run)?;
    alive.retain(|backend| holding.contains(&backend.pid));
    Ok(alive)
}

/// Has the locks that a dead flare has left become a fence, where it is past the point of no return.
pub(in crate::cutover) fn complete(from: &Publisher, run: Uuid) -> Result<()> {
    let admin = from.admin();
    let [class, object] = Signal::of_run(run);
    admin.execute("SELECT pg_advisory_lock($1, $2)", params![class, object])?;
    let within = Deadline::after(MADE_WITHIN);
    let made = loop {
        match lockers(admin, run) {
            Ok(left) if left.is_empty() => break Ok(()),
            Ok(_) if within.check().is_err() => {
                log::info!(
                    "the locks of a run that is past its point of no return are still there"
                );
                break Ok(());
            }
            Ok(_) => interrupt::sleep(Duration::from_millis(2))?,
            Err(report) => break Err(report),
        }
    };
    admin.execute("SELECT pg_advisory_unlock($1, $2)", params![class, object])?;
    made
}
