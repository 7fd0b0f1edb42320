//! Statements that PostgreSQL runs outside of transactions only: one side after the other, each as often as it takes.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::failpoint;
use super::kind::First;
use super::record::{self, Record, Stage};
use super::sides::Sides;
use super::transaction::{Carried, GONE, THERE};
use crate::error::{Failure, Report, Result, WrapErr};
use crate::replicate::Run;
use crate::schema::Tokens;
use crate::server::{Session, is_lost, params, sqlstate_of};
use crate::value::TableName;

/// Until a row has arrived; nothing is locked meanwhile.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

/// Which run has begun it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Now,
    /// One that has died: a side may have it.
    Earlier,
}

/// What a side answered.
enum Answer {
    Done,
    /// That it has it, in its words.
    Had(Report),
}

/// Runs it on one side, then on the other. A side that has it already is left alone; what fails half-way is taken away.
pub(super) fn carry_out(
    sides: &Sides<'_>,
    record: &Record,
    first: First,
    begun: Begun,
    run: &Run,
) -> Result<Carried> {
    let since = Instant::now();
    let (one, other) = match first {
        First::Open => (&sides.open, &sides.receiving),
        First::Receiving => (&sides.receiving, &sides.open),
    };
    let text = |session: &Session| {
        if std::ptr::eq(session, &sides.open) {
            &record.statement
        } else {
            &record.receiving
        }
    };
    let place = |session: &Session| {
        if std::ptr::eq(session, &sides.open) {
            "run it on the open side"
        } else {
            "run it on the receiving side"
        }
    };
    let undone = || record::ended(sides.pair.publisher.admin(), record.id, Stage::Undone);
    let before = all_indexes(one)?;
    let on_one = match on(one, text(one), run) {
        Ok(answer) => answer,
        Err(report) => {
            // Nothing has been done, so nothing is left to be finished.
            if is_answer(&report) {
                undone()?;
            }
            return Err(report.wrap_err(place(one)));
        }
    };
    failpoint::before("second")?;
    if first == First::Open {
        // Rows that a new unique index forbids are still on their way.
        sides.drain(DRAINED_WITHIN)?;
    }
    let on_other = match on(other, text(other), run) {
        Ok(answer) => answer,
        Err(report) => {
            if is_answer(&report) && take_back(one, &on_one, &before, record)? {
                undone()?;
            }
            return Err(report.wrap_err(place(other)));
        }
    };
    let admin = sides.pair.publisher.admin();
    if let (Answer::Had(report), Answer::Had(_), Begun::Now) = (&on_one, &on_other, begun)
        && !record::is_done(admin, sides.config, &record.dbname, &record.statement)?
    {
        undone()?;
        return Failure::new(format!("{}: {report:#}", place(one))).err();
    }
    if matches!(on_one, Answer::Had(_)) != matches!(on_other, Answer::Had(_))
        && let Some(index) = creates_index(&record.statement)
    {
        let of = |session: &Session| indexes_named(session, &index);
        if of(one)? != of(other)? {
            take_back(one, &on_one, &before, record)?;
            undone()?;
            return Failure::new(format!(
                "index {index:?} is not of the same columns on both sides"
            ))
            .hint("another index has that name on one of them")
            .err();
        }
    }
    record::ended(admin, record.id, Stage::Done)?;
    Ok(match (on_one, on_other) {
        (Answer::Had(_), Answer::Had(_)) => Carried::Already,
        _ => Carried::Done(since.elapsed()),
    })
}

/// A server has refused it, and both are there.
fn is_answer(report: &Report) -> bool {
    !is_lost(report) && sqlstate_of(report).is_some()
}

