//! Rows that collide: one that is sent with one that is there already.

use std::collections::{BTreeMap, BTreeSet};

use super::pending::{Change, Operation, Pending};
use super::tables::{Key, Table, Unique};
use super::{Stopped, Suspect, SuspectKind, briefly, suspect};
use crate::error::Result;
use crate::server::params;
use crate::value::{Ident, Literal, TableName};

/// What closes the subscriber's database stands in the way of others than the subscription.
const PAST_THE_FENCE: &str = "SET session_replication_role = replica; ";
/// So many keys of a transaction are looked for.
const ROWS: usize = 500;
/// Planning a union takes the square of its members.
const AT_ONCE: usize = 100;

/// A key that comes new into a unique index.
struct Coming<'p> {
    table: &'p TableName,
    unique: &'p Unique,
    values: Vec<&'p str>,
}

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
                    "SELECT {at} AS at WHERE EXISTS (SELECT FROM {} WHERE {})",
                    it.table,
                    condition(&it.unique.columns, &it.values)
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
        let condition = condition(&it.unique.columns, &it.values);
        suspect(
            SuspectKind::KeyCollision,
            format!(
                "a row that is sent is in {} of the {to} already: {} (unique index {})",
                it.table.plain(),
                in_words(&it.unique.columns, &it.values),
                it.unique.index
            ),
            format!(
                "{PAST_THE_FENCE}DELETE FROM {} WHERE {condition} on the {to}, if nobody needs that row",
                it.table
            ),
        )
    }))
}

/// The keys that the changes bring: pure. One that the same transaction frees first does not count.
fn coming<'p>(changes: &'p [Change], tables: &'p [Table]) -> Vec<Coming<'p>> {
    let mut freed: BTreeSet<(&TableName, Vec<(&str, &str)>)> = BTreeSet::new();
    let mut coming = Vec::new();
    for change in changes {
        let table = tables.iter().find(|it| it.name == change.table);
        let Some(there) = table.and_then(|it| it.there.as_ref()) else {
            continue;
        };
        for unique in &there.uniques {
            let old = key(&change.old, &unique.columns);
            let new = key(&change.new, &unique.columns);
            let named = |values: &[&'p str]| -> Vec<(&'p str, &'p str)> {
                let names = unique.columns.iter().map(|it| it.name.as_str());
                names.zip(values.iter().copied()).collect()
            };
            // What an update does not send of the old row has not changed.
            let comes = match change.operation {
                Operation::Insert => new.clone(),
                Operation::Update if !change.old.is_empty() => new.clone().filter(|_| old != new),
                _ => None,
            };
            if let Some(values) = comes
                && !freed.contains(&(&change.table, named(&values)))
                && coming.len() < ROWS
            {
                coming.push(Coming {
                    table: &change.table,
                    unique,
                    values,
                });
            }
            if let Some(values) = old.filter(|_| change.operation != Operation::Insert) {
                freed.insert((&change.table, named(&values)));
            }
        }
    }
    coming
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

fn condition(columns: &[Key], values: &[&str]) -> String {
    let terms = columns.iter().zip(values).map(|(column, value)| {
        format!(
            "{} = {}::{}",
            Ident::new(&column.name),
            Literal(value),
            column.kind
        )
    });
    terms.collect::<Vec<_>>().join(" AND ")
}

/// Rows that stand in a table whose copy has not ended: it would bring them once more.
pub(super) fn not_empty(stopped: &Stopped<'_>, table: &Table) -> Result<Option<Suspect>> {
    let Some(there) = &table.there else {
        return Ok(None);
    };
    let Some(unique) = there.uniques.first() else {
        return Ok(None);
    };
    let columns: Vec<String> = unique
        .columns
        .iter()
        .map(|it| format!("{}::text", Ident::new(&it.name)))
        .collect();
    let sql = format!(
        "SELECT to_jsonb(ARRAY[{}]) FROM {} LIMIT 1",
        columns.join(", "),
        table.name
    );
    let row: Option<Vec<Option<String>>> = briefly(stopped.to, |to| to.first(&sql, params![]))?;
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
            format!("{PAST_THE_FENCE}TRUNCATE {} on the {to}, if nobody needs those rows", table.name),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_looked_for_with_its_type() {
        let key = |name: &str, kind: &str| Key {
            name: name.into(),
            kind: kind.into(),
        };
        assert_eq!(
            condition(&[key("i\"d", "integer"), key("w", "text")], &["1", "a'b"]),
            r#""i""d" = '1'::integer AND "w" = 'a''b'::text"#
        );
    }

    #[test]
    fn a_null_is_no_key() {
        let row = BTreeMap::from([
            ("a".to_owned(), None),
            ("b".to_owned(), Some("1".to_owned())),
        ]);
        let column = |name: &str| Key {
            name: name.into(),
            kind: "integer".into(),
        };
        assert_eq!(key(&row, &[column("b")]), Some(vec!["1"]));
        assert_eq!(key(&row, &[column("a"), column("b")]), None);
        assert_eq!(key(&row, &[column("c")]), None);
    }
}
