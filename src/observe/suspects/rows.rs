//! Rows that collide: one that is sent with one that is there already.

use std::collections::{BTreeMap, BTreeSet};

use super::pending::{Change, Operation, Pending};
use super::tables::{Column, Key, Table, Unique};
use super::{Stopped, Suspect, SuspectKind, briefly, suspect};
use crate::error::Result;
use crate::server::params;
use crate::value::{Ident, Literal, TableName};

/// What closes the subscriber's database stands in the way of others than the subscription.
const PAST_THE_FENCE: &str = "SET session_replication_role = replica; ";
/// So many keys of a transaction are looked for.
const ROWS: usize = 500;
/// So many rows are left out of a search.
const TOUCHED: usize = 100;
/// Planning a union takes the square of its members.
const AT_ONCE: usize = 100;

/// A key that comes new into a unique index, or what an exclusion constraint compares.
#[derive(Debug, PartialEq, Eq)]
struct Coming<'p> {
    table: &'p Table,
    unique: &'p Unique,
    values: Vec<&'p str>,
    /// Rows that the transaction changes or deletes before: what stands in them is no obstacle.
    but: Vec<Row<'p>>,
}

/// What identifies a row: columns, of what type they are, and their values.
type Row<'p> = Vec<(&'p Column, &'p str)>;

/// The first row of the transaction whose key is there already.
pub(super) fn collision(
    stopped: &Stopped<'_>,
    pending: &Pending,
    tables: &[Table],
) -> Result<Option<Suspect>> {
    let coming = coming(&pending.changes, tables);
    let mut first = None;
    for some in coming.chunks(AT_ONCE) {
        let looks: Vec<String> = some
            .iter()
            .enumerate()
            .map(|(at, it)| {
                format!(
                    "SELECT {at} AS at WHERE {}EXISTS (SELECT FROM {} WHERE {})",
                    it.is_held(),
                    it.table.rows(),
                    it.condition()
                )
            })
            .collect();
        let sql = format!(
            "SELECT min(at)::int FROM ({}) found",
            looks.join(" UNION ALL ")
        );
        let found: Option<i32> = briefly(stopped.to, |to| to.value(&sql, params![]))?;
        first = found.and_then(|at| some.get(usize::try_from(at).ok()?));
        if first.is_some() {
            break;
        }
    }
    let (_, to) = stopped.sides;
    Ok(first.map(|it| {
        let (table, condition) = (it.table.name.plain(), it.condition());
        let row = in_words(&it.unique.columns, &it.values);
        let index = &it.unique.index;
        let message = match &it.unique.excludes {
            None => format!(
                "a row that is sent is in {table} of the {to} already: {row} (unique index {index})"
            ),
            Some(definition) => format!(
                "a row that is sent conflicts with one in {table} of the {to}: {row} (constraint {index}: {definition})"
            ),
        };
        suspect(
            SuspectKind::KeyCollision,
            message,
            format!(
                "{PAST_THE_FENCE}DELETE FROM {} WHERE {condition} on the {to}, if nobody needs that row",
                it.table.rows()
            ),
        )
    }))
}

impl Coming<'_> {
    /// Whether the predicate of a partial index holds for the row; nothing where there is none.
    fn is_held(&self) -> String {
        let predicate = self.unique.predicate.as_ref();
        predicate.map_or_else(String::new, |it| format!("{} AND ", self.of_row(it)))
    }

    /// What a row that stands in the way satisfies.
    fn condition(&self) -> String {
        let elements = self.unique.elements.iter().map(|it| {
            let operator = it.operator.as_deref().unwrap_or("=");
            let column = self.unique.columns.iter().zip(&self.values);
            let column = column
                .filter(|_| it.plain)
                .find(|(column, _)| Ident::new(&column.name).to_string() == quoted(&it.text));
            let (one, other) = match column {
                Some((column, value)) => (
                    Ident::new(&column.name).to_string(),
                    format!("{}::{}", Literal(value), column.kind),
                ),
                None => (it.text.clone(), self.of_row(&it.text)),
            };
            format!("{one} {operator} {other}")
        });
        let predicate = self.unique.predicate.iter().cloned();
        let but = self.but.iter().map(|row| {
            let row: Vec<String> = row
                .iter()
                .map(|(column, value)| {
                    format!(
                        "{} = {}::{}",
                        Ident::new(&column.name),
                        Literal(value),
                        column.kind
                    )
                })
                .collect();
            format!("NOT ({})", row.join(" AND "))
        });
        let terms: Vec<String> = elements.chain(predicate).chain(but).collect();
        terms.join(" AND ")
    }

    /// An expression of the table's columns, for the row that is sent.
    fn of_row(&self, expression: &str) -> String {
        let columns = self.unique.columns.iter().zip(&self.values);
        let columns: Vec<String> = columns
            .map(|(column, value)| {
                let name = Ident::new(&column.name);
                format!("{}::{} AS {name}", Literal(value), column.kind)
            })
            .collect();
        format!(
            "(SELECT {expression} FROM (SELECT {}) sent)",
            columns.join(", ")
        )
    }
}

