//! What is sent before the pause begins: the batches that wait for others by themselves. They plan what they will ask while
//! the application still writes.

use std::time::{Duration, Instant};

use crate::cutover::pause::batch::{self, Sent};
use crate::cutover::pause::signal::Signal;
use crate::cutover::report::StepName;
use crate::cutover::sessions::TrackedSession;
use crate::cutover::state::Pause;
use crate::error::Result;

/// How long the pause is put off for batches that are not ready: then they plan within it.
const AT_MOST: Duration = Duration::from_secs(1);

/// Returns when the batches of these steps have planned and wait, on both servers.
pub(in crate::cutover) fn await_batches(pause: &Pause<'_>, steps: &[StepName]) -> Result<()> {
    let sessions = &pause.sessions;
    let mut on_from: Vec<&TrackedSession> = Vec::new();
    let mut on_to: Vec<&TrackedSession> = Vec::new();
    for step in steps {
        let of_databases = pause.databases.iter().map(|it| &it.sessions);
        match step {
            StepName::Terminate => on_from.push(&sessions.terminate),
            StepName::Lock => on_from.push(&sessions.unblock),
            StepName::Drain => on_from.extend(of_databases.map(|it| &it.probe)),
            StepName::Sequences => on_to.extend(of_databases.map(|it| &it.arrival)),
            StepName::Disable => on_to.extend(of_databases.map(|it| &it.subscription)),
            _ => {}
        }
    }
    let within = AT_MOST.min(pause.max_pause / 4);
    let mut looks: Vec<Sent<'_>> = Vec::new();
    for (session, waiting) in [(&sessions.connect, on_from), (&sessions.target, on_to)] {
        if !waiting.is_empty() {
            looks.push(look(session, &waiting, within)?);
        }
    }
    batch::await_all(looks, Instant::now() + 2 * within)?;
    Ok(())
}

fn look<'a>(
    session: &'a TrackedSession,
    waiting: &[&TrackedSession],
    within: Duration,
) -> Result<Sent<'a>> {
    let ready: Vec<String> = waiting
        .iter()
        .map(|it| Signal::Ready.given_by(it.backend.pid))
        .collect();
    let body = format!(
        "LOOP
           EXIT WHEN {} OR clock_timestamp() > until;
           PERFORM pg_sleep(0.001);
         END LOOP;",
        ready.join(" AND ")
    );
    let block = batch::block(within, "", "", &body);
    batch::send(
        StepName::Guard,
        "await the batches that are sent before the pause",
        session,
        batch::answering(&block),
    )
}