/// Takes an index away that the other side refuses. Whether the first side is as it was before.
fn take_back(session: &Session, answer: &Answer, before: &[i64], record: &Record) -> Result<bool> {
    if matches!(answer, Answer::Had(_)) {
        return Ok(false);
    }
    let tokens = Tokens::of(record.statement.as_bytes());
    if !tokens.is(0, "CREATE") {
        return Ok(false);
    }
    let named = names_in(&record.statement);
    let made: Vec<TableName> = session.list(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_class t ON t.oid = i.indrelid
          WHERE i.indexrelid::bigint <> ALL ($1::bigint[]) AND t.relname = ANY ($2)",
        params![before.to_vec(), named],
    )?;
    let [index] = made.as_slice() else {
        return Ok(false);
    };
    drop_index(session, index)?;
    Ok(true)
}

fn all_indexes(session: &Session) -> Result<Vec<i64>> {
    session.list(
        "SELECT to_jsonb(indexrelid::bigint) FROM pg_index WHERE indexrelid >= 16384",
        params![],
    )
}

/// The name that a statement gives an index.
fn creates_index(statement: &str) -> Option<String> {
    let tokens = Tokens::of(statement.as_bytes());
    let mut at = tokens.find("CONCURRENTLY")? + 1;
    if !tokens.is(0, "CREATE") {
        return None;
    }
    if tokens.are(at, "IF NOT EXISTS") {
        at += 3;
    }
    tokens.name(at).filter(|_| !tokens.is(at, "ON"))
}

/// Its table and its columns, wherever there is one.
fn indexes_named(session: &Session, name: &str) -> Result<Vec<serde_json::Value>> {
    session.list(
        "SELECT jsonb_build_array(n.nspname, t.relname, i.indisunique,
                  ARRAY(SELECT coalesce(a.attname, '') FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, o)
                          LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.o))
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_class t ON t.oid = i.indrelid WHERE c.relname = $1 ORDER BY n.nspname",
        params![name],
    )
}

fn on(session: &Session, statement: &str, run: &Run) -> Result<Answer> {
    let named = names_in(statement);
    for index in invalid_indexes(session)? {
        // What an earlier run has left behind when it died is in the way of this one.
        if named.contains(&index.table.as_str().to_owned()) {
            drop_index(session, &index)?;
        }
    }
    let invalid = invalid_indexes(session)?;
    let had = RefCell::new(None);
    let outcome = run.ddl.retry(session, || match session.batch(statement) {
        Err(report) if says_had(statement, &report) => {
            *had.borrow_mut() = Some(report);
            Ok(())
        }
        // ROLLBACK outside of a transaction is only a warning.
        tried => tried,
    });
    if let Err(report) = outcome {
        if is_answer(&report) {
            drop_invalid(session, &invalid)?;
        }
        return Err(report);
    }
    Ok(had.into_inner().map_or(Answer::Done, Answer::Had))
}

/// Whether the server says that what the statement makes is there, or that what it takes is gone.
fn says_had(statement: &str, report: &Report) -> bool {
    let tokens = Tokens::of(statement.as_bytes());
    let makes = tokens.is(0, "CREATE") || tokens.start("ALTER TYPE");
    let takes = tokens.is(0, "DROP") || tokens.start("ALTER TABLE");
    sqlstate_of(report)
        .is_some_and(|state| makes && THERE.contains(state) || takes && GONE.contains(state))
}

/// Indexes that an interrupted build has left behind.
fn invalid_indexes(session: &Session) -> Result<Vec<TableName>> {
    session.list(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE NOT i.indisvalid AND c.relkind = 'i'",
        params![],
    )
}

fn drop_invalid(session: &Session, before: &[TableName]) -> Result<()> {
    for index in invalid_indexes(session)? {
        if !before.contains(&index) {
            drop_index(session, &index)?;
        }
    }
    Ok(())
}

fn drop_index(session: &Session, index: &TableName) -> Result<()> {
    session
        .batch(&format!("DROP INDEX CONCURRENTLY {index}"))
        .wrap_err_with(|| format!("drop the invalid index {}", index.plain()))
}

/// Every name in it, and every word.
fn names_in(text: &str) -> Vec<String> {
    let tokens = Tokens::of(text.as_bytes());
    let names = (0..tokens.len()).filter_map(|at| tokens.name(at));
    names.collect()
}
