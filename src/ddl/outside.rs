//! Statements that PostgreSQL runs outside of transactions only: one side after the other, each as often as it takes.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::failpoint;
use super::kind::First;
use super::record::{self, Record, Stage};
use super::sides::Sides;
use super::transaction::{Carried, says_already};
use crate::error::{Result, WrapErr};
use crate::replicate::Run;
use crate::schema::Tokens;
use crate::server::{Session, is_lost, params, sqlstate_of};
use crate::value::TableName;

/// Until a row has arrived; nothing is locked meanwhile.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

/// Runs it on one side, then on the other. A side that has it already is left alone; what fails half-way is taken away.
pub(super) fn carry_out(
    sides: &Sides<'_>,
    record: &Record,
    first: First,
    run: &Run,
) -> Result<Carried> {
    let since = Instant::now();
    let open = || on(&sides.open, &record.statement, run).wrap_err("run it on the open side");
    let receiving =
        || on(&sides.receiving, &record.receiving, run).wrap_err("run it on the receiving side");
    let (one, other) = match first {
        First::Open => {
            let open = open()?;
            failpoint::before("second")?;
            // Rows that a new unique index forbids are still on their way.
            sides.drain(DRAINED_WITHIN)?;
            (open, receiving()?)
        }
        First::Receiving => {
            let receiving = receiving()?;
            failpoint::before("second")?;
            (receiving, open()?)
        }
    };
    record::ended(sides.pair.publisher.admin(), record.id, Stage::Done)?;
    Ok(if one || other {
        Carried::Done(since.elapsed())
    } else {
        Carried::Already
    })
}

/// Whether it had to be run.
fn on(session: &Session, statement: &str, run: &Run) -> Result<bool> {
    let named = names_in(statement);
    for index in invalid_indexes(session)? {
        // What an earlier run has left behind when it died is in the way of this one.
        if named.contains(&index.table.as_str().to_owned()) {
            drop_index(session, &index)?;
        }
    }
    let invalid = invalid_indexes(session)?;
    let changed = Cell::new(true);
    let outcome = run.ddl.retry(session, || match session.batch(statement) {
        Err(report) if says_already(&report) => {
            changed.set(false);
            Ok(())
        }
        // ROLLBACK outside of a transaction is only a warning.
        tried => tried,
    });
    if let Err(report) = outcome {
        if !is_lost(&report) && sqlstate_of(&report).is_some() {
            drop_invalid(session, &invalid)?;
        }
        return Err(report);
    }
    Ok(changed.get())
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
