//! Values that a statement would compute anew on the other side: the sides would differ in silence.

use serde::Deserialize;

use super::kind::{differs_elsewhere, functions_called};
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Session, params};
use crate::value::{Ident, Literal, TableName};

/// A column that the session's open transaction has given a default that is no constant.
#[derive(Debug, Deserialize)]
struct Computed {
    #[serde(flatten)]
    table: TableName,
    column: String,
    kind: String,
    default: Option<String>,
    identity: bool,
    /// The sequence that the column has brought with it.
    sequence: Option<String>,
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
             'identity', a.attidentity <> '', 'sequence', pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname), 'a_time', t.typcategory = 'D' AND $1 ~* '''\\s*(now|today|tomorrow|yesterday)\\s*''',
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
            sequence,
            ..
        } = self;
        let name = Ident::new(column);
        let add = format!("ALTER TABLE {table} ADD COLUMN {name}");
        let alter = format!("ALTER TABLE {table} ALTER COLUMN {name}");
        let failure = Failure::new(format!(
            "column {column:?} of {} would get other values on the receiving side: its default is no constant",
            table.plain()
        ));
        match (default, sequence) {
            (Some(_), Some(sequence)) if !identity => failure.hint(format!(
                "in these statements: CREATE SEQUENCE {sequence}; {add} {kind}; {alter} SET DEFAULT nextval({literal}); UPDATE {table} SET {name} = nextval({literal}); ALTER SEQUENCE {sequence} OWNED BY {table}.{name}",
                literal = Literal(sequence)
            )),
            (Some(default), _) if !identity => failure.hint(format!(
                "in three statements: {add} {kind}; {alter} SET DEFAULT {default}; UPDATE {table} SET {name} = {default}"
            )),
            _ => failure.hint(format!(
                "in these statements: {add} {kind}; UPDATE {table} SET {name} = numbered.n FROM (SELECT ctid AS at, row_number() OVER () AS n FROM {table}) numbered WHERE ctid = numbered.at; {alter} SET NOT NULL; {alter} ADD GENERATED BY DEFAULT AS IDENTITY; SELECT setval(pg_get_serial_sequence({}, {}), max({name})) FROM {table}",
                Literal(&table.to_string()),
                Literal(column)
            )),
        }
    }
}

/// `ALTER COLUMN .. TYPE .. USING` computes every row again on each side.
fn refuse_volatile_using(session: &Session, statement: &str) -> Result<()> {
    if !statement.to_ascii_lowercase().contains("using") {
        return Ok(());
    }
    let called = functions_called(statement);
    let volatile: Option<String> = session.value(
        "SELECT min(proname::text) || '() is volatile' FROM pg_proc WHERE proname = ANY ($1) AND provolatile = 'v'",
        params![called],
    )?;
    let volatile = volatile.or_else(|| {
        differs_elsewhere(statement).map(|what| format!("{what} is another one there"))
    });
    match volatile {
        None => Ok(()),
        Some(why) => Failure::new(format!(
            "{why}: rows would get other values on the receiving side"
        ))
        .hint("in three statements: ADD COLUMN of the new type; UPDATE; then DROP COLUMN and RENAME COLUMN")
        .err(),
    }
}
