//! Between the two commits of a new column type: rows of the new shape fit the old one, so that apply would go on, and the
//! statement would convert them a second time when an interrupted flare is finished.
//!
//! Until the receiving side has the statement its table takes no rows: a CHECK that is false stops apply, which begins
//! again where it stopped. It goes in the transaction of the statement.

use crate::error::{Result, WrapErr};
use crate::replicate::{Change, Plan, Run, status_table};
use crate::server::{ActAs, Server, Session, params};
use crate::value::TableName;

const NAME: &str = "flare_interrupted";

/// Commits it on the receiving side, and takes it away in the transaction that goes on; everything written before has
/// arrived, and writers of the tables wait.
pub(super) fn raise(receiving: &Session, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let mut sql = String::new();
    for table in tables {
        sql.push_str(&format!(
            "ALTER TABLE ONLY {table} ADD CONSTRAINT {NAME} CHECK (false) NO INHERIT NOT VALID;"
        ));
    }
    receiving
        .batch(&format!("{sql} COMMIT; BEGIN READ WRITE"))
        .wrap_err("keep rows of the new type back on the receiving side")?;
    lift(receiving)
}

/// Takes it away, wherever it is.
pub(super) fn lift(receiving: &Session) -> Result<()> {
    let tables: Vec<TableName> = receiving.list(STANDING, params![NAME])?;
    for table in tables {
        receiving
            .batch(&format!(
                "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {NAME}"
            ))
            .wrap_err("let rows arrive again on the receiving side")?;
    }
    Ok(())
}

/// Where it stands: those of partitions and children go with their parents'.
const STANDING: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.conname = $1 AND k.contype = 'c' AND k.coninhcount = 0 ORDER BY n.nspname, c.relname";

/// Takes away what a statement that nobody finishes any more has left: the table would never take a row again.
pub(crate) fn lift_left(server: &Server, dbname: &str, run: &Run) -> Result<Change> {
    if !status_table::has_database(server, dbname)? {
        return Ok(Change::none(run));
    }
    let session = server.connect(ActAs::Tables, dbname)?;
    let tables: Vec<TableName> = session
        .list(STANDING, params![NAME])
        .wrap_err("look for what interrupted statements have left")?;
    let mut plan = Plan::new(server.side(), dbname);
    for table in tables {
        plan.step(
            format!(
                "let {} take rows again, which an interrupted flare ddl kept back",
                table.plain()
            ),
            format!("ALTER TABLE {table} DROP CONSTRAINT {NAME}"),
        );
    }
    if plan.is_empty() {
        return Ok(Change::none(run));
    }
    plan.carry_out(&session, run)
}
