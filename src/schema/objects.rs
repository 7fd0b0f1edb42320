//! The objects of a dump, each with the statements that make it.

use std::fmt;
use std::io::{self, BufRead};
use std::sync::Arc;

use super::entry::Entry;
use super::statement::{Kind, Statements};
use super::tokens::Tokens;

/// What an object is found again by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    schema: String,
    kind: String,
    name: String,
}

impl Key {
    fn of(entry: &Entry) -> Key {
        Key {
            schema: entry.schema.clone(),
            kind: entry.kind.clone(),
            name: entry.name.clone(),
        }
    }

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// flare's own table, schema, triggers and replication are not the user's.
    fn is_ours(&self) -> bool {
        const TABLE: &str = "flare_replication_status";
        const SCHEMA: &str = "flare";
        const TRIGGERS: [&str; 2] = ["flare_fence", "flare_truncate"];
        let is_schema = match self.kind.as_str() {
            "SCHEMA" => self.name == SCHEMA,
            "ACL" | "COMMENT" => self.name == format!("SCHEMA {SCHEMA}"),
            _ => false,
        };
        self.schema == SCHEMA
            || is_schema
            || self.kind == "TRIGGER"
                && (self.name.rsplit(' ').next()).is_some_and(|it| TRIGGERS.contains(&it))
            || self
                .name
                .split([' ', '.'])
                .any(|part| part.starts_with(TABLE))
            || self.kind.starts_with("PUBLICATION")
            || self.kind.starts_with("SUBSCRIPTION")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = Entry {
            kind: self.kind.clone(),
            schema: self.schema.clone(),
            name: self.name.clone(),
            owner: String::new(),
        };
        entry.fmt(f)
    }
}

/// The statements that make an object.
pub(super) type Body = Vec<Vec<u8>>;

/// An object with the statements that make it.
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) statements: Body,
}

/// The objects of a dump, flare's own left out: statements under one comment of pg_dump belong together.
pub(super) struct Objects<R: BufRead> {
    items: std::iter::Peekable<Statements<R>>,
}

impl<R: BufRead> Objects<R> {
    pub(super) fn new(dump: R) -> Self {
        Objects {
            items: Statements::new(dump).peekable(),
        }
    }

    fn read(&mut self) -> io::Result<Option<Object>> {
        while let Some(item) = self.items.next() {
            let Some(entry) = item?.entry else { continue };
            let mut object = Object {
                key: Key::of(&entry),
                statements: Vec::new(),
            };
            let same = |other: &Option<Arc<Entry>>| {
                other
                    .as_ref()
                    .is_some_and(|other| Arc::ptr_eq(other, &entry))
            };
            let mut grantor: Option<Vec<u8>> = None;
            while let Some(item) = self
                .items
                .next_if(|item| item.as_ref().map_or(true, |item| same(&item.entry)))
            {
                let item = item?;
                if item.kind != Kind::Statement {
                    continue;
                }
                let head = Tokens::head(&item.text, 3);
                if head.start("SET SESSION AUTHORIZATION") {
                    grantor = Some(item.text);
                } else if head.start("RESET SESSION AUTHORIZATION") {
                    grantor = None;
                } else if !head.start("SET") && !head.start("SELECT pg_catalog .") {
                    let as_grantor = grantor.clone().unwrap_or_default();
                    object.statements.push([as_grantor, item.text].concat());
                }
            }
            if !object.key.is_ours() {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Objects<R> {
    type Item = io::Result<Object>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::schema) fn entry(kind: &str, schema: &str, name: &str, sql: &str) -> String {
        format!("--\n-- Name: {name}; Type: {kind}; Schema: {schema}; Owner: o\n--\n\n{sql}\n\n")
    }

    #[test]
    fn what_belongs_to_flare_never_counts() {
        let ours = [
            entry("SCHEMA", "-", "flare", "CREATE SCHEMA flare;"),
            entry(
                "ACL",
                "-",
                "SCHEMA flare",
                "GRANT USAGE ON SCHEMA flare TO PUBLIC;",
            ),
            entry(
                "TABLE",
                "flare",
                "journal",
                "CREATE TABLE flare.journal (a int);",
            ),
            entry(
                "TABLE",
                "public",
                "flare_replication_status",
                "CREATE TABLE flare_replication_status (a int);",
            ),
            entry(
                "CONSTRAINT",
                "public",
                "flare_replication_status flare_replication_status_pkey",
                "ALTER TABLE x;",
            ),
            entry(
                "ACL",
                "public",
                "TABLE flare_replication_status",
                "GRANT SELECT ON x TO y;",
            ),
            entry(
                "PUBLICATION TABLE",
                "public",
                "p t",
                "ALTER PUBLICATION p ADD TABLE t;",
            ),
            entry(
                "TRIGGER",
                "public",
                "t flare_fence",
                "CREATE TRIGGER flare_fence BEFORE INSERT ON t;",
            ),
            entry(
                "TRIGGER",
                "public",
                "t flare_truncate",
                "CREATE TRIGGER flare_truncate BEFORE TRUNCATE ON t;",
            ),
        ]
        .concat();
        assert_eq!(Objects::new(ours.as_bytes()).count(), 0);
    }
}
