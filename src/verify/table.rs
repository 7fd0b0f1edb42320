//! The tables of a subscription as both sides have them: columns, keys, sizes, and whether they can be compared.

mod found;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use self::found::{Column, Found, KeyIndex, read};
use super::canonical::{FloatText, Form, Types, form, is_exact, is_spelled_alike};
use super::ranges::CHUNK;
use crate::error::Result;
use crate::server::Session;
use crate::value::{Ident, TableName};

/// A table on both sides, ready to be compared.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) publisher: Half,
    pub(super) subscriber: Half,
    /// What names a row on both sides, in the order of the index.
    pub(super) key: Option<Key>,
    /// Compared, by name, in the publisher's order.
    pub(super) columns: Vec<Compared>,
    /// On the publisher.
    pub(super) bytes: i64,
    pub(super) reltuples: f64,
    /// Of the key's first column on the publisher.
    pub(super) correlation: Option<f64>,
    /// Rows of a chunk: fewer where the keys are large.
    pub(super) chunk: usize,
    /// The publisher's file of it, where a TRUNCATE is not replicated: before 11, and where the publication leaves it out.
    pub(super) file: Option<String>,
    /// What is not compared, and why.
    pub(super) notes: Vec<String>,
}

/// What a signature ends with where the publisher's file counts.
const FILE: &str = " | file ";

/// Whether two signatures are of the same columns and key, and only of another file.
pub(super) fn is_of_another_file(one: &str, other: &str) -> bool {
    let parts = |it: &'_ str| it.rsplit_once(FILE).map(|(rest, _)| rest.to_owned());
    one != other && parts(one).is_some() && parts(one) == parts(other)
}

impl Table {
    /// What has to be the same for what was found earlier to be of this table still: its key, its columns, their types.
    pub(super) fn signature(&self) -> String {
        let key = self.key.iter().flat_map(|key| &key.columns);
        let key: Vec<String> = key.map(ToString::to_string).collect();
        let types = self.columns.iter().map(|it| it.declared.as_str());
        let types: Vec<&str> = types.collect();
        let file = self.file.as_ref().map(|it| format!("{FILE}{it}"));
        format!(
            "{} | {} | {} | {}{}",
            key.join(", "),
            types.join(", "),
            self.publisher.row,
            self.subscriber.row,
            file.unwrap_or_default()
        )
    }
}

/// What differs between the sides.
#[derive(Clone, Debug)]
pub(super) struct Half {
    /// The table for a FROM, named `t`.
    pub(super) from: String,
    /// The canonical forms of all columns, for a ROW.
    pub(super) row: String,
    /// Those of the key's.
    pub(super) key_row: String,
    /// The key's types, for casts.
    pub(super) key_types: Vec<String>,
}

/// A column that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) name: String,
    /// Its type on the subscriber.
    pub(super) declared: String,
    /// Equal values are spelled alike on every version: a large one is compared where it is.
    pub(super) plain: bool,
}

/// The columns that name a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) columns: Vec<Ident>,
    /// Where the operators are, on the publisher and on the subscriber.
    pub(super) operators: Vec<(Ident, Ident)>,
}

/// A server's tables with what their types mean.
pub(super) struct Catalog {
    pub(super) tables: BTreeMap<TableName, Found>,
    pub(super) types: Types,
}

impl Catalog {
    pub(super) fn of(session: &Session, major: i32, names: &[TableName]) -> Result<Catalog> {
        let (found, types) = read(session, major, names)?;
        Ok(Catalog {
            tables: found.into_iter().map(|it| (it.name.clone(), it)).collect(),
            types,
        })
    }
}

/// How a publication sends a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Sent {
    #[serde(flatten)]
    pub(super) name: Option<TableName>,
    /// Only these columns (15+); none: all that are not generated.
    pub(super) attnames: Option<BTreeSet<String>>,
    /// Only rows of this condition (15+).
    pub(super) rowfilter: Option<String>,
    /// TRUNCATE too (11+).
    #[serde(default)]
    pub(super) truncates: bool,
    /// Generated columns too (18+).
    #[serde(default)]
    pub(super) generated: bool,
}

