//! Objects that no ALTER changes: each difference has a statement that mends it, or says why there is none.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Cluster, Pair, matrix};

const BOTH: &str = include_str!("mended/both.sql");
const CHANGES: &str = include_str!("mended/changes.sql");

/// What differs for good, or until something that rests on it is gone.
const ADVISED: [(&str, &str); 11] = [
    ("enum", "app.e_used"),
    ("collation", "app.col2"),
    ("user mapping", "for PUBLIC on srv3"),
    ("table", "app.part"),
    ("column", "app.idt.g"),
    ("function", "app.f_used(a integer)"),
    ("operator", "app.=|= (point, point)"),
    ("view", "app.v1"),
    ("inheritance", "app.part1 from app.part"),
    ("column order", "app.ord"),
    // Its columns are its own, and stay when the parent's are dropped.
    ("table", "daughter in schema app"),
];

/// What no dump of the database has, and what comes without a row of its own in most dumps.
const BESIDE: [(&str, &str); 5] = [
    ("publication", "\"Only; there\""),
    ("publication", "\"other\""),
    ("partition index", "app.pi_at on app.pi1"),
    ("partition index", "app.pi_de on app.pi1"),
    ("index", "app.pi1_de"),
];

/// A line is a statement or several: a value of an enum is added in a transaction of its own.
fn run(pair: &Pair, server: &Cluster, script: &str) {
    let script = script.replace("{owner}", &pair.names().owner);
    for line in script.lines().filter(|line| !line.starts_with("--")) {
        server.sql(pair.db(), line);
    }
}

fn differences(pair: &Pair) -> Vec<Value> {
    let json = pair.flare(&["verify_schema", pair.subname(), "--format", "json"]);
    let json = json.code(3).json();
    assert_eq!(json["method"], "throwaway", "{json:#}");
    json["differences"].as_array().expect("a list").clone()
}

fn mend(pair: &Pair, found: &[Value]) {
    for difference in found {
        let Some(statement) = difference["statement"].as_str() else {
            assert!(difference["advice"].is_string(), "{difference:#}");
            continue;
        };
        let run = pair.subscriber().try_rows(pair.db(), statement);
        if let Err(error) = run {
            panic!("{error}\n{difference:#}");
        }
    }
}

fn named(found: &[Value]) -> BTreeSet<(String, String)> {
    let text = |it: &Value| it.as_str().expect("a text").to_owned();
    let named = |it: &Value| (text(&it["kind"]), text(&it["object"]));
    found.iter().map(named).collect()
}

/// Those of some kinds among what is advised.
fn advised(kinds: &[&str]) -> BTreeSet<(String, String)> {
    let of_kind = ADVISED
        .iter()
        .filter(|(kind, _)| kinds.is_empty() || kinds.contains(kind));
    of_kind
        .map(|(kind, object)| ((*kind).to_owned(), (*object).to_owned()))
        .collect()
}

fn each_statement_mends(old: u32, new: u32) {
    let pair = Pair::new(old, new);
    pair.create_roles_on(pair.subscriber());
    pair.create_database_on(pair.subscriber());
    for server in [pair.publisher(), pair.subscriber()] {
        run(&pair, server, BOTH);
    }
    run(&pair, pair.subscriber(), CHANGES);
    let found = differences(&pair);
    assert!(found.len() > ADVISED.len() * 5, "{found:#?}");
    let names = named(&found);
    let role = format!("role \"{}\"", pair.names().owner);
    for (kind, object) in BESIDE.into_iter().chain([("comment", role.as_str())]) {
        let it = (kind.to_owned(), object.to_owned());
        assert!(names.contains(&it), "{old}-{new}: {it:?}: {found:#?}");
    }
    mend(&pair, &found);
    let left = differences(&pair);
    assert_eq!(named(&left), advised(&[]), "{old}-{new}: {left:#?}");
    assert!(
        left.iter().all(|it| it["statement"].is_null()),
        "{old}-{new}: {left:#?}"
    );

    // Once nothing rests on them any more, they are made again.
    let resting = "DROP VIEW app.v2, app.uses_f, app.uses_op, app.uses_agg; DROP TABLE app.uses_col; ALTER TABLE app.uses DROP COLUMN e";
    pair.subscriber().sql(pair.db(), resting);
    let found = differences(&pair);
    let has = |object: &str| {
        let it = found.iter().find(|it| it["object"] == object);
        it.is_some_and(|it| it["statement"].is_string())
    };
    for object in ["app.v1", "app.f_used(a integer)", "app.e_used", "app.col2"] {
        assert!(has(object), "{old}-{new}: {object}: {found:#?}");
    }
    mend(&pair, &found);
    let found = differences(&pair);
    let kept = [
        "user mapping",
        "table",
        "column",
        "inheritance",
        "column order",
    ];
    assert_eq!(named(&found), advised(&kept), "{old}-{new}: {found:#?}");
}

#[test]
#[ignore = "make soak"]
fn what_no_alter_changes_is_made_again_or_said() {
    each_statement_mends(14, 18);
}

#[test]
#[ignore = "more pairs: make soak"]
fn what_no_alter_changes_is_made_again_or_said_on_more_pairs() {
    for &(old, new) in matrix::sample(
        &[(14, 14), (15, 17), (16, 16), (18, 18)],
        &[(14, 14), (18, 18)],
    ) {
        each_statement_mends(old, new);
    }
}
