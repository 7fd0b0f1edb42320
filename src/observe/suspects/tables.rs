//! A table on both sides: what is sent of it, and whether it can be written.

use serde::Deserialize;

use super::pending::{Change, Operation};
use super::roles::{Subscription, major};
use super::{Stopped, Suspect, SuspectKind, briefly, suspect};
use crate::catalog::expressions::{FAILING, answers, failing};
use crate::error::Result;
use crate::server::{Side, params};
use crate::value::{Ident, TableName};

/// A table as both catalogs show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: TableName,
    here: Option<Sent>,
    pub(super) there: Option<Taken>,
}

/// What the publisher sends of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Sent {
    columns: Vec<Column>,
    /// Columns of its replica identity; all of them where that is FULL.
    identity: Vec<String>,
    full: bool,
    /// Columns in it that no operator class compares.
    incomparable: Vec<String>,
    /// Whether the role that reads may read it.
    readable: bool,
    /// CHECK, UNIQUE and EXCLUDE, by their names.
    constraints: Vec<Constraint>,
}

/// A constraint, and whether old rows were held against it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Constraint {
    name: String,
    definition: String,
    valid: bool,
}

/// A column that is sent, with its type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Column {
    name: String,
    kind: String,
    /// Has to have a value that nobody sends.
    #[serde(default)]
    required: bool,
}

/// What the subscriber has of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Taken {
    columns: Vec<Column>,
    /// The columns of the key that apply searches by, where there is one.
    key: Vec<String>,
    /// Unique indexes on plain columns.
    pub(super) uniques: Vec<Unique>,
    /// As whom rows are written.
    writer: String,
    owner: String,
    secured: bool,
    may_write: bool,
    /// Whether the subscription's owner may act for the table's.
    may_act: bool,
    constraints: Vec<Constraint>,
    /// ENABLE ALWAYS or REPLICA, with their functions.
    triggers: Vec<String>,
}

/// A unique index, and its columns with their types.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Unique {
    pub(super) index: String,
    pub(super) columns: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) kind: String,
}

const HERE: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'full', c.relreplident = 'f',
        'readable', has_schema_privilege(u.oid, n.oid, 'USAGE') AND has_table_privilege(u.oid, c.oid, 'SELECT'),
        'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'kind', format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum), '[]')
                      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                       AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''),
        'constraints', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid), 'valid', k.convalidated)), '[]')
                          FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'u', 'x')),
        'identity', (SELECT coalesce(jsonb_agg(a.attname), '[]') FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                        AND (c.relreplident = 'f' OR a.attnum = ANY (i.indkey::int2[]))),
        'incomparable', (SELECT coalesce(jsonb_agg(a.attname), '[]') FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                          JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
                         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND b.typtype = 'b' AND b.typcategory <> 'A'
                           AND NOT EXISTS (SELECT FROM pg_opclass o WHERE o.opcdefault AND o.opcmethod IN (403, 405)
                                 AND (o.opcintype = b.oid OR EXISTS (SELECT FROM pg_cast k WHERE k.castsource = b.oid
                                      AND k.casttarget = o.opcintype AND k.castmethod = 'b' AND k.castcontext = 'i')))))
      FROM unnest($1, $2) w(nspname, relname) JOIN pg_namespace n ON n.nspname = w.nspname
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.relname
      LEFT JOIN pg_roles u ON u.rolname = $3
      LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)";