/// A column as `pg_get_indexdef` prints it, in quotes where it has none.
fn quoted(printed: &str) -> String {
    if printed.starts_with('"') {
        printed.to_owned()
    } else {
        Ident::new(printed).to_string()
    }
}

/// The keys that the changes bring: pure. One that the same transaction frees first does not count.
fn coming<'p>(changes: &'p [Change], tables: &'p [Table]) -> Vec<Coming<'p>> {
    let mut freed: BTreeSet<(&TableName, Vec<(&str, &str)>)> = BTreeSet::new();
    let mut touched: BTreeMap<&TableName, Vec<Row<'p>>> = BTreeMap::new();
    let mut coming = Vec::new();
    for change in changes {
        let table = tables.iter().find(|it| it.name == change.table);
        let Some((table, there)) = table.and_then(|it| Some((it, it.there.as_ref()?))) else {
            continue;
        };
        let identity = table.identity();
        let row = match change.operation {
            Operation::Insert => None,
            _ => identified(change, identity, &there.columns),
        };
        let is_known = row.is_some();
        if let Some(row) = row {
            touched.entry(&change.table).or_default().push(row);
        }
        for unique in &there.uniques {
            let old = key(&change.old, &unique.columns);
            let new = key(&change.new, &unique.columns);
            let named = |values: &[&'p str]| -> Vec<(&'p str, &'p str)> {
                let names = unique.columns.iter().map(|it| it.name.as_str());
                names.zip(values.iter().copied()).collect()
            };
            // Beside the identity nothing is sent of the old row: whether it has changed is not known.
            let comes = match change.operation {
                Operation::Insert => new.clone(),
                Operation::Update if old.is_some() && old != new => new.clone(),
                Operation::Update if old.is_none() && is_known => new.clone(),
                _ => None,
            };
            let rows = touched.get(&change.table).map_or(&[][..], Vec::as_slice);
            let is_identity = unique.columns.iter().all(|it| identity.contains(&it.name));
            let but = if is_identity { &[][..] } else { rows };
            if let Some(values) = comes
                && (change.operation == Operation::Insert || !is_identity || !change.old.is_empty())
                && !freed.contains(&(&change.table, named(&values)))
                && but.len() <= TOUCHED
                && coming.len() < ROWS
            {
                coming.push(Coming {
                    table,
                    unique,
                    values,
                    but: but.to_vec(),
                });
            }
            if let Some(values) = old.filter(|_| change.operation != Operation::Insert) {
                freed.insert((&change.table, named(&values)));
            }
        }
    }
    coming
}

/// What identified the row before the change; where that is not sent it has not changed.
fn identified<'p>(
    change: &'p Change,
    identity: &[String],
    columns: &'p [Column],
) -> Option<Row<'p>> {
    if identity.is_empty() {
        return None;
    }
    let sent = if change.old.is_empty() {
        &change.new
    } else {
        &change.old
    };
    let row = identity.iter().map(|name| {
        let column = columns.iter().find(|it| it.name == *name)?;
        Some((column, sent.get(name)?.as_deref()?))
    });
    row.collect()
}

/// The values of a key; none where one is NULL or was not sent.
fn key<'p>(row: &'p BTreeMap<String, Option<String>>, columns: &[Key]) -> Option<Vec<&'p str>> {
    let values = columns.iter().map(|it| row.get(&it.name)?.as_deref());
    values.collect()
}

/// `id = 7, name = it's`.
fn in_words(columns: &[Key], values: &[&str]) -> String {
    let terms = columns.iter().zip(values);
    let terms = terms.map(|(column, value)| format!("{} = {value}", column.name));
    terms.collect::<Vec<_>>().join(", ")
}

