//! Between the two commits of a new column type: rows of the new shape fit the old one, so that apply would go on, and the
//! statement would convert them a second time when an interrupted flare is finished.
//!
//! Until the receiving side has the statement its table takes no rows: a CHECK that is false stops apply, which begins
//! again where it stopped. It goes in the transaction of the statement.

use crate::error::{Result, WrapErr};
use crate::replicate::{Change, Plan, Run, status_table};
use crate::schema::Tokens;
use crate::server::{ActAs, Server, Session, params};
use crate::value::TableName;

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

/// The table whose columns get another type, as the statement names it: rows of the new shape fit the old one, too.
fn retyped_table(text: &str) -> Option<String> {
    let tokens = Tokens::of(text.as_bytes());
    let retypes = (5..tokens.len()).any(|at| {
        let column = tokens.is(at - 2, "ALTER") || tokens.is(at - 2, "COLUMN");
        tokens.is(at, "TYPE") && (column || tokens.is(at - 1, "DATA"))
    });
    if !retypes || !tokens.start("ALTER TABLE") {
        return None;
    }
    let mut first = 2;
    for words in ["IF EXISTS", "ONLY"] {
        if tokens.are(first, words) {
            first += words.split(' ').count();
        }
    }
    let mut last = first;
    while tokens.is(last + 1, ".") {
        last += 2;
    }
    let named = !tokens.is(last + 1, "&");
    named.then(|| String::from_utf8_lossy(tokens.between(first, last)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_a_new_type_is_known() {
        for (text, table) in [
            ("ALTER TABLE t ALTER a TYPE int", Some("t")),
            (
                "alter table if exists only \"a.b\" . c alter column \"x\" set data type int",
                Some("\"a.b\" . c"),
            ),
            ("ALTER TABLE t ADD type int", None),
            ("ALTER TABLE t ADD a int", None),
            ("ALTER TYPE t ALTER ATTRIBUTE a TYPE int", None),
        ] {
            assert_eq!(retyped_table(text).as_deref(), table, "{text}");
        }
    }
}
