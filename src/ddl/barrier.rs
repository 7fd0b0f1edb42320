//! Between the two commits of a new column type: rows of the new shape fit the old one, so that apply would go on, and the
//! statement would convert them a second time when an interrupted flare is finished.
//!
//! Until the receiving side has the statement its table takes no rows: a CHECK that is false stops apply, which begins
//! again where it stopped. It goes in the transaction of the statement.

use super::kind::retyped_table;
use crate::error::{Result, WrapErr};
use crate::server::Session;

const NAME: &str = "flare_interrupted";

/// Commits it on the receiving side, and takes it away in the transaction that goes on; everything written before has
/// arrived, and writers of the table wait.
pub(super) fn raise(receiving: &Session, statement: &str) -> Result<()> {
    let Some(table) = retyped_table(statement) else {
        return Ok(());
    };
    receiving
        .batch(&format!(
            "ALTER TABLE {table} ADD CONSTRAINT {NAME} CHECK (false) NOT VALID; COMMIT; BEGIN READ WRITE"
        ))
        .wrap_err("keep rows of the new type back on the receiving side")?;
    lift(receiving, statement)
}

/// Takes it away, where it is.
pub(super) fn lift(receiving: &Session, statement: &str) -> Result<()> {
    let Some(table) = retyped_table(statement) else {
        return Ok(());
    };
    receiving
        .batch(&format!(
            "ALTER TABLE IF EXISTS {table} DROP CONSTRAINT IF EXISTS {NAME}"
        ))
        .wrap_err("let rows arrive again on the receiving side")
}
