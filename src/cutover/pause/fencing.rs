//! The locks of *from* become its fence by themselves: no instant in between in which somebody could write, whoever dies.
//!
//! The session that holds the locks of a database is asked, before the point of no return, to wait for it on the server and
//! to make the fence in the same transaction. A block goes on when its client is frozen or gone. While flare lives, it says
//! when; after its death whoever takes the run over does, and a run that was undone shows by the database's own default,
//! which is then as it was. Where nobody says anything in time, nobody has undone it either: a fence is made that stands
//! for as long as that default does.

use std::time::Duration;

use crossbeam_channel::Receiver;
use uuid::Uuid;

use crate::cutover::deadline::Deadline;
use crate::cutover::pause::batch;
use crate::cutover::pause::signal::{Signal, decided_by_others};
use crate::cutover::pause::table_locks;
use crate::cutover::state::{Database, Pause};
use crate::error::{Result, WrapErr};
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

/// Has the locks of every database, once they are held, wait for the point of no return. In a transaction that has failed
/// the server refuses it.
pub(in crate::cutover) fn send(pause: &Pause<'_>) -> Result<Vec<Fencing>> {
    let databases = pause.databases.iter();
    databases.map(|it| send_to(pause, it)).collect()
}

fn send_to(pause: &Pause<'_>, database: &Database) -> Result<Fencing> {
    let probe = database.sessions.probe.backend.pid;
    let raise = fence::raising(&database.published, &database.default_before.recording())?;
    let body = format!(
        "DECLARE
           until CONSTANT timestamptz := clock_timestamp() + {left} * interval '1 millisecond';
           decided boolean;
           known boolean;
           fenced record;
         BEGIN
           {here}
           BEGIN
             PERFORM set_config('lock_timeout', {left}::text, true);
             {told}
           EXCEPTION WHEN lock_not_available THEN NULL;
           END;
           LOOP
             decided := {given} OR {by_others};
             EXIT WHEN decided OR clock_timestamp() > until;
             IF NOT {shut} THEN RAISE EXCEPTION 'the pause was undone'; END IF;
             PERFORM pg_sleep(0.005);
           END LOOP;
           PERFORM set_config('lock_timeout', '5s', true);
           {raise}
         END",
        left = (pause.deadline.left() + LONGER).as_millis().max(1),
        here = Signal::Fencing.show(),
        shut = fence::WHILE_SHUT,
        told = Signal::Decided.await_lock(probe),
        given = Signal::Decided.given_by(probe),
        by_others = decided_by_others(pause.run()),
    );
    let sql = format!("DO LANGUAGE plpgsql {}; COMMIT", Literal(&body));
    database
        .sessions
        .lock
        .session
        .start(move |client| client.batch_execute(&sql))
        .wrap_err_with(|| format!("have the locks of {:?} become a fence", database.dbname()))
}

/// Waits in a block until the locks of every database are at it, or gone: before, they would go with their client.
pub(in crate::cutover) fn await_prepared(pause: &Pause<'_>) -> String {
    let lockers = pause.databases.iter().map(|it| &it.sessions.lock.backend);
    let waiting: Vec<String> = lockers.map(|it| Signal::Fencing.given_by(it.pid)).collect();
    let until = format!(
        "({}) OR NOT {}",
        waiting.join(" AND "),
        table_locks::still_stand(&pause.databases)
    );
    batch::wait_until(&until, "the locks do not become a fence")
}

/// Tells the locks that the point of no return is passed. Nothing waits for it: where it is not heard, time tells.
pub(in crate::cutover) fn decided(pause: &Pause<'_>) {
    tell(pause, &format!("SELECT {}", Signal::Decided.giving()));
}

/// Tells them to look what has become of the pause.
pub(in crate::cutover) fn undone(pause: &Pause<'_>) {
    tell(pause, &Signal::Decided.let_go());
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
