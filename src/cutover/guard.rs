//! guard: undone even if this machine is gone. A statement that waits on the server, and a process beside this one.
//!
//! A `DO` with `pg_sleep` goes on when its client is frozen or gone. What it does when it wakes, it does only after
//! winning the journal row: a pause that has ended, well or badly, is left alone.

use uuid::Uuid;

use super::rights::Door;
use super::state::Pause;
use super::undo::IS_SUPERUSER;
use crate::error::{Result, WrapErr};
use crate::journal::{Backend, Step, row_has};
use crate::server::{interrupt, params};
use crate::value::Literal;

/// Arms the guard on the server; the one beside this process was started before the pause.
pub(crate) fn arm(pause: &mut Pause) -> Result<()> {
    let sessions = &pause.sessions;
    let sleep = pause.max_pause.as_secs_f64();
    let statement = statement(pause.run, sleep, &pause.door, &sessions.wall.backend);
    let armed = sessions
        .guard
        .session
        .start(move |client| client.batch_execute(&statement))?;
    pause.guard_answer = Some(armed);
    let pid = sessions.guard.backend.pid;
    loop {
        let asleep: bool = sessions.watch.session.value(
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

/// Ends the guard on the server: the pause is decided.
pub(crate) fn dismiss(pause: &Pause) -> Result<()> {
    let pid = pause.sessions.guard.backend.pid;
    let _ended: bool = pause
        .sessions
        .watch
        .session
        .value("SELECT pg_terminate_backend($1)", params![pid])?;
    Ok(())
}

/// Sleep, win the row, open the door, end the wall. `tuple concurrently updated` on the database's row is tried again.
fn statement(run: Uuid, seconds: f64, door: &Door, wall: &Backend) -> String {
    let restore: Vec<String> = door
        .opening()
        .into_iter()
        .map(|sql| format!("EXECUTE {};", Literal(sql)))
        .chain(
            door.restoring_default()
                .map(|sql| format!("IF ({IS_SUPERUSER}) THEN {sql}; END IF;")),
        )
        .collect();
    let Backend { pid, backend_start } = wall;
    let body = format!(
        "DECLARE tries int := 0;
         BEGIN
           PERFORM pg_sleep({seconds});
           UPDATE flare.journal SET step = '{undone}', changed_at = clock_timestamp() WHERE {paused};
           IF NOT FOUND THEN RETURN; END IF;
           PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE pid = {pid} AND backend_start::text = {backend_start};
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
        paused = row_has(run, Step::Paused),
        undone = Step::Undone.as_str(),
        backend_start = Literal(backend_start),
        restore = restore.join("\n               "),
    );
    format!("DO LANGUAGE plpgsql {}", Literal(body))
}
