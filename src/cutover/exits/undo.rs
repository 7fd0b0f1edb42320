//! undo: *from* is opened as it was, by whoever wins the right to do it; and what opens *to*, when a batch could not.

use postgres::error::SqlState;

use crate::cutover::before::run_lock::privileges_of;
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::state::Pause;
use crate::error::{Failure, Report, Result, WrapErr};
use crate::journal::{self, Entry, Member, Step, Transition};
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

/// What gives a database of *from* back to the application: privileges and default, all for one transaction.
pub(in crate::cutover) fn reopening(member: &Member) -> Vec<String> {
    let mut statements = privileges_of(member).restoring();
    statements.push(default_of(member).reopening());
    statements
}

/// The default for new sessions of a database of *from*, as it was before the run.
pub(in crate::cutover) fn default_of(member: &Member) -> ReadOnlyDefault {
    ReadOnlyDefault {
        dbname: member.dbname.clone(),
        setting: member.default_before.clone(),
        exempt: Vec::new(),
    }
}

/// Wins the row of a run and opens its databases on *from*, in one transaction.
pub(crate) fn open_from(session: &Session, entry: &Entry, transition: Transition) -> Result<Ended> {
    again_while_it_passes(|| {
        session.transaction(|session| {
            // Waits for a REVOKE that is still on its way, so that it cannot come after.
            let was = journal::lock(session, entry.run)?;
            if !transition.may_follow(was) {
                return Ok(Ended::Elsewhere(was));
            }
            journal::advance(session, entry.run, transition)?;
            if was != Step::Preparing {
                for member in &entry.databases {
                    session
                        .batch(&reopening(member).join("; "))
                        .wrap_err_with(|| {
                            format!("give the privileges of database {:?} back", member.dbname)
                        })?;
                }
            }
            Ok(Ended::Here)
        })
    })
}

/// What opens the databases of *to*, beside their fences.
#[derive(Debug, Default)]
pub(in crate::cutover) struct OpenTarget {
    /// Those to which nobody had CONNECT.
    pub(in crate::cutover) shut: Vec<ConnectPrivileges>,
    /// What new sessions of each have by default.
    pub(in crate::cutover) defaults: Vec<ReadOnlyDefault>,
}

impl OpenTarget {
    pub(in crate::cutover) fn of(pause: &Pause<'_>) -> OpenTarget {
        let targets = || pause.databases.iter().map(|database| &database.target);
        OpenTarget {
            shut: targets().filter_map(|target| target.shut.clone()).collect(),
            defaults: targets()
                .filter_map(|target| target.default_before.clone())
                .collect(),
        }
    }

    /// The statements, all for one transaction.
    pub(in crate::cutover) fn statements(&self) -> Vec<String> {
        let shut = self.shut.iter().flat_map(ConnectPrivileges::restoring);
        let defaults = self.defaults.iter().map(ReadOnlyDefault::reopening);
        shut.chain(defaults).collect()
    }

    /// Runs them and writes `switched`, all in one transaction; again does nothing. The fences are open already.
    pub(in crate::cutover) fn open(&self, session: &Session, entry: &Entry) -> Result<()> {
        again_while_it_passes(|| {
            session.transaction(|session| {
                match journal::lock(session, entry.run)? {
                    Step::Preparing => {}
                    Step::Switched | Step::Closed => return Ok(()),
                    other => {
                        return Failure::new(format!(
                            "its journal has run {} as {:?}",
                            entry.run,
                            other.as_str()
                        ))
                        .err();
                    }
                }
                journal::advance(session, entry.run, Transition::Open)?;
                session.batch(&self.statements().join("; "))
            })
        })
        .wrap_err("open the target")
    }
}

pub(in crate::cutover) fn again_while_it_passes<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    const TRIES: usize = 100;
    let mut tried = 1;
    loop {
        match attempt() {
            Err(report) if tried < TRIES && passes(&report) => tried += 1,
            outcome => return outcome,
        }
    }
}

/// Somebody else changed the database's row at the same moment (`tuple concurrently updated`, an internal error like any
/// other, in the server's language), or a cancel that was meant for the batch that failed came late.
fn passes(report: &Report) -> bool {
    let passing = [SqlState::INTERNAL_ERROR, SqlState::QUERY_CANCELED];
    sqlstate_of(report).is_some_and(|state| passing.contains(state))
}
