//! `install_extensions`, before and after `replicate_schema`.

use serde_json::json;

use crate::support::Pair;

const EXTENSIONS: &str = "
    SELECT string_agg(extname || ' ' || nspname, ', ' ORDER BY extname)
      FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace";

fn prepared(old: u32, new: u32) -> Pair {
    let pair = Pair::new(old, new);
    pair.publisher().sql(
        pair.db(),
        &format!(
            "CREATE SCHEMA \"Ge.o\" AUTHORIZATION {}; CREATE EXTENSION cube SCHEMA \"Ge.o\"; CREATE EXTENSION earthdistance SCHEMA \"Ge.o\";
             CREATE EXTENSION pgcrypto; CREATE TABLE t (a \"Ge.o\".cube)",
            pair.names().owner
        ),
    );
    pair.create_roles_on(pair.subscriber());
    pair
}

#[test]
fn before_the_schema_and_after_it() {
    for (old, new) in [(10, 18), (16, 17)] {
        let pair = prepared(old, new);
        let db = pair.db();
        pair.flare(&["install_extensions", "--only-show", db])
            .ok()
            .prints("cube ")
            .prints("in schema Ge.o; the subscriber offers");
        let dry = pair
            .flare(&["install_extensions", db, "--dry-run", "--format", "json"])
            .ok()
            .json();
        assert_eq!(
            (&dry["changed"], &dry["dry_run"]),
            (&json!(false), &json!(true))
        );
        let first = pair
            .flare(&["install_extensions", db, "--format", "json"])
            .ok()
            .json();
        assert_eq!(first["changed"], true, "{first}");
        assert_eq!(
            pair.subscriber().value(db, EXTENSIONS),
            pair.publisher().value(db, EXTENSIONS)
        );
        let second = pair
            .flare(&["install_extensions", db, "--format", "json"])
            .ok()
            .json();
        assert_eq!(second["changed"], false, "{second}");
        if old < 15 {
            // Gone in 15: nothing to grant anything on.
            let owner = &pair.names().owner;
            pair.publisher().sql(
                db,
                &format!("GRANT EXECUTE ON FUNCTION pg_start_backup(text, boolean, boolean), pg_switch_wal() TO {owner}"),
            );
        }
        let schema = pair
            .flare(&["replicate_schema", db, "--format", "json"])
            .ok()
            .json();
        assert_eq!(schema["outcome"], "loaded", "{schema}");
        let left_out = schema["removed"].to_string();
        let named = left_out.contains("privileges on FUNCTION pg_start_backup(");
        assert_eq!(named, old < 15, "{left_out}");
        assert!(!left_out.contains("pg_switch_wal"), "{left_out}");
        let again = pair
            .flare(&["install_extensions", db, "--format", "json"])
            .ok()
            .json();
        assert_eq!(again["changed"], false, "{again}");
        let again = pair
            .flare(&["replicate_schema", db, "--format", "json"])
            .ok()
            .json();
        assert_eq!(again["outcome"], "already", "{again}");
    }
}

#[test]
fn what_is_not_offered_is_named_and_nothing_is_created() {
    let pair = prepared(10, 18);
    let db = pair.db();
    pair.publisher().sql(db, "CREATE EXTENSION adminpack");
    let run = pair.flare(&["install_extensions", db]);
    run.code(1)
        .says("does not offer adminpack 1.1; it offers ")
        .says("pgcrypto 1.");
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{db}'");
    assert_eq!(pair.subscriber().value("postgres", &count), "0");
}

#[test]
fn an_administrator_without_superuser_installs_what_is_trusted() {
    let pair = Pair::rds(13, 16);
    let db = pair.db();
    pair.publisher().sql(db, "CREATE EXTENSION hstore");
    pair.create_roles_on(pair.subscriber());
    let first = pair.flare(&["install_extensions", db, "--format", "json"]);
    assert_eq!(first.ok().json()["changed"], true);
    let second = pair.flare(&["install_extensions", db, "--format", "json"]);
    assert_eq!(second.ok().json()["changed"], false);
    pair.publisher().sql(db, "CREATE EXTENSION file_fdw");
    pair.flare(&["install_extensions", db])
        .code(1)
        .says("permission denied to create extension \"file_fdw\"");
    pair.flare(&["install_extensions", db, "--only-show"])
        .ok()
        .prints("hstore 1.7 in schema public; the subscriber has 1.8");
}
