//! What a table has from its parent alone is no row of the catalogs' own: where one side has attached a partition and the
//! other has not, or has detached it, the rows of one side are held against the parent's of the other. Attaching makes the
//! difference go, and what is to be dropped or added for it is nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::query::Row;
use super::same::same;
use super::{Kind, Pairs, Sides};

type Side = fn(&Sides) -> Option<&Row>;
type SideMut = fn(&mut Sides) -> &mut Option<Row>;

const PUBLISHER: (Side, SideMut) = (|it| it.publisher.as_ref(), |it| &mut it.publisher);
const SUBSCRIBER: (Side, SideMut) = (|it| it.subscriber.as_ref(), |it| &mut it.subscriber);

/// Gives the side that has the parent what its child has from there, where the other has it as the child's own.
pub(super) fn fill(pairs: &mut Pairs) {
    for (at, (side, side_mut)) in [PUBLISHER, SUBSCRIBER].into_iter().enumerate() {
        let parents = parents(pairs, side);
        let attached = attached(pairs, side);
        for child in attached.union(&merged(pairs, side, &parents)) {
            let ancestors = ancestors(&parents, child);
            let is_attached = attached.contains(child);
            if at == 0 && is_attached {
                add_checks(pairs, child, &ancestors);
                add_columns(pairs, child, &ancestors);
            }
            let found: Vec<((Kind, String), Row)> = pairs
                .iter()
                .filter(|(_, sides)| sides.parent() == Some(child) && side(sides).is_none())
                .filter(|(key, _)| is_attached || is_merged(pairs, side, key, child, &ancestors))
                .filter_map(|(key, sides)| {
                    let own = sides.publisher.as_ref().or(sides.subscriber.as_ref())?;
                    let row = ancestors
                        .iter()
                        .find_map(|it| inherited(pairs, side, key, own, it))?;
                    Some((key.clone(), row))
                })
                .collect();
            for (key, row) in found {
                *side_mut(pairs.entry(key).or_default()) = Some(row);
            }
        }
    }
}

/// A table that the subscriber has, and has not attached, needs the CHECKs of its parents before: on the publisher they are
/// no rows of its own any more.
fn add_checks(pairs: &mut Pairs, child: &str, ancestors: &[String]) {
    let there = pairs.get(&(Kind::Table, child.to_owned()));
    if there.is_none_or(|sides| sides.subscriber.is_none()) {
        return;
    }
    let checks: Vec<Row> = pairs
        .iter()
        .filter(|((kind, _), _)| *kind == Kind::Constraint)
        .filter_map(|((_, name), sides)| {
            let row = sides.publisher.as_ref()?;
            let parent = row.parent.as_ref().filter(|it| ancestors.contains(it))?;
            let is_inherited = row.body.starts_with("CHECK ") && !row.body.ends_with(" NO INHERIT");
            let name = name.strip_suffix(parent).filter(|_| is_inherited)?;
            let of_child = |statement: &Option<String>| {
                let rest = statement.as_ref()?.split_once(" CONSTRAINT ")?.1.to_owned();
                Some(format!("ALTER TABLE {child} ADD CONSTRAINT {rest}"))
            };
            Some(Row {
                name: format!("{name}{child}"),
                parent: Some(child.to_owned()),
                make: of_child(&row.make),
                away: None,
                ..row.clone()
            })
        })
        .collect();
    for row in checks {
        let both = pairs
            .entry((Kind::Constraint, row.name.clone()))
            .or_default();
        if both.publisher.is_none() && both.subscriber.is_none() {
            both.publisher = Some(row);
        }
    }
}

/// Attaching makes no column: one that the parent has, and the subscriber's table lacks, is added before.
fn add_columns(pairs: &mut Pairs, child: &str, ancestors: &[String]) {
    let there = pairs.get(&(Kind::Table, child.to_owned()));
    if there.is_none_or(|sides| sides.subscriber.is_none()) {
        return;
    }
    let of_others: BTreeSet<String> = {
        let parents = parents(pairs, SUBSCRIBER.0);
        self::ancestors(&parents, child).into_iter().collect()
    };
    let added: Vec<Row> = pairs
        .iter()
        .filter(|((kind, _), _)| *kind == Kind::Column)
        .filter_map(|((_, name), sides)| {
            let row = sides.publisher.as_ref()?;
            let parent = row.parent.as_ref().filter(|it| ancestors.contains(it))?;
            let column = name.strip_prefix(parent.as_str())?;
            let has = |table: &String| {
                let of_table = pairs.get(&(Kind::Column, format!("{table}{column}")));
                of_table.is_some_and(|it| it.subscriber.is_some())
            };
            if of_others.iter().any(has) {
                return None;
            }
            let make = row.make.as_ref()?;
            let rest = make.strip_prefix(&format!("ALTER TABLE {parent} "))?;
            Some(Row {
                name: format!("{child}{column}"),
                parent: Some(child.to_owned()),
                body: without_identity(&row.body),
                make: Some(format!("ALTER TABLE {child} {}", without_identity(rest))),
                mend: None,
                away: None,
                fixed: row.fixed.clone().filter(|it| !it.ends_with(" AS IDENTITY")),
            })
        })
        .collect();
    for row in added {
        let both = pairs.entry((Kind::Column, row.name.clone())).or_default();
        if both.publisher.is_none() && both.subscriber.is_none() {
            both.publisher = Some(row);
        }
    }
}

