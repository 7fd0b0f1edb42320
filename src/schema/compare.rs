//! Two dumps of one pg_dump, compared object by object.
//!
//! Both are read side by side; what agrees is forgotten at once, so that dumps in nearly the same order take little memory.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::sync::Arc;

use serde::Serialize;

use crate::error::Result;

use super::entry::Entry;
use super::redact::redact;
use super::spelling::Spelling;
use super::statement::{Kind, Statements};
use super::tokens::Tokens;

/// An object that is not the same on both sides: its statements that the other side does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) object: String,
    pub(crate) publisher: Option<String>,
    pub(crate) subscriber: Option<String>,
}

impl Difference {
    /// Whether both sides differ in nothing but the table's replica identity.
    pub(crate) fn is_of_identity(&self) -> bool {
        self.is_only(|tokens| {
            tokens.start("ALTER TABLE ONLY") && tokens.find("REPLICA IDENTITY").is_some()
        })
    }

    /// Whether both sides differ in nothing but what one of these roles is granted, now or by default.
    pub(crate) fn is_of_grants_to(&self, roles: &[&str]) -> bool {
        self.is_only(|tokens| {
            let end = tokens.len().saturating_sub(1);
            let granted = tokens.start("GRANT")
                || tokens.start("ALTER DEFAULT PRIVILEGES") && tokens.find("GRANT").is_some();
            let to_one = end >= 2 && tokens.is(end, ";") && tokens.is(end - 2, "TO");
            let to = tokens.name(end.saturating_sub(1)).unwrap_or_default();
            tokens.start("SET SESSION AUTHORIZATION")
                || granted && to_one && roles.contains(&to.as_str())
        })
    }

    fn is_only(&self, known: impl Fn(&Tokens) -> bool) -> bool {
        let sides = [&self.publisher, &self.subscriber];
        let mut statements = sides
            .into_iter()
            .flatten()
            .flat_map(|text| Statements::new(text.as_bytes()));
        statements.all(|item| {
            item.is_ok_and(|item| item.kind == Kind::Comment || known(&Tokens::of(&item.text)))
        })
    }
}

/// The differences between two dumps, in the order of their objects. flare's own objects, publications, subscriptions
/// and session settings never count.
pub(crate) fn compare(
    publisher: impl BufRead,
    subscriber: impl BufRead,
    spelling: Spelling,
) -> Result<Vec<Difference>> {
    let mut ours = Objects::new(publisher);
    let mut theirs = Objects::new(subscriber);
    let mut waiting: BTreeMap<Key, Waiting> = BTreeMap::new();
    let mut found = Vec::new();
    loop {
        let (one, other) = (ours.next().transpose()?, theirs.next().transpose()?);
        if one.is_none() && other.is_none() {
            break;
        }
        let arrived = [(Side::Publisher, one), (Side::Subscriber, other)];
        for (side, object) in arrived
            .into_iter()
            .filter_map(|(side, object)| Some((side, object?)))
        {
            let Object { key, statements } = object;
            let others = waiting.entry(key.clone()).or_default();
            let agrees = |other: &Vec<Vec<u8>>| {
                let difference = key.difference(side, statements.clone(), other.clone(), spelling);
                difference.is_none()
            };
            match others.of(side.other()).iter().position(agrees) {
                Some(at) => drop(others.of(side.other()).remove(at)),
                None => others.of(side).push(statements),
            }
            if others.is_empty() {
                waiting.remove(&key);
            }
        }
    }
    for (key, waiting) in waiting {
        // Several objects may have one key: operators are named without their arguments.
        let mut theirs = waiting.subscriber.into_iter();
        for ours in waiting.publisher {
            let other = theirs.next().unwrap_or_default();
            found.extend(key.difference(Side::Publisher, ours, other, spelling));
        }
        for theirs in theirs {
            found.extend(key.difference(Side::Subscriber, theirs, Vec::new(), spelling));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found
        .into_iter()
        .map(|(_, difference)| difference)
        .collect())
}

#[derive(Clone, Copy)]
enum Side {
    Publisher,
    Subscriber,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Publisher => Side::Subscriber,
            Side::Subscriber => Side::Publisher,
        }
    }
}

