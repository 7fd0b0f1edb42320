//! switched: *to* opens. Its fences first, where it has been *from* before; then every door in one transaction with the
//! journal's record of it.

use super::rights::Door;
use super::state::Pause;
use super::undo::{self, open_target};
use crate::error::{Report, Result, WrapErr};
use crate::journal::{self, Backend};
use crate::replicate::closed::{self, ReadOnlyDefault};
use crate::replicate::fence;
use crate::server::is_lost;

/// Opens *to*. A lost answer is asked for again, by another session, as long as the server comes back.
pub(crate) fn open(pause: &mut Pause<'_>) -> Result<()> {
    let mut defaults = Vec::new();
    for database in &pause.databases {
        let arrival = &database.sessions.arrival.session;
        defaults.extend(closed::recorded(arrival, database.dbname())?);
        fence::open(arrival)?;
    }
    let gates = gates(pause);
    let session = &pause.sessions.gate.session;
    match open_target(session, &pause.entry, &gates, &defaults) {
        Err(report) if is_lost(&report) => by_another_session(pause, &gates, &defaults, &report),
        opened => opened,
    }
}

/// Writes the privileges of *to* down as they were, when the pause is over.
pub(crate) fn to_the_letter(pause: &Pause<'_>) {
    undo::to_the_letter(&pause.sessions.gate.session, &gates(pause));
}

/// The doors of *to* that were shut before the pause.
fn gates(pause: &Pause<'_>) -> Vec<Door> {
    let gates = pause.databases.iter().filter_map(|it| it.gate.clone());
    gates.collect()
}

fn by_another_session(
    pause: &Pause<'_>,
    gates: &[Door],
    defaults: &[ReadOnlyDefault],
    cause: &Report,
) -> Result<()> {
    log::warn!("{cause:#}; trying again by another session");
    let session = pause
        .pair
        .subscriber
        .connect(pause.sessions.gate_login, "postgres")
        .wrap_err("open the target")?;
    let lost: &Backend = &pause.sessions.gate.backend;
    for backend in journal::backends_alive(&session, std::slice::from_ref(lost))? {
        super::backends::end_and_await(&session, &backend)?;
    }
    open_target(&session, &pause.entry, gates, defaults)
}
