//! undo: the doors are opened as they were, by whoever wins the right to do it.

use postgres::error::SqlState;

use super::door::in_transaction;
use super::lock::door_of;
use super::rights::Door;
use crate::error::{Failure, Report, Result, WrapErr};
use crate::journal::{self, Entry, Step};
use crate::replicate::closed::ReadOnlyDefault;
use crate::server::{Session, sqlstate_of};

/// What came of trying to end a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By this session.
    Here,
    /// By someone else, before; the run's step.
    Elsewhere(Step),
}

/// Wins the row of a run away from `from`, opens its doors and writes `to`, all in one transaction.
pub(crate) fn open_doors(
    session: &Session,
    entry: &Entry,
    from: &[Step],
    to: Step,
) -> Result<Ended> {
    let doors = entry.databases.iter().map(door_of);
    let doors: Vec<Door> = doors.collect();
    let ended = again_while_it_passes(|| {
        in_transaction(session, || {
            // Waits for a shutting of the door that is still on its way, so that it cannot come after.
            let was = journal::lock(session, entry.run)?;
            if !from.contains(&was) {
                return Ok(Ended::Elsewhere(was));
            }
            journal::advance(session, entry.run, &[was], to)?;
            if was != Step::Preparing {
                doors.iter().try_for_each(|door| open(session, door))?;
            }
            Ok(Ended::Here)
        })
    })?;
    if ended == Ended::Here {
        to_the_letter(session, &doors);
    }
    Ok(ended)
}

/// Opens the doors of *to* and writes `switched` there, all in one transaction; again does nothing.
pub(crate) fn open_target(
    session: &Session,
    entry: &Entry,
    doors: &[Door],
    defaults: &[ReadOnlyDefault],
) -> Result<()> {
    again_while_it_passes(|| {
        in_transaction(session, || {
            match journal::lock(session, entry.run)? {
                Step::Preparing => {}
                Step::Switched | Step::Closed => return Ok(()),
                other => {
                    return Failure::new(format!(
                        "open the target: its journal has run {} as {:?}",
                        entry.run,
                        other.as_str()
                    ))
                    .err();
                }
            }
            journal::advance(session, entry.run, &[Step::Preparing], Step::Switched)?;
            defaults
                .iter()
                .try_for_each(|database| session.batch(&database.reopening()))?;
            doors.iter().try_for_each(|door| open(session, door))
        })
    })
}

/// Gives the privileges of a database back, in the session's transaction.
pub(super) fn open(session: &Session, door: &Door) -> Result<()> {
    session.batch(&door.opening().join("; ")).wrap_err_with(|| {
        format!(
            "give the privileges of database {:?} back",
            door.before().dbname
        )
    })
}

/// Writes the privileges down as they were, once the doors are open: nobody waits for that.
pub(super) fn to_the_letter(session: &Session, doors: &[Door]) {
    for door in doors {
        let Some(restoring) = door.restoring_letter() else {
            continue;
        };
        if let Err(report) = again_while_it_passes(|| session.batch(&restoring)) {
            log::warn!(
                "the privileges of database {:?} are given back, in another order: {report:#}",
                door.before().dbname
            );
        }
    }
}

pub(super) fn again_while_it_passes<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    const TRIES: usize = 100;
    let mut tried = 1;
    loop {
        match attempt() {
            Err(report) if tried < TRIES && passes(&report) => tried += 1,
            outcome => return outcome,
        }
    }
}

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
