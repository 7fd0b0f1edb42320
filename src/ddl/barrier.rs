//! Between the two commits of a new column type: rows of the new shape fit the old one, so that apply would go on, and the
//! statement would convert them a second time when an interrupted flare is finished.
//!
//! Until the receiving side has the statement its table takes no rows: a CHECK that is false stops apply, which begins
//! again where it stopped. It goes in the transaction of the statement.

use serde::Deserialize;

use crate::error::{Result, WrapErr};
use crate::replicate::{Change, Plan, Run, status_table};
use crate::server::{ActAs, Server, Session, params};
use crate::value::TableName;

const NAME: &str = "flare_interrupted";

/// A table with the file that its rows are in.
#[derive(Deserialize)]
struct Stored {
    oid: i64,
    file: i64,
}

/// Tables that the session's open transaction has locked against everybody, as it sees them: a statement that computes a
/// column anew puts the rows into another file. Its text may be a function's, or that of a DO block.
const LOCKED: &str = "
    SELECT jsonb_build_object('oid', c.oid::bigint, 'file', c.relfilenode::bigint)
      FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
     WHERE l.pid = pg_backend_pid() AND l.mode = 'AccessExclusiveLock' AND l.granted
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND c.relkind = 'r' AND c.relpersistence = 'p'";

/// Those of them that are in another file for everybody else, by the names that they have there.
const REWRITTEN: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
      FROM unnest($1::bigint[]::oid[], $2::bigint[]::oid[]) s(oid, file)
      JOIN pg_class c ON c.oid = s.oid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relfilenode <> s.file ORDER BY 1";

/// Tables whose rows the open transaction of `open` has computed anew; `beside` is another session of the same side.
pub(super) fn rewritten(open: &Session, beside: &Session) -> Result<Vec<TableName>> {
    let locked: Vec<Stored> = open.list(LOCKED, params![])?;
    if locked.is_empty() {
        return Ok(Vec::new());
    }
    let (oids, files): (Vec<i64>, Vec<i64>) = locked.iter().map(|it| (it.oid, it.file)).unzip();
    beside.list(REWRITTEN, params![oids, files])
}

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