/// A child's column is no identity where its parent's is; a partition's becomes one by being attached, from 17 on.
fn without_identity(column: &str) -> String {
    let words = ["ALWAYS", "BY DEFAULT"].map(|it| format!(" GENERATED {it} AS IDENTITY"));
    let Some(at) = words.iter().find_map(|it| column.find(it)) else {
        return column.to_owned();
    };
    let not_null = if column.ends_with(" NOT NULL") {
        " NOT NULL"
    } else {
        ""
    };
    format!("{}{not_null}", &column[..at])
}

/// Tables that have a parent on this side alone.
fn attached(pairs: &Pairs, side: Side) -> BTreeSet<String> {
    let one_sided = |sides: &Sides| {
        side(sides).is_some() && (sides.publisher.is_none() || sides.subscriber.is_none())
    };
    pairs
        .iter()
        .filter(|((kind, _), sides)| *kind == Kind::Inheritance && one_sided(sides))
        .filter_map(|(_, sides)| sides.parent().map(str::to_owned))
        .collect()
}

/// Tables that have parents on this side and of which the other has something that this one has not: what both a table
/// and its parent were given is one, and the table's own where it was given it itself.
fn merged(pairs: &Pairs, side: Side, parents: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    pairs
        .iter()
        .filter(|((kind, _), _)| matches!(kind, Kind::Column | Kind::Constraint))
        .filter(|(_, sides)| side(sides).is_none())
        .filter_map(|(_, sides)| sides.parent())
        .filter(|child| parents.contains_key(*child))
        .map(str::to_owned)
        .collect()
}

/// Whether an ancestor has a column or a constraint of this name.
fn is_merged(
    pairs: &Pairs,
    side: Side,
    (kind, name): &(Kind, String),
    child: &str,
    ancestors: &[String],
) -> bool {
    let of_ancestor = |ancestor: &String| match kind {
        Kind::Column => name.strip_prefix(child).map(|it| format!("{ancestor}{it}")),
        Kind::Constraint => name.strip_suffix(child).map(|it| format!("{it}{ancestor}")),
        _ => None,
    };
    let mut names = ancestors.iter().filter_map(of_ancestor);
    names.any(|name| {
        let found = pairs.get(&(*kind, name));
        found.is_some_and(|sides| side(sides).is_some())
    })
}

/// The parents of each table of this side.
fn parents(pairs: &Pairs, side: Side) -> BTreeMap<String, Vec<String>> {
    let mut parents: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((kind, name), sides) in pairs {
        let child = side(sides).and_then(|row| row.parent.as_deref());
        let (Kind::Inheritance, Some(child)) = (kind, child) else {
            continue;
        };
        let parent = name
            .strip_prefix(child)
            .and_then(|rest| rest.strip_prefix(" from "));
        if let Some(parent) = parent {
            let of = parents.entry(child.to_owned()).or_default();
            of.push(parent.to_owned());
        }
    }
    parents
}

/// The nearest first.
fn ancestors(parents: &BTreeMap<String, Vec<String>>, child: &str) -> Vec<String> {
    let mut found: Vec<String> = parents.get(child).cloned().unwrap_or_default();
    let mut at = 0;
    while let Some(next) = found.get(at) {
        let more = parents.get(next).cloned().unwrap_or_default();
        for parent in more {
            if !found.contains(&parent) {
                found.push(parent);
            }
        }
        at += 1;
    }
    found
}

/// What stands for a child's row on the side where its ancestor has it.
fn inherited(
    pairs: &Pairs,
    side: Side,
    (kind, name): &(Kind, String),
    own: &Row,
    ancestor: &str,
) -> Option<Row> {
    let child = own.parent.as_deref()?;
    let of_ancestor =
        |it: &&Sides| side(it).is_some_and(|row| row.parent.as_deref() == Some(ancestor));
    let mut rows = pairs
        .iter()
        .filter(|((it, _), sides)| it == kind && of_ancestor(sides))
        .filter_map(|((_, name), sides)| Some((name, side(sides)?)));
    match kind {
        Kind::Column => {
            let column = name.strip_prefix(child)?;
            let (_, row) = rows.find(|(name, _)| name.strip_prefix(ancestor) == Some(column))?;
            // Attaching itself refuses what it cannot make equal: identities and generated columns.
            let Some(mend) = &row.mend else {
                return Some(own.clone());
            };
            let rest = mend.strip_prefix(&format!("ALTER TABLE {ancestor} "))?;
            let is_identity = without_identity(&own.body) != own.body;
            let body = if is_identity {
                row.body.clone()
            } else {
                without_identity(&row.body)
            };
            Some(Row {
                body,
                make: None,
                mend: Some(format!("ALTER TABLE {child} {rest}")),
                away: None,
                ..own.clone()
            })
        }
        Kind::Constraint => rows
            .any(|(_, row)| same(Kind::Constraint, &row.body, &own.body))
            .then(|| own.clone()),
        Kind::Index => {
            let shape = shape(&own.body, child)?;
            let alike = |row: &Row| {
                self::shape(&row.body, ancestor).is_some_and(|(unique, rest)| {
                    unique == shape.0 && same(Kind::Index, rest, shape.1)
                })
            };
            rows.any(|(_, row)| alike(row)).then(|| own.clone())
        }
        _ => None,
    }
}

/// Whether an index is unique, and what follows the name of its table.
fn shape<'b>(body: &'b str, table: &str) -> Option<(bool, &'b str)> {
    let unique = body.starts_with("CREATE UNIQUE INDEX ");
    let after = |prefix: &str| {
        let of_table = format!("{prefix}{table} USING ");
        body.find(&of_table).map(|at| &body[at + of_table.len()..])
    };
    let rest = after(" ON ONLY ").or_else(|| after(" ON "))?;
    Some((unique, rest))
}
