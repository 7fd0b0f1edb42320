//! Tables and columns that one side has under another name.

use std::collections::BTreeMap;

use super::{Drift, Kind, Pairs, Row, Sides};
use crate::schema::keywords::names_of_10;

/// Takes them out of the pairs, with what belongs to them: they are to be renamed, not made.
pub(super) fn take(pairs: &mut Pairs) -> Vec<Drift> {
    let mut found = tables(pairs);
    found.extend(columns(pairs));
    found.extend(identities(pairs));
    functions(pairs);
    found
}

/// A function whose arguments have other names is the same by its types: it is removed and made again.
fn functions(pairs: &mut Pairs) {
    let away = |name: &String, pairs: &Pairs| {
        let sides = pairs.get(&(Kind::Function, name.clone()))?;
        let row = sides.publisher.as_ref().or(sides.subscriber.as_ref())?;
        row.away.as_deref().map(names_of_10)
    };
    let extra = one_sided(pairs, Kind::Function, EXTRA);
    for new in one_sided(pairs, Kind::Function, LACKING) {
        let wanted = away(&new, pairs);
        let old = extra
            .iter()
            .find(|old| wanted.is_some() && away(old, pairs) == wanted);
        let Some(sides) = old.and_then(|old| pairs.remove(&(Kind::Function, old.clone()))) else {
            continue;
        };
        if let Some(old) = old {
            rename_what_belongs(pairs, old, &new);
        }
        if let Some(both) = pairs.get_mut(&(Kind::Function, new)) {
            both.subscriber = sides.subscriber;
        }
    }
}

/// The owner, the privileges and the comment of what the subscriber has under another name.
fn rename_what_belongs(pairs: &mut Pairs, old: &str, new: &str) {
    let belongs = |sides: &Sides| sides.publisher.is_none() && sides.parent() == Some(old);
    let keys: Vec<(Kind, String)> = pairs
        .iter()
        .filter(|(_, sides)| belongs(sides))
        .map(|(key, _)| key.clone())
        .collect();
    for key in keys {
        let Some(row) = pairs.remove(&key).and_then(|sides| sides.subscriber) else {
            continue;
        };
        let name = row.name.replacen(old, new, 1);
        let parent = Some(new.to_owned());
        let both = pairs.entry((key.0, name.clone())).or_default();
        both.subscriber = Some(Row {
            name,
            parent,
            ..row
        });
    }
}

/// The sequence of an identity column has no statement of its own: it is the column that becomes an identity, or stops, and
/// where both are, the sequence is renamed.
fn identities(pairs: &mut Pairs) -> Vec<Drift> {
    let of_identity = |name: &String, pairs: &Pairs| {
        let sides = pairs.get(&(Kind::Sequence, name.clone()))?;
        let row = sides.publisher.as_ref().or(sides.subscriber.as_ref())?;
        row.make.is_none().then(|| row.parent.clone())?
    };
    let (lacking, extra) = (
        one_sided(pairs, Kind::Sequence, LACKING),
        one_sided(pairs, Kind::Sequence, EXTRA),
    );
    let column = |name: &String| pairs.contains_key(&(Kind::Column, name.clone()));
    let owned = |names: Vec<String>| -> Vec<(String, String)> {
        let owned = names.into_iter().filter_map(|name| {
            let owner = of_identity(&name, pairs)?;
            column(&owner).then_some((owner, name))
        });
        owned.collect()
    };
    let (lacking, extra) = (owned(lacking), owned(extra));
    let found = lacking.iter().filter_map(|(owner, new)| {
        let (_, old) = extra.iter().find(|(other, _)| other == owner)?;
        Some(Drift {
            object: new.clone(),
            kind: Kind::Sequence,
            publisher: Some(new.clone()),
            subscriber: Some(old.clone()),
            statement: Some(format!("ALTER SEQUENCE {old} RENAME TO {}", parts(new).1)),
            missing: false,
            advice: None,
        })
    });
    let found: Vec<Drift> = found.collect();
    for (_, name) in lacking.into_iter().chain(extra) {
        pairs.remove(&(Kind::Sequence, name));
    }
    found
}

fn one_sided(pairs: &Pairs, kind: Kind, side: fn(&Sides) -> bool) -> Vec<String> {
    let of_kind = pairs
        .iter()
        .filter(|((it, _), sides)| *it == kind && side(sides));
    of_kind.map(|((_, name), _)| name.clone()).collect()
}

const LACKING: fn(&Sides) -> bool = |sides| sides.subscriber.is_none();
const EXTRA: fn(&Sides) -> bool = |sides| sides.publisher.is_none();