/// $4: whether rows are written as the subscription's owner. A 10 has no `indnkeyatts`.
const THERE: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'owner', o.rolname, 'writer', u.rolname,
        'secured', c.relrowsecurity AND NOT (u.rolsuper OR u.rolbypassrls) AND (c.relforcerowsecurity OR NOT pg_has_role(u.oid, c.relowner, 'USAGE')),
        'may_write', has_schema_privilege(u.oid, n.oid, 'USAGE') AND has_table_privilege(u.oid, c.oid, 'INSERT')
             AND has_table_privilege(u.oid, c.oid, 'UPDATE') AND has_table_privilege(u.oid, c.oid, 'DELETE'),
        'may_act', %MAY_ACT%,
        'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'kind', format_type(a.atttypid, a.atttypmod),
                         'required', a.attnotnull AND NOT a.atthasdef AND a.attidentity = '') ORDER BY a.attnum), '[]')
                      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                       AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''),
        'constraints', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid), 'valid', k.convalidated)), '[]')
                          FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'u', 'x')),
        'key', coalesce((SELECT (SELECT jsonb_agg(a.attname) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[]))
                           FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND (i.indisreplident OR i.indisprimary)
                          ORDER BY i.indisreplident DESC LIMIT 1), '[]'),
        'uniques', (SELECT coalesce(jsonb_agg(jsonb_build_object('index', x.relname, 'columns', k.columns) ORDER BY i.indisprimary DESC, x.relname), '[]')
                      FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid,
                      LATERAL (SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'kind', format_type(a.atttypid, a.atttypmod)) ORDER BY p.at) AS columns
                                 FROM unnest(i.indkey::int2[]) WITH ORDINALITY p(attnum, at) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.attnum
                                WHERE p.at <= coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts)) k
                     WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL),
        'triggers', (SELECT coalesce(jsonb_agg(format('%s (%s)', t.tgname, t.tgfoid::regproc) ORDER BY t.tgname), '[]')
                       FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace
                      WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') AND f.nspname <> 'flare'))
      FROM unnest($1, $2) w(nspname, relname) JOIN pg_namespace n ON n.nspname = w.nspname
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.relname JOIN pg_roles o ON o.oid = c.relowner
      JOIN pg_roles s ON s.rolname = $3 JOIN pg_roles u ON u.oid = CASE WHEN $4 THEN s.oid ELSE o.oid END";

#[derive(Deserialize)]
struct Named<T> {
    #[serde(flatten)]
    name: TableName,
    #[serde(flatten)]
    rest: T,
}

fn named<T: Clone>(rows: &[Named<T>], name: &TableName) -> Option<T> {
    let row = rows.iter().find(|it| it.name == *name);
    row.map(|it| it.rest.clone())
}

/// These tables, on both sides.
pub(super) fn look(
    stopped: &Stopped<'_>,
    subscription: &Subscription,
    names: &[TableName],
) -> Result<Vec<Table>> {
    let mut of_publisher = crate::catalog::tables::names_of(names);
    of_publisher.extend(params![stopped.repl]);
    let here: Vec<Named<Sent>> = briefly(stopped.from, |from| from.list(HERE, of_publisher))?;
    let mut of_subscriber = crate::catalog::tables::names_of(names);
    of_subscriber.extend(params![
        subscription.owner.as_str(),
        subscription.runs_as_owner
    ]);
    let may_act = match (major(stopped.to)?, subscription.runs_as_owner) {
        (16.., false) => "pg_has_role(s.oid, o.oid, 'SET')",
        _ => "true",
    };
    let sql = THERE.replace("%MAY_ACT%", may_act);
    let there: Vec<Named<Taken>> = briefly(stopped.to, |to| to.list(&sql, of_subscriber))?;
    let tables = names.iter().map(|name| Table {
        name: name.clone(),
        here: named(&here, name),
        there: named(&there, name),
    });
    Ok(tables.collect())
}

/// The subscription's tables whose copy is not complete.
pub(super) fn unready(stopped: &Stopped<'_>) -> Result<Vec<TableName>> {
    stopped.to.list(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
           FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE r.srsubid IN (SELECT subid FROM pg_stat_subscription WHERE subname = $1) AND r.srsubstate IN ('i', 'd')
          ORDER BY 1",
        params![stopped.subname],
    )
}

/// The tables that are published.
pub(super) fn published(
    stopped: &Stopped<'_>,
    subscription: &Subscription,
) -> Result<Vec<TableName>> {
    stopped.from.list(
        "SELECT DISTINCT jsonb_build_object('schema', n.nspname, 'table', c.relname)
           FROM pg_publication p, LATERAL pg_get_publication_tables(p.pubname) t
           JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE p.pubname = ANY ($1)",
        params![subscription.subpublications.clone()],
    )
}

/// Expressions that fail without a search_path.
pub(super) fn expressions(stopped: &Stopped<'_>) -> Result<Vec<Suspect>> {
    let (_, to) = stopped.sides;
    let evaluated = || briefly(&(stopped.as_owner)()?, |owner| answers(owner, FAILING));
    let failing = briefly(stopped.to, |to| failing(to, stopped.db_owner, evaluated))?;
    let suspects = failing.into_iter().map(|it| {
        suspect(
            SuspectKind::Expression,
            format!("{} needs a search_path, which is empty in apply: {}", it.what, it.why),
            format!(
                "ALTER FUNCTION {} SET search_path = ..., with the schema of what it names, on the {to}",
                it.functions
            ),
        )
    });
    Ok(suspects.collect())
}

/// What of a table ends its worker: pure. `changes` is what is known to come, all of it where nothing is known.
pub(super) fn judge(
    table: &Table,
    changes: Option<&[Change]>,
    (from, to): (Side, Side),
) -> Vec<Suspect> {
    let name = table.name.plain();
    let Some(there) = &table.there else {
        return match table.here {
            Some(_) => vec![suspect(
                SuspectKind::MissingTable,
                format!("table {name} is changed on the {from} and is not on the {to}"),
                format!(
                    "create it on the {to} as it is on the {from}: flare replicate_schema --missing"
                ),
            )],
            None => Vec::new(),
        };
    };
    let Some(here) = &table.here else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let lacks = |column: &&Column| !there.columns.iter().any(|it| it.name == column.name);
    for column in here.columns.iter().filter(lacks) {
        found.push(suspect(
            SuspectKind::MissingColumn,
            format!(
                "column {:?} of {name} is sent and is not on the {to}",
                column.name
            ),
            format!(
                "ALTER TABLE {} ADD COLUMN {} {} on the {to}",
                table.name,
                Ident::new(&column.name),
                column.kind
            ),
        ));
    }
    let unsent =
        |column: &&Column| column.required && !here.columns.iter().any(|it| it.name == column.name);
    for column in there.columns.iter().filter(unsent) {
        found.push(suspect(
            SuspectKind::RequiredColumn,
            format!("column {:?} of {name} is NOT NULL without a default on the {to}, and the {from} has none", column.name),
            format!(
                "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL on the {to}",
                table.name,
                Ident::new(&column.name)
            ),
        ));
    }
    for column in &here.columns {
        let other = there.columns.iter().find(|it| it.name == column.name);
        if let Some(other) = other.filter(|it| it.kind != column.kind) {
            found.push(suspect(
                SuspectKind::ColumnType,
                format!(
                    "column {:?} of {name} is {} on the {from} and {} on the {to}",
                    column.name, column.kind, other.kind
                ),
                None,
            ));
        }
    }
    found.extend(refused(&table.name, there, to));
    if !here.readable {
        found.push(suspect(
            SuspectKind::Privilege,
            format!("the role in the subscription's connection may not read {name} on the {from}, and cannot copy it"),
            "flare grant_replication".to_owned(),
        ));
    }
    let searched = changes.is_none_or(|changes| {
        let mut changes = changes.iter();
        changes.any(|it| it.table == table.name && it.operation != Operation::Insert)
    });
    if searched {
        found.extend(unidentified(&table.name, here, there, to));
    }
    for constraint in &there.constraints {
        let source = here
            .constraints
            .iter()
            .find(|it| it.name == constraint.name);
        let why = match source {
            None => format!("the {from} has none of that name"),
            Some(source) if !source.valid => {
                "it is NOT VALID, and old rows may violate it".to_owned()
            }
            Some(_) => continue,
        };
        found.push(suspect(
            SuspectKind::Constraint,
            format!(
                "constraint {:?} of {name} holds on the {to} ({}): {why}",
                constraint.name, constraint.definition
            ),
            format!(
                "ALTER TABLE {} DROP CONSTRAINT {} on the {to}, until the rows are there",
                table.name,
                Ident::new(&constraint.name)
            ),
        ));
    }
    if !there.triggers.is_empty() {
        found.push(suspect(
            SuspectKind::Trigger,
            format!(
                "triggers of {name} fire on apply, with an empty search_path: {}",
                there.triggers.join(", ")
            ),
            None,
        ));
    }
    found
}

/// What keeps the role that writes from it.
fn refused(name: &TableName, there: &Taken, to: Side) -> Vec<Suspect> {
    let (plain, writer) = (name.plain(), Ident::new(&there.writer));
    let mut found = Vec::new();
    if there.secured {
        found.push(suspect(
            SuspectKind::RowSecurity,
            format!("row security of {plain} holds for {:?}, as whom rows are applied on the {to}", there.writer),
            format!("ALTER ROLE {writer} BYPASSRLS on the {to}; or run_as_owner = true of the subscription (16 and later)"),
        ));
    }
    if !there.may_act {
        found.push(suspect(
            SuspectKind::Privilege,
            format!(
                "the subscription's owner may not act for {:?}, whose {plain} is on the {to}",
                there.owner
            ),
            format!(
                "GRANT {} TO the subscription's owner WITH SET TRUE on the {to}",
                Ident::new(&there.owner)
            ),
        ));
    } else if !there.may_write {
        found.push(suspect(
            SuspectKind::Privilege,
            format!(
                "{:?}, as whom rows are applied on the {to}, may not write to {plain}",
                there.writer
            ),
            format!("GRANT ALL ON {name} TO {writer} on the {to}, with USAGE on its schema"),
        ));
    }
    found
}

/// UPDATE and DELETE whose row cannot be searched for.
fn unidentified(name: &TableName, here: &Sent, there: &Taken, to: Side) -> Option<Suspect> {
    let plain = name.plain();
    let searched_whole = here.full && there.key.is_empty();
    if let (true, Some(column)) = (searched_whole, here.incomparable.first()) {
        return Some(suspect(
            SuspectKind::Identity,
            format!(
                "an UPDATE or DELETE of {plain} is searched for by the whole row, and column {column:?} cannot be compared (could not identify an equality operator)"
            ),
            format!("ALTER TABLE {name} ADD PRIMARY KEY (...) on both sides"),
        ));
    }
    let unsent = there.key.iter().find(|it| !here.identity.contains(it));
    if let (false, Some(column)) = (here.full, unsent) {
        return Some(suspect(
            SuspectKind::Identity,
            format!(
                "an UPDATE or DELETE of {plain} is searched for on the {to} by column {column:?}, which is not sent (publisher did not send replica identity column)"
            ),
            format!("the same REPLICA IDENTITY for {name} on both sides"),
        ));
    }
    let nothing = !here.full && (here.identity.is_empty() || there.key.is_empty());
    nothing.then(|| {
        suspect(
            SuspectKind::Identity,
            format!("{plain} has no key on the {to}, and the row of an UPDATE or DELETE is not sent whole"),
            format!("ALTER TABLE {name} ADD PRIMARY KEY (...) on the {to}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> Column {
        Column {
            name: name.into(),
            kind: "integer".into(),
            required: false,
        }
    }

    fn table() -> Table {
        Table {
            name: "app.t".parse().unwrap(),
            here: Some(Sent {
                columns: vec![column("id"), column("w")],
                identity: vec!["id".into()],
                readable: true,
                ..Sent::default()
            }),
            there: Some(Taken {
                columns: vec![column("id"), column("w")],
                key: vec!["id".into()],
                may_write: true,
                may_act: true,
                ..Taken::default()
            }),
        }
    }

    fn kinds(change: impl FnOnce(&mut Sent, &mut Taken)) -> Vec<SuspectKind> {
        let mut table = table();
        let (Some(here), Some(there)) = (&mut table.here, &mut table.there) else {
            panic!("the table is on both sides");
        };
        change(here, there);
        let found = judge(&table, None, (Side::Publisher, Side::Subscriber));
        found.iter().map(|it| it.suspect).collect()
    }

    #[test]
    fn a_table_that_is_alike_on_both_sides_is_no_suspect() {
        assert!(kinds(|_, _| ()).is_empty());
    }

    #[test]
    fn each_difference_that_ends_a_worker_has_its_kind() {
        use SuspectKind::{
            ColumnType, Identity, MissingColumn, MissingTable, Privilege, RequiredColumn,
            RowSecurity, Trigger,
        };
        assert_eq!(kinds(|_, there| drop(there.columns.pop())), [MissingColumn]);
        assert_eq!(
            kinds(|_, there| there.columns.push(Column {
                required: true,
                ..column("x")
            })),
            [RequiredColumn]
        );
        assert_eq!(
            kinds(|_, there| there.columns[1].kind = "text".into()),
            [ColumnType]
        );
        assert_eq!(kinds(|_, there| there.secured = true), [RowSecurity]);
        assert_eq!(kinds(|_, there| there.may_write = false), [Privilege]);
        assert_eq!(kinds(|here, _| here.readable = false), [Privilege]);
        assert_eq!(kinds(|_, there| there.key = vec!["w".into()]), [Identity]);
        assert_eq!(
            kinds(|here, there| {
                there.key.clear();
                here.full = true;
                here.incomparable = vec!["w".into()];
            }),
            [Identity]
        );
        let constraint = |valid| Constraint {
            name: "k".into(),
            definition: "CHECK (true)".into(),
            valid,
        };
        assert_eq!(
            kinds(|_, there| there.constraints.push(constraint(true))),
            [SuspectKind::Constraint]
        );
        assert_eq!(
            kinds(|here, there| {
                here.constraints.push(constraint(false));
                there.constraints.push(constraint(false));
            }),
            [SuspectKind::Constraint]
        );
        assert!(
            kinds(|here, there| {
                here.constraints.push(constraint(true));
                there.constraints.push(constraint(true));
            })
            .is_empty()
        );
        assert_eq!(
            kinds(|_, there| there.triggers.push("x (f)".into())),
            [Trigger]
        );
        let missing = Table {
            there: None,
            ..table()
        };
        let found = judge(&missing, None, (Side::Publisher, Side::Subscriber));
        assert_eq!(found[0].suspect, MissingTable);
    }

    #[test]
    fn only_inserts_search_for_no_row() {
        let mut table = table();
        if let Some(there) = &mut table.there {
            there.key.clear();
        }
        let sides = (Side::Publisher, Side::Subscriber);
        assert_eq!(judge(&table, Some(&[]), sides), []);
        assert_eq!(judge(&table, None, sides).len(), 1);
    }
}