/// Why the rows of both sides say nothing about each other.
pub(super) struct Incomparable {
    pub(super) words: String,
    pub(super) hint: String,
}

/// Puts the two sides of a table together.
pub(super) fn pair(
    sent: &Sent,
    name: &TableName,
    publisher: &Catalog,
    subscriber: &Catalog,
    floats: FloatText,
) -> std::result::Result<Table, Incomparable> {
    let lacks = |side: &str| Incomparable {
        words: format!("it is no table on the {side}"),
        hint: "flare verify_schema says what else differs".into(),
    };
    let ours = publisher
        .tables
        .get(name)
        .ok_or_else(|| lacks("side that is written"))?;
    let theirs = subscriber
        .tables
        .get(name)
        .ok_or_else(|| lacks("side that follows"))?;
    let mut notes = Vec::new();
    let mut columns = Vec::new();
    let (mut row, mut their_row) = (Vec::new(), Vec::new());
    let mut forms: BTreeMap<&str, (Form, Form)> = BTreeMap::new();
    for column in &ours.columns {
        let there = theirs.columns.iter().find(|it| it.name == column.name);
        if let Some(there) = there {
            forms.insert(
                &column.name,
                forms_of(column, there, publisher, subscriber, floats),
            );
        }
        if let Some(why) = left_out(sent, column) {
            notes.push(format!("column {:?} is not compared: {why}", column.name));
            continue;
        }
        let Some(there) = there else {
            return Err(Incomparable {
                words: format!("the side that follows has no column {:?}", column.name),
                hint: "flare verify_schema has the statement that adds it".into(),
            });
        };
        if column.written != there.written {
            notes.push(format!(
                "column {:?} is {} where it is written and {} where it follows: compared as text",
                column.name, column.declared, there.declared
            ));
        }
        let (our_form, their_form) = &forms[column.name.as_str()];
        let value = format!("t.{}", Ident::new(&column.name));
        row.push(our_form.of(&value));
        their_row.push(their_form.of(&value));
        columns.push(Compared {
            name: column.name.clone(),
            declared: there.declared.clone(),
            plain: column.written == there.written
                && is_plain(&publisher.types, column.type_oid)
                && is_plain(&subscriber.types, there.type_oid),
        });
    }
    for column in &theirs.columns {
        if !ours.columns.iter().any(|it| it.name == column.name) {
            notes.push(format!(
                "column {:?} is not compared: the side that is written has none of that name",
                column.name
            ));
        }
    }
    let (key, key_bytes) = match common_key(ours, theirs) {
        Some((key, bytes)) => (Some(key), bytes),
        None => (None, 0),
    };
    let key_columns: Vec<&str> = key
        .iter()
        .flat_map(|key| key.columns.iter().map(Ident::as_str))
        .collect();
    let half = |found: &Found, row: &[String], of: &dyn Fn(&(Form, Form)) -> Form| {
        let key_row: Vec<String> = key_columns
            .iter()
            .map(|name| of(&forms[name]).of(&format!("t.{}", Ident::from(*name))))
            .collect();
        let written = |name: &&str| {
            let column = found.columns.iter().find(|it| it.name == **name);
            column.map_or_else(String::new, |it| base_written(it, publisher, subscriber))
        };
        Half {
            from: match found.relkind {
                'p' => format!("{name} t"),
                _ => format!("ONLY {name} t"),
            },
            row: row.join(", "),
            key_row: key_row.join(", "),
            key_types: key_columns.iter().map(written).collect(),
        }
    };
    let correlation = key_columns
        .first()
        .and_then(|first| ours.correlation.get(*first).copied());
    Ok(Table {
        name: name.clone(),
        publisher: half(ours, &row, &|forms| forms.0.clone()),
        subscriber: half(theirs, &their_row, &|forms| forms.1.clone()),
        key,
        columns,
        bytes: ours.bytes,
        reltuples: rows_of(ours),
        correlation,
        chunk: match usize::try_from(key_bytes) {
            Ok(bytes @ 1..) => (KEYS_OF_A_CHUNK / bytes).clamp(FEWEST, CHUNK),
            _ => CHUNK,
        },
        file: ours.file.clone().filter(|_| !sent.truncates),
        notes,
    })
}

