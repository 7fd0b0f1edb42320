//! Faults planted on real servers, many in one database: each is named by its check.

use super::{assert_found, look};
use crate::support::{Cluster, Pair};

#[test]
fn a_publisher_that_cannot_replicate_is_named() {
    let old = Cluster::private(
        10,
        &[
            ("wal_level", "replica"),
            ("max_replication_slots", "1"),
            ("max_wal_senders", "1"),
        ],
    );
    let pair = Pair::between(old, Cluster::subscriber(18)).with_accounts(1);
    let json = look(&pair);
    assert_found(
        &json,
        "wal_level",
        "blocker",
        "wal_level of the publisher is replica",
    );
    assert_found(
        &json,
        "capacity",
        "blocker",
        "max_wal_senders of the publisher is 1",
    );
    assert_eq!(json["ok"], false);
}

#[test]
fn tables_whose_rows_cannot_be_told_apart_are_named() {
    for (old, new) in [(10, 18), (18, 18)] {
        let pair = Pair::new(old, new).with_accounts(1);
        let db = pair.db();
        pair.publisher().sql(
            db,
            r#"CREATE SCHEMA "a""b'c; --";
               CREATE TABLE "a""b'c; --"."Order" (id int);
               CREATE TABLE doc (d json); ALTER TABLE doc REPLICA IDENTITY FULL;
               CREATE DOMAIN docs AS json[];
               CREATE TYPE pair AS (x int, y docs);
               CREATE TABLE nested (d pair); ALTER TABLE nested REPLICA IDENTITY FULL;
               CREATE TYPE mood AS ENUM ('a');
               CREATE TABLE fine (v varchar(3), a int[], m mood, r int4range, n numeric(3)); ALTER TABLE fine REPLICA IDENTITY FULL;"#,
        );
        if old >= 12 {
            pair.publisher().sql(
                db,
                "CREATE TABLE gen (a int, g int GENERATED ALWAYS AS (a + 1) STORED); ALTER TABLE gen REPLICA IDENTITY FULL;
                 CREATE TABLE genkey (a int, g int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY)",
            );
        }
        let json = look(&pair);
        assert_found(
            &json,
            "replica_identity",
            "blocker",
            r#"\"a\"\"b'c; --\".Order"#,
        );
        assert_found(
            &json,
            "identity_operators",
            "blocker",
            "public.doc.d (json)",
        );
        assert_found(
            &json,
            "identity_operators",
            "blocker",
            "public.nested.d (public.pair)",
        );
        let operators = super::of(&json, "identity_operators")[0].to_string();
        assert!(!operators.contains("fine"), "{operators}");
        if old >= 12 {
            assert_found(&json, "identity_generated", "blocker", "public.gen.g");
            assert_found(&json, "identity_generated", "blocker", "public.genkey.g");
        }
    }
}
