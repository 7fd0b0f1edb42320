//! guard: undone even if this machine is gone. A statement that waits on the server, and a process beside this one.
//!
//! A `DO` with `pg_sleep` goes on when its client is frozen or gone. What it does when it wakes, it does only after
//! winning the journal row: a pause that has ended, well or badly, is left alone.

use uuid::Uuid;

use super::rights::Door;
use super::state::Pause;
use crate::error::{Result, WrapErr};
use crate::journal::{Backend, Step, row_has};
use crate::server::{interrupt, params};
use crate::value::Literal;

/// Arms the guard on the server; the one beside this process was started before the pause.
pub(crate) fn arm(pause: &mut Pause<'_>) -> Result<()> {
    let sessions = &pause.sessions;
    let doors = pause.databases.iter().map(|it| &it.door);
    let walls = pause.databases.iter().map(|it| &it.sessions.wall.backend);
    let statement = statement(
        pause.run(),
        pause.max_pause.as_secs_f64(),
        pause.undone(),
        doors,
        walls,
    );
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

/// Ends the guard on the server and the walls: the pause is decided. Both end by themselves with their sessions, too.
pub(crate) fn end_with_wall(pause: &Pause<'_>) {
    let walls = pause.databases.iter().map(|it| &it.sessions.wall.session);
    let ended = dismiss(pause).and_then(|()| {
        walls
            .into_iter()
            .try_for_each(|wall| wall.batch("ROLLBACK"))
    });
    if let Err(report) = ended {
        // One that the guard itself has ended is no news.
        log::info!("end the guard and the wall: {report:#}");
    }
}

/// Ends the guard on the server.
pub(crate) fn dismiss(pause: &Pause<'_>) -> Result<()> {
    let pid = pause.sessions.guard.backend.pid;
    let _ended: bool = pause
        .sessions
        .watch
        .session
        .value("SELECT pg_terminate_backend($1)", params![pid])?;
    Ok(())
}

/// Sleep, win the row, open the doors, end the walls. `tuple concurrently updated` on a database's row is tried again.
fn statement<'a>(
    run: Uuid,
    seconds: f64,
    undone: Step,
    doors: impl Iterator<Item = &'a Door>,
    walls: impl Iterator<Item = &'a Backend>,
) -> String {
    let restore = |door: &Door| {
        let opening = door.opening().into_iter().chain(door.restoring_letter());
        let execute = opening.map(|sql| format!("EXECUTE {};", Literal(sql)));
        execute.collect::<Vec<String>>()
    };
    let restore: Vec<String> = doors.flat_map(restore).collect();
    let end_wall = |Backend { pid, backend_start }: &Backend| {
        format!(
            "PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE pid = {pid} AND backend_start::text = {};",
            Literal(backend_start)
        )
    };
    let end_walls: Vec<String> = walls.map(end_wall).collect();
    let body = format!(
        "DECLARE tries int := 0;
         BEGIN
           PERFORM pg_sleep({seconds});
           UPDATE flare.journal SET step = '{undone}', changed_at = clock_timestamp() WHERE {paused};
           IF NOT FOUND THEN RETURN; END IF;
           {end_walls}
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
        undone = undone.as_str(),
        end_walls = end_walls.join("\n           "),
        restore = restore.join("\n               "),
    );
    format!("DO LANGUAGE plpgsql {}", Literal(body))
}
