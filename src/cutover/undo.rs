//! undo: the door is opened as it was, by whoever wins the right to do it.

use postgres::error::SqlState;
use uuid::Uuid;

use super::rights::Door;
use crate::error::{Report, Result, WrapErr};
use crate::journal::{self, Step};
use crate::server::{Session, is_lost, sqlstate_of};

/// What came of trying to end a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By this session.
    Here,
    /// By someone else, before.
    Elsewhere,
}

/// Wins the row away from `from`, opens the door and writes `to`, all in one transaction.
pub(crate) fn open_door(
    session: &Session,
    run: Uuid,
    door: &Door,
    from: &[Step],
    to: Step,
) -> Result<Ended> {
    const TRIES: usize = 100;
    let mut attempt = 1;
    loop {
        match try_open(session, run, door, from, to) {
            Err(report) if attempt < TRIES && passes(&report) => attempt += 1,
            outcome => return outcome,
        }
    }
}

fn try_open(session: &Session, run: Uuid, door: &Door, from: &[Step], to: Step) -> Result<Ended> {
    session.batch("BEGIN")?;
    match open_in_transaction(session, run, door, from, to) {
        Ok(ended) => session.batch("COMMIT").map(|()| ended),
        Err(report) if is_lost(&report) => Err(report),
        Err(report) => session.batch("ROLLBACK").and(Err(report)),
    }
}

fn open_in_transaction(
    session: &Session,
    run: Uuid,
    door: &Door,
    from: &[Step],
    to: Step,
) -> Result<Ended> {
    // Waits for a shutting of the door that is still on its way, so that it cannot come after.
    let was = journal::lock(session, run)?;
    if !from.contains(&was) {
        return Ok(Ended::Elsewhere);
    }
    journal::advance(session, run, &[was], to)?;
    if was == Step::Preparing {
        return Ok(Ended::Here);
    }
    session
        .batch(&door.opening().join("; "))
        .wrap_err_with(|| {
            format!(
                "give the privileges of database {:?} back",
                door.before().dbname
            )
        })?;
    if let Some(restoring) = door.restoring_default()
        && session.value(IS_SUPERUSER, Vec::new())?
    {
        session.batch(&restoring)?;
    }
    Ok(Ended::Here)
}

/// Whether this session's role is a superuser.
pub(super) const IS_SUPERUSER: &str = "SELECT rolsuper FROM pg_roles WHERE rolname = session_user";

/// Somebody else changed the database's row at the same moment, or a cancel that was meant for the step that failed
/// came late.
fn passes(report: &Report) -> bool {
    is_concurrent(report) || sqlstate_of(report) == Some(&SqlState::QUERY_CANCELED)
}

/// `tuple concurrently updated` has no SQLSTATE of its own.
pub(crate) fn is_concurrent(report: &Report) -> bool {
    let internal = sqlstate_of(report) == Some(&SqlState::INTERNAL_ERROR);
    internal && crate::error::message_of(report).contains("tuple concurrently updated")
}
