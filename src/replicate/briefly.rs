//! One statement for each of many tables, none of which may keep the application waiting for long.

use std::time::Duration;

use postgres::error::SqlState;

use crate::error::Result;
use crate::server::{Session, sqlstate_of};
use crate::value::TableName;

/// How many tables are asked for in one round trip, each in a transaction of its own.
const AT_ONCE: usize = 100;

/// How a table's lock is waited for.
pub(super) struct LockWait {
    /// How long the writers of a table may have to wait behind it.
    pub(super) lock_timeout: Duration,
    /// How often a table is tried that is in use all the time.
    pub(super) tries: usize,
}

/// Runs `statement` for each table in a transaction that starts with `begin`, and says which tables were in use all the
/// time; `undone` says of which of these tables it is still to be done.
pub(super) fn each(
    session: &Session,
    begin: &str,
    tables: Vec<TableName>,
    wait: &LockWait,
    statement: impl Fn(&TableName) -> String,
    undone: impl Fn(&[TableName]) -> Result<Vec<TableName>>,
) -> Result<Vec<TableName>> {
    let mut left = tables;
    for _ in 0..wait.tries {
        let mut busy = Vec::new();
        let mut rest = left.as_slice();
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(AT_ONCE)];
            let texts = some.iter().map(|table| {
                let timeout = wait.lock_timeout.as_millis();
                let statement = statement(table);
                format!("{begin}; SET LOCAL lock_timeout = {timeout}; {statement}; COMMIT")
            });
            let texts: Vec<String> = texts.collect();
            let Err(report) = session.batch(&texts.join("; ")) else {
                rest = &rest[some.len()..];
                continue;
            };
            session.batch("ROLLBACK")?;
            if sqlstate_of(&report) != Some(&SqlState::LOCK_NOT_AVAILABLE) {
                return Err(report);
            }
            // The server does them in this order, and none after the one that is in use.
            let undone = undone(some)?;
            let at = some.iter().position(|table| undone.contains(table));
            let at = at.unwrap_or(some.len() - 1);
            busy.push(some[at].clone());
            rest = &rest[at + 1..];
        }
        left = busy;
        if left.is_empty() {
            break;
        }
    }
    Ok(left)
}
