//! One statement in a transaction on each side: see [`carry_out`] for the order.

use std::cell::Cell;
use std::time::{Duration, Instant};

use postgres::error::SqlState;

use super::kind::First;
use super::record::{self, Record, Stage};
use super::sides::Sides;
use super::tables::fence_new;
use super::values::would_differ;
use super::{barrier, failpoint, in_flight};
use crate::error::{Advise, Report, Result, WrapErr};
use crate::replicate::Run;
use crate::server::{Session, is_lost, params, sqlstate_of};

/// How long everything written before may take to arrive while the statement's locks are held.
const DRAINED_WITHIN: Duration = Duration::from_secs(2);

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Carried {
    /// Both sides have it; how long its locks were held on the open side.
    Done(Duration),
    /// Both sides had it.
    Already,
}

/// Runs the statement on the open side, whose locks keep writers of its tables waiting; waits until everything written
/// before has arrived; runs it on the receiving side; and commits both, [`First`] saying in which order.
pub(super) fn carry_out(
    sides: &Sides<'_>,
    record: &Record,
    first: First,
    run: &Run,
) -> Result<Carried> {
    let held = Cell::new(Duration::ZERO);
    let tried = run.ddl.retry(&sides.open, || {
        let tried = attempt(sides, record, first);
        if let Err(report) = &tried
            && !is_lost(report)
        {
            roll_back(&sides.receiving)?;
            barrier::lift(&sides.receiving)?;
        }
        held.set(tried?);
        Ok(())
    });
    match tried {
        Ok(()) => Ok(Carried::Done(held.get())),
        Err(report) if is_already(sides, record, &report)? => Ok(Carried::Already),
        Err(report) => Err(report),
    }
}

fn attempt(sides: &Sides<'_>, record: &Record, first: First) -> Result<Duration> {
    let (open, receiving) = (&sides.open, &sides.receiving);
    for session in [open, receiving] {
        session.batch("BEGIN READ WRITE")?;
    }
    let since = Instant::now();
    open.batch(&record.statement)
        .wrap_err("run it on the open side")?;
    let open_xid = transaction_of(open)?;
    let beside = sides.reader_of_open();
    let rewritten = barrier::rewritten(open, beside)?;
    would_differ(open, beside, &record.statement, !rewritten.is_empty())?;
    in_flight::hold_writers(open, beside)?;
    sides.drain(DRAINED_WITHIN)?;
    barrier::raise(receiving, &rewritten)?;
    receiving
        .batch(&record.receiving)
        .wrap_err("run it on the receiving side")?;
    fence_new(receiving)?;
    let receiving_xid = transaction_of(receiving)?;
    record::committing(
        sides.pair.publisher.admin(),
        record.id,
        &open_xid,
        &receiving_xid,
    )?;
    let (one, other) = match first {
        First::Open => (open, receiving),
        First::Receiving => (receiving, open),
    };
    failpoint::before("first")?;
    commit(one, "commit on the first side")?;
    failpoint::before("second")?;
    commit(other, "commit on the second side: the first has it")?;
    failpoint::before("ended")?;
    record::ended(sides.pair.publisher.admin(), record.id, Stage::Done)?;
    Ok(since.elapsed())
}

fn commit(session: &Session, what: &'static str) -> Result<()> {
    let _shield = crate::server::interrupt::Shield::raise();
    session.batch("COMMIT").wrap_err(what).hint(|| {
        "any flare ddl of this database finishes it, flare status says what is left".into()
    })
}

/// Everything that is checked at COMMIT is checked now; then the transaction's number.
fn transaction_of(session: &Session) -> Result<String> {
    session.batch("SET CONSTRAINTS ALL IMMEDIATE")?;
    session.value("SELECT txid_current()::text", params![])
}

pub(super) fn roll_back(session: &Session) -> Result<()> {
    session.batch("ROLLBACK")
}

/// Answers that a statement gets where it has been run before.
pub(super) const THERE: [SqlState; 5] = [
    SqlState::DUPLICATE_COLUMN,
    SqlState::DUPLICATE_TABLE,
    SqlState::DUPLICATE_OBJECT,
    SqlState::DUPLICATE_SCHEMA,
    SqlState::DUPLICATE_FUNCTION,
];
pub(super) const GONE: [SqlState; 5] = [
    SqlState::UNDEFINED_COLUMN,
    SqlState::UNDEFINED_TABLE,
    SqlState::UNDEFINED_OBJECT,
    SqlState::INVALID_SCHEMA_NAME,
    SqlState::UNDEFINED_FUNCTION,
];

/// Whether the server says that what the statement makes is there, or that what it takes is gone.
pub(super) fn says_already(report: &Report) -> bool {
    sqlstate_of(report).is_some_and(|state| THERE.contains(state) || GONE.contains(state))
}

/// Whether both sides say so, and the statement is on record as done.
fn is_already(sides: &Sides<'_>, record: &Record, report: &Report) -> Result<bool> {
    let admin = sides.pair.publisher.admin();
    if !says_already(report)
        || !record::is_done(admin, sides.config, &record.dbname, &record.statement)?
    {
        return Ok(false);
    }
    sides.receiving.batch("BEGIN READ WRITE")?;
    let answer = sides.receiving.batch(&record.receiving);
    roll_back(&sides.receiving)?;
    Ok(answer.is_err_and(|report| says_already(&report)))
}