/// What an object is found again by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
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

    fn difference(
        &self,
        side: Side,
        mut ours: Vec<Vec<u8>>,
        mut theirs: Vec<Vec<u8>>,
        spelling: Spelling,
    ) -> Option<(Key, Difference)> {
        // The order of an object's statements, of grants above all, says nothing.
        ours.retain(|statement| {
            let same = |other: &Vec<u8>| spelling.same(statement, other);
            match theirs.iter().position(same) {
                Some(at) => {
                    theirs.remove(at);
                    false
                }
                None => true,
            }
        });
        let shown = |statements: Vec<Vec<u8>>| {
            let text = statements.concat();
            (!text.is_empty()).then(|| redact(String::from_utf8_lossy(&text).trim()))
        };
        let (publisher, subscriber) = match side {
            Side::Publisher => (shown(ours), shown(theirs)),
            Side::Subscriber => (shown(theirs), shown(ours)),
        };
        (publisher.is_some() || subscriber.is_some()).then(|| {
            let difference = Difference {
                object: self.to_string(),
                publisher,
                subscriber,
            };
            (self.clone(), difference)
        })
    }

    /// flare's own table, schema, fence and replication are not the user's.
    fn is_ours(&self) -> bool {
        const TABLE: &str = "flare_replication_status";
        const SCHEMA: &str = "flare";
        const FENCE: &str = "flare_fence";
        let is_schema = match self.kind.as_str() {
            "SCHEMA" => self.name == SCHEMA,
            "ACL" | "COMMENT" => self.name == format!("SCHEMA {SCHEMA}"),
            _ => false,
        };
        self.schema == SCHEMA
            || is_schema
            || self.kind == "TRIGGER" && self.name.rsplit(' ').next() == Some(FENCE)
            || self
                .name
                .split([' ', '.'])
                .any(|part| part.starts_with(TABLE))
            || self.kind.starts_with("PUBLICATION")
            || self.kind.starts_with("SUBSCRIPTION")
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entry = Entry {
            kind: self.kind.clone(),
            schema: self.schema.clone(),
            name: self.name.clone(),
            owner: String::new(),
        };
        entry.fmt(f)
    }
}

/// Objects of which the other side has not come yet; several of one key where names were cut or folded.
#[derive(Default)]
struct Waiting {
    publisher: Vec<Vec<Vec<u8>>>,
    subscriber: Vec<Vec<Vec<u8>>>,
}

impl Waiting {
    fn of(&mut self, side: Side) -> &mut Vec<Vec<Vec<u8>>> {
        match side {
            Side::Publisher => &mut self.publisher,
            Side::Subscriber => &mut self.subscriber,
        }
    }

    fn is_empty(&self) -> bool {
        self.publisher.is_empty() && self.subscriber.is_empty()
    }
}

/// An object with the statements that make it.
struct Object {
    key: Key,
    statements: Vec<Vec<u8>>,
}

/// The objects of a dump: statements under one comment of pg_dump belong together.
struct Objects<R: BufRead> {
    items: std::iter::Peekable<Statements<R>>,
}