/// A table and another with the very same columns, when there is but one of each.
fn tables(pairs: &mut Pairs) -> Vec<Drift> {
    let (lacking, extra) = (
        one_sided(pairs, Kind::Table, LACKING),
        one_sided(pairs, Kind::Table, EXTRA),
    );
    if lacking.is_empty() || extra.is_empty() {
        return Vec::new();
    }
    let shapes = shapes(pairs);
    let shape = |table: &String| shapes.get(table).filter(|shape| !shape.is_empty());
    let mut found = Vec::new();
    for new in &lacking {
        let alike: Vec<&String> = extra
            .iter()
            .filter(|old| shape(old).is_some() && shape(old) == shape(new))
            .collect();
        let only = lacking
            .iter()
            .filter(|other| shape(other) == shape(new))
            .count()
            == 1;
        let (&[old], true) = (alike.as_slice(), only) else {
            continue;
        };
        let statement = moved(old, new);
        let belongs = |sides: &Sides, table: &str| {
            let parent = sides.parent().unwrap_or_default();
            parent == table
                || parent
                    .strip_prefix(table)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        pairs.retain(|(kind, name), sides| {
            let of_table = matches!(kind, Kind::Cluster | Kind::ReplicaIdentity);
            let itself = (kind.is_an_object() || of_table) && (name == old || name == new);
            !itself && !belongs(sides, old) && !belongs(sides, new)
        });
        found.push(Drift {
            object: new.clone(),
            kind: Kind::Table,
            publisher: Some(new.clone()),
            subscriber: Some(old.clone()),
            statement: Some(statement),
            missing: false,
            advice: None,
        });
    }
    found
}

/// Of each table, its columns with their types.
fn shapes(pairs: &Pairs) -> BTreeMap<String, Vec<(String, String)>> {
    let mut shapes: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for ((kind, name), sides) in pairs {
        let row = sides.publisher.as_ref().or(sides.subscriber.as_ref());
        let (Kind::Column, Some(table), Some(row)) = (kind, sides.parent(), row) else {
            continue;
        };
        let column = name.strip_prefix(table).unwrap_or(name).to_owned();
        shapes
            .entry(table.to_owned())
            .or_default()
            .push((column, row.body.clone()));
    }
    shapes
}

fn moved(old: &str, new: &str) -> String {
    let ((old_schema, old_table), (new_schema, new_table)) = (parts(old), parts(new));
    let mut statements = Vec::new();
    let mut at = old.to_owned();
    if old_schema != new_schema {
        statements.push(format!("ALTER TABLE {at} SET SCHEMA {new_schema}"));
        at = format!("{new_schema}.{old_table}");
    }
    if old_table != new_table {
        statements.push(format!("ALTER TABLE {at} RENAME TO {new_table}"));
    }
    statements.join("; ")
}

/// The parts of a qualified name, as they are quoted.
fn parts(name: &str) -> (&str, &str) {
    let mut quoted = false;
    let dot = name.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == '.' && !quoted
    });
    match dot {
        Some((at, _)) => (&name[..at], &name[at + 1..]),
        None => ("", name),
    }
}

/// A column and another of the same type in the same table, when there is but one of each.
fn columns(pairs: &mut Pairs) -> Vec<Drift> {
    let (lacking, extra) = (
        one_sided(pairs, Kind::Column, LACKING),
        one_sided(pairs, Kind::Column, EXTRA),
    );
    let parent = |name: &String| {
        let sides = pairs.get(&(Kind::Column, name.clone()))?;
        sides.parent().map(str::to_owned)
    };
    let body = |name: &String| {
        let sides = pairs.get(&(Kind::Column, name.clone()))?;
        let row = sides.publisher.as_ref().or(sides.subscriber.as_ref())?;
        Some(row.body.clone())
    };
    let mut found = Vec::new();
    let mut taken = Vec::new();
    for new in &lacking {
        let table = parent(new);
        let here = |names: &[String]| names.iter().filter(|it| parent(it) == table).count();
        if here(&lacking) != 1 || here(&extra) != 1 {
            continue;
        }
        let old = extra.iter().find(|it| parent(it) == table);
        let (Some(old), Some(table)) = (old.filter(|old| body(old) == body(new)), table) else {
            continue;
        };
        let column = |name: &str| name[table.len() + 1..].to_owned();
        found.push(Drift {
            object: new.clone(),
            kind: Kind::Column,
            publisher: Some(column(new)),
            subscriber: Some(column(old)),
            statement: Some(format!(
                "ALTER TABLE {table} RENAME COLUMN {} TO {}",
                column(old),
                column(new)
            )),
            missing: false,
            advice: None,
        });
        taken.extend([old.clone(), new.clone()]);
    }
    pairs.retain(|(_, name), sides| {
        let parent = sides.parent().unwrap_or_default();
        !taken.iter().any(|it| it == name || it == parent)
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_moves_in_the_order_that_works() {
        assert_eq!(moved("a.t", "a.u"), "ALTER TABLE a.t RENAME TO u");
        assert_eq!(
            moved("a.\"t.x\"", "b.u"),
            "ALTER TABLE a.\"t.x\" SET SCHEMA b; ALTER TABLE b.\"t.x\" RENAME TO u"
        );
    }
}