fn is_plain(types: &Types, oid: u32) -> bool {
    is_spelled_alike(types, oid) || is_exact(types, oid)
}

/// What a chunk's keys may take in the index: where it differs, they are listed, and take several times as much.
const KEYS_OF_A_CHUNK: usize = 2 << 20;
/// And however large they are, a chunk has as many rows.
const FEWEST: usize = 200;

/// Rows of so many bytes where nobody has counted them.
const TYPICAL_BYTES: f64 = 100.0;

/// About how many rows the table has: what is taken for its progress.
fn rows_of(found: &Found) -> f64 {
    if found.reltuples > 0.0 {
        found.reltuples
    } else {
        found.bytes as f64 / TYPICAL_BYTES
    }
}

/// Why a column of the publisher is not compared.
fn left_out(sent: &Sent, column: &Column) -> Option<String> {
    match &sent.attnames {
        Some(listed) if listed.contains(&column.name) => None,
        Some(_) => Some("the publication does not send it".into()),
        None if column.generated.is_empty() => None,
        None if column.generated == "s" && sent.generated => None,
        None => Some("it is generated, and not replicated".into()),
    }
}

/// The forms on both sides: those that differ go by text.
fn forms_of(
    ours: &Column,
    theirs: &Column,
    publisher: &Catalog,
    subscriber: &Catalog,
    floats: FloatText,
) -> (Form, Form) {
    let one = form(&publisher.types, ours.type_oid, floats);
    let other = form(&subscriber.types, theirs.type_oid, floats);
    let alike = |one: &Form, other: &Form| match (one, other) {
        // The extension may be in another schema.
        (Form::Cube { .. }, Form::Cube { .. }) => true,
        (one, other) => one == other,
    };
    if ours.written == theirs.written && alike(&one, &other) {
        (one, other)
    } else {
        (Form::Text, Form::Text)
    }
}

/// The type to cast a key to: what a domain is of, since 10 has no arrays of domains and comparing needs none.
fn base_written(column: &Column, publisher: &Catalog, subscriber: &Catalog) -> String {
    for types in [&publisher.types, &subscriber.types] {
        let mut info = types.get(&column.type_oid);
        if info.is_none_or(|it| it.written != column.written) {
            continue;
        }
        while let Some(base) = info.and_then(|it| it.base) {
            info = types.get(&base);
        }
        if let Some(info) = info {
            return info.written.clone();
        }
    }
    column.written.clone()
}

/// A key that both sides have, best in the same order, and what it takes in the index.
fn common_key(ours: &Found, theirs: &Found) -> Option<(Key, i64)> {
    let same_order = ours.keys.iter().find_map(|key| {
        let there = theirs.keys.iter().find(|it| it.columns == key.columns);
        there.map(|there| (key, there))
    });
    let set = |key: &KeyIndex| key.columns.iter().cloned().collect::<BTreeSet<_>>();
    let same_set = || {
        ours.keys.iter().find_map(|key| {
            let there = theirs.keys.iter().find(|it| set(it) == set(key));
            there.map(|there| (key, there))
        })
    };
    let (key, there) = same_order.or_else(same_set)?;
    let operators = key.columns.iter().zip(&key.operators).map(|(name, ours)| {
        let at = there.columns.iter().position(|it| it == name);
        let theirs = at.map_or(ours, |at| &there.operators[at]);
        (Ident::new(ours), Ident::new(theirs))
    });
    let bytes = key.bytes.max(there.bytes);
    let key = Key {
        columns: key.columns.iter().map(Ident::new).collect(),
        operators: operators.collect(),
    };
    Some((key, bytes))
}
