//! One statement in a transaction on each side: see [`carry_out`] for the order.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use postgres::error::SqlState;

use super::kind::First;
use super::record::{self, Record, Stage};
use super::sides::Sides;
use super::tables::{fence_made, made};
use super::values::would_differ;
use super::{barrier, failpoint, touched};
use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::replicate::{Run, fence};
use crate::server::{Session, is_lost, sqlstate_of};
use crate::value::TableName;

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
    let took = Cell::new(Duration::ZERO);
    let held = RefCell::new(Vec::new());
    let closed = fence::is_there(&sides.reader)?;
    let tried = run.ddl.retry(&sides.open, || {
        loop {
            let tried = attempt(sides, record, first, &held.borrow(), closed);
            if let Err(report) = &tried
                && !is_lost(report)
            {
                roll_back(&sides.receiving)?;
                barrier::lift(&sides.receiving)?;
            }
            match tried? {
                Attempt::Done(lasted) => {
                    took.set(lasted);
                    return Ok(());
                }
                Attempt::Hold(tables) => {
                    roll_back(&sides.receiving)?;
                    roll_back(&sides.open)?;
                    held.borrow_mut().extend(tables);
                }
            }
        }
    });
    match tried {
        Ok(()) => Ok(Carried::Done(took.get())),
        Err(report) if is_already(sides, record, &report)? => Ok(Carried::Already),
        Err(report) => Err(report),
    }
}

/// Each session asks once what it will ask while writers wait: the first time costs milliseconds.
pub(super) fn rehearse(sides: &Sides<'_>) -> Result<()> {
    let (open, beside) = (&sides.open, sides.reader_of_open());
    touched::rehearse(open, beside)?;
    would_differ(open, beside, "", false)?;
    made(&sides.receiving).map(drop)
}

/// How one ended.
enum Attempt {
    /// Both sides have it; how long its locks were held.
    Done(Duration),
    /// Neither has it: writers of these tables have to be held before it.
    Hold(Vec<TableName>),
}

fn attempt(
    sides: &Sides<'_>,
    record: &Record,
    first: First,
    held: &[TableName],
    closed: bool,
) -> Result<Attempt> {
    let (open, receiving) = (&sides.open, &sides.receiving);
    for session in [receiving, open] {
        session.batch("BEGIN READ WRITE")?;
    }
    let since = Instant::now();
    if !held.is_empty() {
        touched::hold_writers(open, held)?;
        sides.drain(DRAINED_WITHIN)?;
    }
    open.batch(&record.statement)
        .wrap_err("run it on the open side")?;
    let open_xid = transaction_of(open)?;
    // It travels while the rest is looked at.
    let probe = sides.probe()?;
    let beside = sides.reader_of_open();
    let concerned = touched::concerned(open, beside)?;
    if concerned.held.iter().any(|table| !held.contains(table)) {
        return Ok(Attempt::Hold(concerned.held));
    }
    would_differ(
        open,
        beside,
        &record.statement,
        !concerned.rewritten.is_empty(),
    )?;
    sides.arrived(probe, DRAINED_WITHIN)?;
    barrier::raise(receiving, &concerned.rewritten)?;
    receiving
        .batch(&record.receiving)
        .wrap_err("run it on the receiving side")?;
    if closed {
        fence_made(receiving)?;
    }
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
    Ok(Attempt::Done(since.elapsed()))
}

fn commit(session: &Session, what: &'static str) -> Result<()> {
    let _shield = crate::server::interrupt::Shield::raise();
    session.batch("COMMIT").wrap_err(what).hint(|| {
        "any flare ddl of this database finishes it, flare status says what is left".into()
    })
}

/// Everything that is checked at COMMIT is checked now; then the transaction's number.
fn transaction_of(session: &Session) -> Result<String> {
    let rows = session.simple("SET CONSTRAINTS ALL IMMEDIATE; SELECT txid_current()")?;
    let number = rows.first().and_then(|row| row.get(0));
    number
        .map(str::to_owned)
        .ok_or_else(|| Failure::new("read the transaction's number: no row came back").into())
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