/// Rows that stand in a table whose copy has not ended: it would bring them once more.
pub(super) fn not_empty(stopped: &Stopped<'_>, table: &Table) -> Result<Option<Suspect>> {
    let Some(there) = &table.there else {
        return Ok(None);
    };
    let Some(unique) = there.uniques.iter().find(|it| !it.columns.is_empty()) else {
        return Ok(None);
    };
    let columns: Vec<String> = unique
        .columns
        .iter()
        .map(|it| format!("{}::text", Ident::new(&it.name)))
        .collect();
    // One statement sees rows and state as of one moment: what the copy itself has brought meanwhile is no obstacle, and up
    // to 13 its worker makes rows visible before the state.
    let sql = format!(
        "SELECT to_jsonb(ARRAY[{}]) FROM {} WHERE EXISTS (
             SELECT FROM pg_subscription_rel r WHERE r.srrelid = $2::text::regclass AND r.srsubstate IN ('i', 'd')
                AND r.srsubid IN (SELECT subid FROM pg_stat_subscription WHERE subname = $1)
                AND NOT EXISTS (SELECT FROM pg_stat_subscription w WHERE w.subid = r.srsubid AND w.relid = r.srrelid AND w.pid IS NOT NULL)) LIMIT 1",
        columns.join(", "),
        table.rows()
    );
    let name = table.name.to_string();
    let row: Option<Vec<Option<String>>> = briefly(stopped.to, |to| {
        to.first(&sql, params![stopped.subname, name])
    })?;
    let (_, to) = stopped.sides;
    Ok(row.map(|values| {
        let values: Vec<&str> = values.iter().map(|it| it.as_deref().unwrap_or("")).collect();
        suspect(
            SuspectKind::NotEmpty,
            format!(
                "{} is not copied yet and has rows on the {to} already, one with {}: the copy collides with them",
                table.name.plain(),
                in_words(&unique.columns, &values)
            ),
            format!("{PAST_THE_FENCE}TRUNCATE {} on the {to}, if nobody needs those rows", table.rows()),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tables::Element;
    use super::*;

    fn column(name: &str, kind: &str) -> Key {
        Key {
            name: name.into(),
            kind: kind.into(),
        }
    }

    fn element(plain: bool, text: &str, operator: Option<&str>) -> Element {
        Element {
            plain,
            text: text.into(),
            operator: operator.map(str::to_owned),
        }
    }

    fn condition(unique: &Unique, values: &[&str]) -> String {
        let table = Table::unknown("t".parse().unwrap());
        let [id, n] = ["id", "n"].map(|name| Column {
            name: name.into(),
            kind: "text".into(),
            not_null: false,
            required: false,
        });
        let coming = Coming {
            table: &table,
            unique,
            values: values.to_vec(),
            but: vec![vec![(&id, "7"), (&n, "o'o")]],
        };
        format!("{}{}", coming.is_held(), coming.condition())
    }

    #[test]
    fn a_key_is_looked_for_with_its_type() {
        let unique = Unique {
            columns: vec![column("i\"d", "integer"), column("w", "text")],
            elements: vec![element(true, "\"i\"\"d\"", None), element(true, "w", None)],
            ..Unique::default()
        };
        assert_eq!(
            condition(&unique, &["1", "a'b"]),
            r#""i""d" = '1'::integer AND "w" = 'a''b'::text AND NOT ("id" = '7'::text AND "n" = 'o''o'::text)"#
        );
    }

    #[test]
    fn what_an_exclusion_constraint_compares_has_its_operators_and_a_partial_index_its_predicate() {
        let unique = Unique {
            columns: vec![
                column("room", "integer"),
                column("a", "date"),
                column("b", "date"),
            ],
            elements: vec![
                element(true, "room", Some("OPERATOR(pg_catalog.=)")),
                element(false, "daterange(a, b)", Some("OPERATOR(pg_catalog.&&)")),
            ],
            predicate: Some("(room > 0)".into()),
            ..Unique::default()
        };
        let sent =
            "FROM (SELECT '1'::integer AS \"room\", '2'::date AS \"a\", '3'::date AS \"b\") sent)";
        assert_eq!(
            condition(&unique, &["1", "2", "3"]),
            format!(
                "(SELECT (room > 0) {sent} AND \"room\" OPERATOR(pg_catalog.=) '1'::integer AND daterange(a, b) OPERATOR(pg_catalog.&&) (SELECT daterange(a, b) {sent} AND (room > 0) AND NOT (\"id\" = '7'::text AND \"n\" = 'o''o'::text)"
            )
        );
    }

    #[test]
    fn a_null_is_no_key() {
        let row = BTreeMap::from([
            ("a".to_owned(), None),
            ("b".to_owned(), Some("1".to_owned())),
        ]);
        let key = |names: &[&str]| {
            let columns: Vec<Key> = names.iter().map(|it| column(it, "integer")).collect();
            key(&row, &columns)
        };
        assert_eq!(key(&["b"]), Some(vec!["1"]));
        assert_eq!(key(&["a", "b"]), None);
        assert_eq!(key(&["c"]), None);
    }
}
