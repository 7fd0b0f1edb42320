//! Values that a statement would compute anew on the other side: the sides would differ in silence.

use serde::Deserialize;

use super::kind::functions_called;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Session, params};
use crate::value::{Ident, TableName};

/// A column that the session's open transaction has given a default that is no constant.
#[derive(Debug, Deserialize)]
struct Computed {
    #[serde(flatten)]
    table: TableName,
    column: String,
    kind: String,
    default: Option<String>,
    identity: bool,
    /// A word such as 'now' in a column of dates or times.
    a_time: bool,
    /// The statement drops a column of the table, too: perhaps one of that name.
    dropping: bool,
}

/// Columns of tables that this transaction has locked, which it wrote, with a default that differs from one server or one
/// moment to the next. `:funcid` and `:opfuncid` are how pg_node_tree names functions.
const COMPUTED: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'column', a.attname,
             'kind', format_type(a.atttypid, a.atttypmod), 'default', coalesce(pg_get_expr(d.adbin, d.adrelid), t.typdefault),
             'identity', a.attidentity <> '', 'a_time', t.typcategory = 'D' AND $1 ~* '''\\s*(now|today|tomorrow|yesterday)\\s*''',
             'dropping', EXISTS (SELECT FROM pg_attribute gone WHERE gone.attrelid = a.attrelid AND gone.attisdropped
                                    AND age(gone.xmin) <= age((txid_current() & 4294967295)::text::xid)))
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'
       AND age(a.xmin) <= age((txid_current() & 4294967295)::text::xid)
       AND EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'relation' AND l.relation = c.oid AND l.pid = pg_backend_pid()
                      AND l.mode = 'AccessExclusiveLock'
                      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
       AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''
       AND (a.attidentity <> '' OR coalesce(d.adbin, t.typdefaultbin)::text ~ 'SQLVALUEFUNCTION'
            OR t.typcategory = 'D' AND $1 ~* '''\\s*(now|today|tomorrow|yesterday)\\s*'''
            OR EXISTS (SELECT FROM pg_proc p WHERE p.provolatile <> 'i' AND p.oid::text IN (
                         SELECT (regexp_matches(coalesce(d.adbin, t.typdefaultbin)::text, ':(?:funcid|opfuncid) (\\d+)', 'g'))[1])))";

/// What the transaction of `open`, which has run the statement, would make different on `other`, which has not.
pub(super) fn would_differ(open: &Session, other: &Session, statement: &str) -> Result<()> {
    let computed: Vec<Computed> = open
        .list(COMPUTED, params![statement])
        .wrap_err("look for defaults that are no constants")?;
    for column in computed {
        if column.a_time {
            return Failure::new(format!(
                "the default of column {:?} is a word for a time, which each side would read at a time of its own",
                column.column
            ))
            .hint("now() and current_date are read when a row is written")
            .err();
        }
        let there: bool = other.value(
            "SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                              JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = $3 AND NOT a.attisdropped)
                 OR NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE n.nspname = $1 AND c.relname = $2)",
            params![
                column.table.schema.as_str(),
                column.table.table.as_str(),
                &column.column
            ],
        )?;
        // A column that was there keeps its values; a table that was not has no rows yet.
        if (!there || column.dropping) && has_rows(open, &column.table)? {
            return column.refused().err();
        }
    }
    refuse_volatile_using(open, statement)
}

fn has_rows(session: &Session, table: &TableName) -> Result<bool> {
    session.value(
        &format!("SELECT EXISTS (SELECT FROM ONLY {table})"),
        params![],
    )
}

impl Computed {
    fn refused(&self) -> Failure {
        let Computed {
            table,
            column,
            kind,
            default,
            identity,
            ..
        } = self;
        let name = Ident::new(column);
        let failure = Failure::new(format!(
            "column {column:?} of {} would get other values on the receiving side: its default is no constant",
            table.plain()
        ));
        match default {
            Some(default) if !identity => failure.hint(format!(
                "in three statements: ALTER TABLE {table} ADD COLUMN {name} {kind}; ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {default}; UPDATE {table} SET {name} = {default}"
            )),
            _ => failure.hint(format!(
                "in three statements: ALTER TABLE {table} ADD COLUMN {name} {kind}; UPDATE {table} SET {name} = ...; and when every row has one, ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL, ALTER COLUMN {name} ADD GENERATED BY DEFAULT AS IDENTITY"
            )),
        }
    }
}

/// Of what is not volatile, what has another value a moment later.
const READS_THE_TIME: &str = r"\yusing\y.*(\ynow\y|\ycurrent_timestamp\y|\ycurrent_date\y|\ycurrent_time\y|\ylocaltime\y|\ylocaltimestamp\y|\ystatement_timestamp\y|\ytransaction_timestamp\y|\ytxid_current\y|\ypg_current_xact_id\y|\ycurrent_setting\y|\yage\y|'\s*(?:today|tomorrow|yesterday)\s*')";

/// `ALTER COLUMN .. TYPE .. USING` computes every row again on each side.
fn refuse_volatile_using(session: &Session, statement: &str) -> Result<()> {
    if !statement.to_ascii_lowercase().contains("using") {
        return Ok(());
    }
    let called = functions_called(statement);
    let volatile: Option<String> = session.value(
        "SELECT coalesce((SELECT min(proname::text) || '() is volatile' FROM pg_proc WHERE proname = ANY ($1) AND provolatile = 'v'),
                         (SELECT it[1] || ' is another one there' FROM regexp_matches($2, $3, 'i') it))",
        params![called, statement, READS_THE_TIME],
    )?;
    match volatile {
        None => Ok(()),
        Some(why) => Failure::new(format!(
            "{why}: rows would get other values on the receiving side"
        ))
        .hint("in three statements: ADD COLUMN of the new type; UPDATE; then DROP COLUMN and RENAME COLUMN")
        .err(),
    }
}