impl<R: BufRead> Objects<R> {
    fn new(dump: R) -> Self {
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

/// The objects of a dump, flare's own left out: what each is called, and its statements.
pub(super) fn objects(
    dump: impl BufRead,
) -> impl Iterator<Item = io::Result<(String, Vec<Vec<u8>>)>> {
    Objects::new(dump)
        .map(|object| object.map(|object| (object.key.to_string(), object.statements)))
}

impl<R: BufRead> Iterator for Objects<R> {
    type Item = io::Result<Object>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = include_str!("../../fixtures/dumps/schema-pg_dump-18.sql");

    fn differences(one: &str, other: &str) -> Vec<Difference> {
        compare(one.as_bytes(), other.as_bytes(), Spelling::OneVersion).unwrap()
    }

    fn entry(kind: &str, schema: &str, name: &str, sql: &str) -> String {
        format!("--\n-- Name: {name}; Type: {kind}; Schema: {schema}; Owner: o\n--\n\n{sql}\n\n")
    }

    #[test]
    fn a_dump_does_not_differ_from_itself_in_another_order() {
        assert_eq!(differences(SCHEMA, SCHEMA), []);
        let a = entry("TABLE", "app", "a", "CREATE TABLE app.a (x int);");
        let b = entry("TABLE", "app", "b", "CREATE TABLE app.b (x int);");
        let c = entry(
            "TABLE",
            "app",
            "c",
            "SET default_tablespace = '';\nCREATE TABLE app.c (x  int);",
        );
        let c2 = entry("TABLE", "app", "c", "CREATE TABLE app.c (x int);");
        assert_eq!(
            differences(&[&*a, &*b, &*c].concat(), &[&*c2, &*a, &*b].concat()),
            []
        );
    }

    #[test]
    fn objects_of_one_name_are_told_apart_by_what_they_say() {
        let int = entry("OPERATOR", "app", "=", "CREATE OPERATOR app.= (a);");
        let text = entry("OPERATOR", "app", "=", "CREATE OPERATOR app.= (b);");
        let other = entry("OPERATOR", "app", "=", "CREATE OPERATOR app.= (c);");
        let table = entry("TABLE", "app", "a", "CREATE TABLE app.a ();");
        let one = [&*int, &*text, &*table].concat();
        assert_eq!(differences(&one, &[&*table, &*text, &*int].concat()), []);
        let found = differences(&one, &[&*table, &*other, &*int].concat());
        assert_eq!(found.len(), 1);
        assert!(found[0].publisher.as_ref().unwrap().contains("(b)"));
    }

    #[test]
    fn what_differs_is_named_with_both_sides() {
        let other = SCHEMA
            .replace("CHECK ((a > 0))", "CHECK ((a > 1))")
            .replace("GRANT SELECT ON TABLE app.customers TO nopw;\n", "");
        let found = differences(SCHEMA, &other);
        let objects: Vec<&str> = found.iter().map(|found| found.object.as_str()).collect();
        assert_eq!(
            objects,
            [
                "ACL TABLE customers in schema app",
                "TABLE parent in schema app"
            ]
        );
        assert_eq!(
            found[0].publisher.as_deref(),
            Some("SET SESSION AUTHORIZATION app;\nGRANT SELECT ON TABLE app.customers TO nopw;")
        );
        assert_eq!(found[0].subscriber, None);
        assert!(found[1].subscriber.as_ref().unwrap().contains("a > 1"));
        assert_eq!(differences(SCHEMA, "").len(), differences("", SCHEMA).len());
        assert!(
            differences("", SCHEMA)
                .iter()
                .all(|found| found.publisher.is_none())
        );
    }

    #[test]
    fn what_the_replication_user_was_granted_is_known() {
        let acl = |sql: &str| entry("ACL", "public", "TABLE a", sql);
        let granted = |sql: &str| {
            let found = differences(&acl(sql), "");
            found
                .iter()
                .all(|found| found.is_of_grants_to(&["Re\"pl", "other"]))
        };
        assert!(granted("GRANT ALL ON TABLE public.a TO \"Re\"\"pl\";"));
        assert!(granted(
            "SET SESSION AUTHORIZATION o;\nGRANT SELECT ON TABLE public.a TO other;\nRESET SESSION AUTHORIZATION;"
        ));
        assert!(granted(
            "ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA public GRANT ALL ON TABLES TO other;"
        ));
        assert!(!granted(
            "GRANT ALL ON TABLE public.a TO other;\nGRANT SELECT ON TABLE public.a TO app;"
        ));
        assert!(!granted("REVOKE ALL ON TABLE public.a FROM other;"));
        assert!(!granted("GRANT ALL ON TABLE public.a TO re;"));
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
        ]
        .concat();
        assert_eq!(differences(&ours, ""), []);
    }
}
