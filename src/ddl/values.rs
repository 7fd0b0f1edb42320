//! Values that a statement would compute anew on the other side: the sides would differ in silence.

use serde::Deserialize;

use crate::error::{Failure, Result, WrapErr};
use crate::schema::Tokens;
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
    relation: i64,
    number: i32,
    /// Each row's own expression, which each side computes.
    generated: bool,
    /// Whether it calls a function that is not declared immutable, or is a sequence's.
    declared: bool,
    /// Functions of users that it calls, by their oids.
    functions: Vec<i64>,
}

/// Columns of tables that this transaction has locked, which it wrote, with a default that differs from one server or one
/// moment to the next, or that calls a function of a user's. `:funcid` and `:opfuncid` are how pg_node_tree names functions.
const COMPUTED: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'column', a.attname,
             'kind', format_type(a.atttypid, a.atttypmod), 'default', coalesce(pg_get_expr(d.adbin, d.adrelid), t.typdefault),
             'identity', a.attidentity <> '', 'sequence', pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname), 'a_time', t.typcategory = 'D' AND $1 ~* '''\\s*(now|today|tomorrow|yesterday)\\s*''',
             'generated', coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '', 'declared', e.declared, 'functions', e.functions,
             'relation', a.attrelid::bigint, 'number', a.attnum)
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      CROSS JOIN LATERAL (SELECT coalesce(d.adbin, t.typdefaultbin)::text) x(tree)
      CROSS JOIN LATERAL (
        SELECT a.attidentity <> '' OR coalesce(x.tree ~ 'SQLVALUEFUNCTION', false) OR EXISTS (SELECT FROM pg_proc p WHERE p.provolatile <> 'i' AND p.oid = ANY (called.oids)),
               array(SELECT oid::bigint FROM unnest(called.oids) oid WHERE oid >= 16384)
          FROM (SELECT array(SELECT (regexp_matches(x.tree, ':(?:funcid|opfuncid) (\\d+)', 'g'))[1]::oid)) called(oids)) e(declared, functions)
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'
       AND age(a.xmin) <= age((txid_current() & 4294967295)::text::xid)
       AND EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'relation' AND l.relation = c.oid AND l.pid = pg_backend_pid()
                      AND l.mode = 'AccessExclusiveLock'
                      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
       AND (e.declared OR t.typcategory = 'D' AND $1 ~* '''\\s*(now|today|tomorrow|yesterday)\\s*''' OR e.functions <> '{}')";

/// What the transaction of `open`, which has run the statement, would make different on the other side; `beside` is another
/// session of the same side, `rewrites` whether the rows of a table that was there have been computed anew.
pub(super) fn would_differ(
    open: &Session,
    beside: &Session,
    statement: &str,
    rewrites: bool,
) -> Result<()> {
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
        let pretender = pretender(open, &column.functions)?;
        if column.generated {
            if let Some(function) = pretender {
                return Failure::new(format!(
                    "column {:?} of {} is computed by {function}, which is declared IMMUTABLE and is not: rows would get other values on the receiving side",
                    column.column,
                    column.table.plain()
                ))
                .hint("a column that is none of these, written by a trigger, replicates")
                .err();
            }
            continue;
        }
        if !column.declared && pretender.is_none() {
            continue;
        }
        let there: bool = beside.value(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1::bigint::oid AND attnum = $2::int)
                 OR NOT EXISTS (SELECT FROM pg_class WHERE oid = $1::bigint::oid)",
            params![column.relation, column.number],
        )?;
        // A column that was there keeps its values, whatever it is called now; a table that was not has no rows yet.
        if !there && has_rows(open, &column.table)? {
            return column.refused().err();
        }
    }
    if rewrites {
        refuse_volatile_using(open, statement)?;
    }
    Ok(())
}

/// How far functions are followed into those that they call.
const DEPTH: usize = 3;

/// A function among these that is declared as what it is not, as far as the text of it and of what it calls tells.
fn pretender(session: &Session, functions: &[i64]) -> Result<Option<String>> {
    let mut named = functions.to_vec();
    for _ in 0..DEPTH {
        if named.is_empty() {
            break;
        }
        let bodies: Vec<(String, String)> = session.list(
            "SELECT jsonb_build_array(p.oid::regproc, coalesce(pg_get_function_sqlbody, p.prosrc))
               FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang,
                    LATERAL (SELECT CASE WHEN to_jsonb(p) ->> 'prosqlbody' IS NOT NULL THEN pg_get_functiondef(p.oid) END) b(pg_get_function_sqlbody)
              WHERE p.oid = ANY ($1::bigint[]::oid[]) AND l.lanname IN ('sql', 'plpgsql') ORDER BY 1",
            params![named],
        )?;
        let mut called = Vec::new();
        for (function, body) in bodies {
            let names = functions_called(&body);
            if differs_elsewhere(&body, 0).is_some() || calls_volatile(session, &names)? {
                return Ok(Some(function));
            }
            called.extend(names);
        }
        named = session.list(
            "SELECT to_jsonb(p.oid::bigint) FROM pg_proc p WHERE p.proname = ANY ($1) AND p.oid >= 16384",
            params![called],
        )?;
    }
    Ok(None)
}

