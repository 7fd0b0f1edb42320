//! guard: undone even if this machine is gone. A statement that waits on the server, and a process beside this one.
//!
//! A `DO` with `pg_sleep` goes on when its client is frozen or gone. What it does when it wakes, it does only after
//! winning the journal row: a pause that has ended, well or badly, is left alone.

use uuid::Uuid;

use crate::cutover::exits::undo;
use crate::cutover::pause::fencing;
use crate::cutover::state::Pause;
use crate::error::{Result, WrapErr};
use crate::journal::{Backend, MICROSECONDS, Member, Transition};
use crate::server::{interrupt, params};
use crate::value::Literal;

/// Arms the guard on the server; the one beside this process was started before the pause.
pub(crate) fn arm(pause: &mut Pause<'_>) -> Result<()> {
    let sessions = &pause.sessions;
    let locks = pause.databases.iter().map(|it| &it.sessions.lock.backend);
    let statement = statement(
        pause.run(),
        pause.max_pause.as_secs_f64(),
        Transition::Expire(pause.entry.purpose),
        pause.members(),
        locks,
    );
    let armed = sessions
        .guard
        .session
        .start(move |client| client.batch_execute(&statement))?;
    pause.guard_answer = Some(armed);
    let pid = sessions.guard.backend.pid;
    loop {
        let asleep: bool = sessions.terminate.session.value(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active')",
            params![pid],
        )?;
        if asleep {
            return Ok(());
        }
        pause
            .deadline
            .check()
            .wrap_err("wait for the guard on the server")?;
        interrupt::sleep(std::time::Duration::from_millis(1))?;
    }
}

/// Ends the guard on the server and the locks: the pause is decided. Both end by themselves with their sessions, too.
pub(crate) fn end_with_locks(pause: &Pause<'_>) {
    fencing::undone(pause);
    let locks = pause.databases.iter().map(|it| &it.sessions.lock.session);
    let ended = dismiss(pause).and_then(|()| {
        locks
            .into_iter()
            .try_for_each(|session| session.batch("ROLLBACK"))
    });
    if let Err(report) = ended {
        // A session that the guard itself has ended is no news.
        log::info!("end the guard and the locks: {report:#}");
    }
}

/// Ends the guard on the server.
pub(crate) fn dismiss(pause: &Pause<'_>) -> Result<()> {
    let pid = pause.sessions.guard.backend.pid;
    let _ended: bool = pause
        .sessions
        .unblock
        .session
        .value("SELECT pg_terminate_backend($1)", params![pid])?;
    Ok(())
}

/// Sleep, win the row, give CONNECT and the default back, end the locks. `tuple concurrently updated` on a database's row is
/// tried again.
fn statement<'a>(
    run: Uuid,
    seconds: f64,
    transition: Transition,
    members: &[Member],
    locks: impl Iterator<Item = &'a Backend>,
) -> String {
    let restore: Vec<String> = members
        .iter()
        .flat_map(undo::reopening)
        .map(|sql| format!("EXECUTE {};", Literal(&sql)))
        .collect();
    let end_lock = |Backend { pid, backend_start }: &Backend| {
        format!(
            "PERFORM pg_terminate_backend(a.pid) FROM pg_stat_activity a
              WHERE a.pid = {pid} AND {MICROSECONDS} = {backend_start};"
        )
    };
    let end_locks: Vec<String> = locks.map(end_lock).collect();
    let body = format!(
        "DECLARE tries int := 0;
         BEGIN
           PERFORM pg_sleep({seconds});
           {won};
           IF NOT FOUND THEN RETURN; END IF;
           {end_locks}
           LOOP
             BEGIN
               {restore}
               EXIT;
             EXCEPTION WHEN OTHERS THEN
               tries := tries + 1;
               IF tries > 100 THEN RAISE; END IF;
               PERFORM pg_sleep(0.05);
             END;
           END LOOP;
         END",
        won = transition.winning(run),
        end_locks = end_locks.join("\n           "),
        restore = restore.join("\n               "),
    );
    format!("DO LANGUAGE plpgsql {}", Literal(body))
}
