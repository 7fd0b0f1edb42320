//! What is replicated: publications by database, subscriptions by name.

use indexmap::IndexMap;

use super::field::{Field, valid_name};
use crate::value::TableName;

/// What one database publishes (`publications.<dbname>`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// Its name on the publisher.
    pub pubname: String,
    /// The tables; `None`: all.
    pub tables: Option<Vec<TableName>>,
    /// Whether all tables are those that exist when it is made, each by name: the application's new ones stay out.
    pub listed: bool,
    /// Tables that get `REPLICA IDENTITY FULL` because they have no key.
    pub replica_identity_full_tables: Vec<TableName>,
    /// Insert-only tables that may stay without a replica identity.
    pub allow_no_identity: Vec<TableName>,
    /// What the cutover may leave on the old side: tables and other objects by name, `large_objects`.
    pub leave_behind: Vec<String>,
}

/// What one database subscribes to (`subscriptions.<subname>`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The database, of the same name on both servers.
    pub dbname: String,
    /// The publication.
    pub pubname: String,
    /// Options of `CREATE SUBSCRIPTION`, their values as written.
    pub options: IndexMap<String, String>,
}

impl Subscription {
    /// Whether an option is switched on, as `defGetBoolean` reads it; what it refuses the server refuses.
    pub(crate) fn has_on(&self, option: &str) -> bool {
        self.options.get(option).is_some_and(|value| is_on(value))
    }
}

/// Whether a value switches an option on.
pub(crate) fn is_on(value: &str) -> bool {
    ["true", "on", "1"]
        .iter()
        .any(|on| value.eq_ignore_ascii_case(on))
}

/// Whether one of these names is the object: as it is, or as a table's name, a bare one being in public; what has its
/// table's name in it also without quotes.
pub(crate) fn names_object(names: &[String], object: &str) -> bool {
    let bare = |text: &str| text.replace('"', "");
    let is = |name: &String| match (name.parse::<TableName>(), object.parse::<TableName>()) {
        (Ok(name), Ok(object)) => name == object,
        _ => bare(name) == bare(object),
    };
    names.iter().any(|name| name == object || is(name))
}

impl Publication {
    /// Whether the cutover may leave it where it is.
    pub(crate) fn leaves_behind(&self, object: &str) -> bool {
        names_object(&self.leave_behind, object)
    }

    pub(super) fn read(field: &Field<'_>) -> Option<Self> {
        field.section(|section| {
            let tables = |field: &Field<'_>| tables(field);
            let pubname = section.required("pubname", Field::name);
            let which = section.or("tables", (None, false), |field| {
                if !field.is_list() {
                    return field
                        .word(&[("all", false), ("listed", true)])
                        .map(|listed| (None, listed));
                }
                let listed = tables(field)?;
                if listed.is_empty() {
                    field.problem("is empty; leave it out to publish all tables");
                }
                Some((Some(listed), false))
            });
            let full = section.or("replica_identity_full_tables", Vec::new(), tables);
            let none = section.or("allow_no_identity", Vec::new(), tables);
            let left = section.or("leave_behind", Vec::new(), |field| field.list(Field::text));
            let (listed_tables, listed) = which?;
            Some(Publication {
                pubname: pubname?,
                tables: listed_tables,
                listed,
                replica_identity_full_tables: full?,
                allow_no_identity: none?,
                leave_behind: left?,
            })
        })
    }
}

impl Subscription {
    pub(super) fn read(field: &Field<'_>) -> Option<Self> {
        field.section(|section| {
            let dbname = section.required("dbname", Field::name);
            let pubname = section.required("pubname", Field::name);
            let options = section.or("options", IndexMap::new(), |field| {
                let options = field.named()?.into_iter().map(|(name, field)| {
                    let value = field.raw_text()?.to_owned();
                    Some((name, value))
                });
                let read: Vec<Option<(String, String)>> = options.collect();
                read.into_iter().collect()
            });
            Some(Subscription {
                dbname: dbname?,
                pubname: pubname?,
                options: options?,
            })
        })
    }
}

/// A mapping from names that PostgreSQL can keep.
pub(super) fn by_name<T>(
    field: &Field<'_>,
    read: impl Fn(&Field<'_>) -> Option<T>,
) -> Option<IndexMap<String, T>> {
    let read = field.named()?.into_iter().map(|(name, field)| {
        let valid = valid_name(&name).map_err(|why| field.problem(format!("the name {why}")));
        let value = read(&field);
        valid.ok().and(value).map(|value| (name, value))
    });
    let all: Vec<Option<(String, T)>> = read.collect();
    all.into_iter().collect()
}

fn tables(field: &Field<'_>) -> Option<Vec<TableName>> {
    let tables = field.list(Field::table)?;
    let twice = tables
        .iter()
        .enumerate()
        .find(|(at, table)| tables[..*at].contains(table));
    if let Some((_, table)) = twice {
        field.problem(format!("names {} twice", table.plain()));
    }
    Some(tables)
}