/// Whether one of these names is a volatile function's whose text cannot be read: what is not declared at all is volatile, too.
fn calls_volatile(session: &Session, called: &[String]) -> Result<bool> {
    session.value(
        "SELECT EXISTS (SELECT FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
                         WHERE p.proname = ANY ($1) AND p.provolatile = 'v' AND (p.oid < 16384 OR l.lanname NOT IN ('sql', 'plpgsql')))",
        params![called.to_vec()],
    )
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
    let block = Tokens::of(statement.as_bytes()).is(0, "DO");
    // What a block does stands in a constant, and in constants in that.
    let inner = statement.replace(['\'', '$'], " ");
    let statement = if block { &inner } else { statement };
    if !block && !statement.to_ascii_lowercase().contains("using") {
        return Ok(());
    }
    let called = functions_called(statement);
    let mut volatile = not_immutable(session, &called)?;
    if volatile.is_none() {
        let tokens = Tokens::of(statement.as_bytes());
        let using = if block {
            Some(1)
        } else {
            tokens.find("USING").map(|using| using + 1)
        };
        let differs = using.and_then(|using| differs_elsewhere(statement, using));
        volatile = differs.map(|what| format!("{what} is another one there"));
    }
    if volatile.is_none() {
        let own: Vec<i64> = session.list(
            "SELECT to_jsonb(p.oid::bigint) FROM pg_proc p WHERE p.proname = ANY ($1) AND p.oid >= 16384",
            params![called],
        )?;
        let pretender = pretender(session, &own)?;
        volatile = pretender.map(|it| format!("{it}() is declared IMMUTABLE and is not"));
    }
    match volatile {
        None => Ok(()),
        Some(why) => Failure::new(format!(
            "{why}: rows would get other values on the receiving side"
        ))
        .hint("in three statements: ADD COLUMN of the new type; UPDATE; then DROP COLUMN and RENAME COLUMN")
        .err(),
    }
}

/// A function of these names that is volatile, or a user's that is only stable: that one may read the time.
fn not_immutable(session: &Session, called: &[String]) -> Result<Option<String>> {
    session.value(
        "SELECT min(p.proname || CASE p.provolatile WHEN 'v' THEN '() is volatile' ELSE '() is not immutable' END)
           FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
          WHERE p.proname = ANY ($1)
            AND (p.provolatile = 'v' OR p.provolatile = 's' AND p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal'))",
        params![called.to_vec()],
    )
}

/// Names that are called as functions in it, lower-cased where unquoted.
fn functions_called(text: &str) -> Vec<String> {
    let tokens = Tokens::of(text.as_bytes());
    let called = (0..tokens.len()).filter(|at| tokens.is(at + 1, "("));
    called.filter_map(|at| tokens.name(at)).collect()
}

/// Functions that are not volatile, and have another value on another server, or a moment later.
const ELSEWHERE: [&str; 15] = [
    "now",
    "statement_timestamp",
    "transaction_timestamp",
    "txid_current",
    "pg_current_xact_id",
    "age",
    "current_setting",
    "current_database",
    "version",
    "pg_backend_pid",
    "inet_client_addr",
    "inet_server_addr",
    "inet_server_port",
    "pg_postmaster_start_time",
    "pg_conf_load_time",
];

/// The same without parentheses.
const ELSEWHERE_WORDS: [&str; 8] = [
    "CURRENT_TIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SESSION_USER",
    "SYSTEM_USER",
    "CURRENT_CATALOG",
];

/// What stands from this token on and has another value on the other side, though it is not volatile.
fn differs_elsewhere(text: &str, from: usize) -> Option<String> {
    let tokens = Tokens::of(text.as_bytes());
    (from..tokens.len()).find_map(|at| {
        let raw = String::from_utf8_lossy(tokens.raw(at));
        let calls = tokens.is(at + 1, "(")
            && tokens
                .name(at)
                .is_some_and(|name| ELSEWHERE.contains(&name.as_str()));
        let says = ELSEWHERE_WORDS.iter().any(|word| tokens.is(at, word));
        let constant = raw.trim_matches(['\'', ' ']).to_ascii_lowercase();
        let time = raw.starts_with('\'')
            && ["now", "today", "tomorrow", "yesterday"].contains(&constant.as_str());
        // It may be the name of any function.
        let escaped = tokens.are(at, "U &") && tokens.raw(at + 2).starts_with(b"\"");
        (calls || says || time || escaped).then(|| raw.into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_value_elsewhere_is_found() {
        for (using, found) in [
            ("now /* x */ ()", Some("now")),
            ("Current_Date", Some("Current_Date")),
            ("' today '::date", Some("' today '")),
            ("U&\"r\\0061ndom\"()", Some("U")),
            ("age::int + version", None),
            ("'tonight'", None),
        ] {
            let text = format!("ALTER TABLE t ALTER now TYPE date USING {using}");
            assert_eq!(differs_elsewhere(&text, 6).as_deref(), found, "{using}");
        }
    }

    #[test]
    fn functions_are_known_by_their_parentheses() {
        assert_eq!(functions_called("x USING f(a) + \"G\" (b)"), ["f", "G"]);
    }
}
