//! Two dumps of one pg_dump, compared object by object.
//!
//! Both are read side by side; what agrees is forgotten at once, so that dumps in nearly the same order take little memory.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::difference::Difference;
use super::objects::{Body, Key, Object, Objects};
use super::redact::redact;
use super::spelling::Spelling;
use crate::error::Result;

/// The differences between two dumps, in the order of their objects. flare's own objects, publications, subscriptions
/// and session settings never count.
pub(crate) fn compare(
    publisher: impl BufRead,
    subscriber: impl BufRead,
    spelling: Spelling,
) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for (key, unmatched) in unmatched(publisher, subscriber, spelling)? {
        // Several objects may have one key: operators are named without their arguments.
        let Unmatched {
            publisher,
            subscriber,
        } = &unmatched;
        for at in 0..publisher.len().max(subscriber.len()) {
            let [ours, theirs] = [publisher, subscriber]
                .map(|side| side.get(at).map(Vec::as_slice).unwrap_or_default());
            found.extend(difference(&key, ours, theirs, spelling));
        }
    }
    Ok(found)
}

/// The objects that no object of the other side agrees with.
fn unmatched(
    publisher: impl BufRead,
    subscriber: impl BufRead,
    spelling: Spelling,
) -> Result<BTreeMap<Key, Unmatched>> {
    let (mut ours, mut theirs) = (Objects::new(publisher), Objects::new(subscriber));
    let mut waiting: BTreeMap<Key, Unmatched> = BTreeMap::new();
    loop {
        let (one, other) = (ours.next().transpose()?, theirs.next().transpose()?);
        if one.is_none() && other.is_none() {
            return Ok(waiting);
        }
        for (side, object) in [(Side::Publisher, one), (Side::Subscriber, other)] {
            let Some(Object { key, statements }) = object else {
                continue;
            };
            let others = waiting.entry(key.clone()).or_default();
            others.arrive(side, statements, spelling);
            if others.is_empty() {
                waiting.remove(&key);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Publisher,
    Subscriber,
}

/// Objects of one key of which the other side has not come yet; several where names were cut or folded.
#[derive(Default)]
struct Unmatched {
    publisher: Vec<Body>,
    subscriber: Vec<Body>,
}

impl Unmatched {
    /// Matches an object with one of the other side, or has it wait for that.
    fn arrive(&mut self, side: Side, body: Body, spelling: Spelling) {
        let (own, others) = match side {
            Side::Publisher => (&mut self.publisher, &mut self.subscriber),
            Side::Subscriber => (&mut self.subscriber, &mut self.publisher),
        };
        let agrees = |other: &Body| {
            let (ours, theirs) = apart(&body, other, spelling);
            ours.is_empty() && theirs.is_empty()
        };
        match others.iter().position(agrees) {
            Some(at) => drop(others.remove(at)),
            None => own.push(body),
        }
    }

    fn is_empty(&self) -> bool {
        self.publisher.is_empty() && self.subscriber.is_empty()
    }
}

/// What each has that the other has not. The order of an object's statements, of grants above all, says nothing.
fn apart<'s>(
    ours: &'s [Vec<u8>],
    theirs: &'s [Vec<u8>],
    spelling: Spelling,
) -> (Vec<&'s [u8]>, Vec<&'s [u8]>) {
    let mut theirs: Vec<&[u8]> = theirs.iter().map(Vec::as_slice).collect();
    let mut ours: Vec<&[u8]> = ours.iter().map(Vec::as_slice).collect();
    ours.retain(|statement| {
        let same = theirs
            .iter()
            .position(|other| spelling.same(statement, other));
        same.map(|at| theirs.remove(at)).is_none()
    });
    (ours, theirs)
}

fn difference(
    key: &Key,
    ours: &[Vec<u8>],
    theirs: &[Vec<u8>],
    spelling: Spelling,
) -> Option<Difference> {
    let shown = |statements: Vec<&[u8]>| {
        let text = statements.concat();
        (!text.is_empty()).then(|| redact(String::from_utf8_lossy(&text).trim()))
    };
    let (ours, theirs) = apart(ours, theirs, spelling);
    let (publisher, subscriber) = (shown(ours), shown(theirs));
    (publisher.is_some() || subscriber.is_some()).then(|| Difference {
        kind: key.kind().to_owned(),
        object: key.to_string(),
        publisher,
        subscriber,
    })
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::entry;
    use super::*;

    const SCHEMA: &str = include_str!("../../fixtures/dumps/schema-pg_dump-18.sql");

    fn differences(one: &str, other: &str) -> Vec<Difference> {
        compare(one.as_bytes(), other.as_bytes(), Spelling::OneVersion).unwrap()
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
}
