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
            &format!(
                "CREATE TABLE secret (id int PRIMARY KEY); ALTER TABLE secret OWNER TO {};
                 ALTER TABLE secret ENABLE ROW LEVEL SECURITY; ALTER TABLE secret FORCE ROW LEVEL SECURITY",
                pair.names().owner
            ),
        );
        pair.publisher().sql(
            db,
            r#"CREATE SCHEMA "a""b'c; --";
               CREATE TABLE "a""b'c; --"."Order" (id int);
               CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
               CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
               CREATE TABLE doc (d json); ALTER TABLE doc REPLICA IDENTITY FULL;
               CREATE DOMAIN docs AS json[];
               CREATE TYPE pair AS (x int, y docs);
               CREATE TABLE nested (d pair); ALTER TABLE nested REPLICA IDENTITY FULL;
               CREATE TYPE mood AS ENUM ('a');
               CREATE TABLE fine (v varchar(3), a int[], m mood, r int4range, n numeric(3)); ALTER TABLE fine REPLICA IDENTITY FULL;"#,
        );
        if old < 12 {
            pair.publisher().sql(
                db,
                "CREATE OPERATOR !!! (PROCEDURE = twice, LEFTARG = int); CREATE AGGREGATE arrayed (anyelement) (SFUNC = array_append, STYPE = anyarray);
                 CREATE TABLE ages (id int PRIMARY KEY, a abstime); CREATE TABLE numbered (id int PRIMARY KEY) WITH OIDS;
                 CREATE VIEW checkpoints AS SELECT checkpoints_timed, buffers_alloc FROM pg_stat_bgwriter",
            );
        }
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
        assert_found(&json, "replica_identity", "blocker", "public.deferred");
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
        if old < 12 {
            for words in [
                "!!!(integer,NONE) (postfix",
                "arrayed(anyelement) (its function",
                "public.ages.a",
                "public.numbered",
            ] {
                assert_found(&json, "gone_objects", "blocker", words);
            }
            let read = "public.checkpoints (reads pg_stat_bgwriter.checkpoints_timed)";
            assert_found(&json, "gone_columns", "blocker", read);
        }
        let operators = super::of(&json, "identity_operators")[0].to_string();
        assert!(!operators.contains("fine"), "{operators}");
        assert_found(&json, "row_security", "blocker", "public.secret");
        assert_found(
            &json,
            "row_security",
            "pass",
            "hides rows from the role in the subscription's connection",
        );
        if old >= 16 {
            assert_found(&json, "row_security_back", "warning", "run_as_owner");
        }
        if old >= 12 {
            assert_found(&json, "identity_generated", "blocker", "public.gen.g");
            assert_found(&json, "identity_generated", "blocker", "public.genkey.g");
        }
    }
}

#[test]
fn what_would_stay_behind_is_named_before_anything_is_set_up() {
    for (old, new) in [(10, 10), (18, 18)] {
        let pair = Pair::alone(old, new).with_accounts(1);
        let (db, publisher) = (pair.db(), pair.publisher());
        publisher.sql(
            db,
            r"CREATE UNLOGGED TABLE scratch AS SELECT 1 AS id;
              CREATE UNLOGGED TABLE empty_scratch (id int);
              CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1);
              CREATE TABLE left_out (id int PRIMARY KEY); INSERT INTO left_out VALUES (1);
              SELECT lo_create(0);
              CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w;
              CREATE FOREIGN TABLE afar (id int) SERVER far;
              CREATE RULE audit AS ON INSERT TO kept DO ALSO SELECT 1; ALTER TABLE kept ENABLE ALWAYS RULE audit;
              CREATE TABLE parts (id int) PARTITION BY RANGE (id);",
        );
        if old >= 15 {
            let mut session = publisher.superuser_session(db);
            for statement in [
                "SET allow_in_place_tablespaces = on",
                "CREATE TABLESPACE \"fa st\" LOCATION ''",
            ] {
                session.batch_execute(statement).expect("a tablespace");
            }
            publisher.sql(
                db,
                "CREATE TABLE fast (id int PRIMARY KEY) TABLESPACE \"fa st\"",
            );
        }
        pair.configure(|config| {
            let tables = ["kept", "scratch", "parts"].map(serde_yaml::Value::from);
            config["publications"][db]["tables"] = tables.to_vec().into();
            config["publications"][db]
                .as_mapping_mut()
                .expect("a mapping")
                .remove("replica_identity_full_tables");
        });
        publisher.sql(
            db,
            "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')",
        );
        publisher.sql(
            "postgres",
            "BEGIN; CREATE TABLE forgotten (id int); PREPARE TRANSACTION 'it''s'",
        );
        let mut writer = publisher.superuser_session("postgres");
        writer
            .batch_execute("BEGIN; SELECT txid_current()")
            .expect("an open transaction");
        std::thread::sleep(std::time::Duration::from_millis(5200));
        let json = look(&pair);
        assert_found(&json, "unlogged_tables", "warning", "[\"public.scratch\"]");
        assert_found(&json, "tables_unpublished", "warning", "public.left_out");
        assert_found(
            &json,
            "large_objects",
            "warning",
            "1 large object would stay behind",
        );
        assert_found(
            &json,
            "foreign_tables",
            "warning",
            "public.afar (server far)",
        );
        assert_found(&json, "insert_rules", "warning", "audit on public.kept");
        assert_found(&json, "other_slots", "warning", "feed (pgoutput, inactive)");
        assert_found(
            &json,
            "prepared_transactions",
            "blocker",
            "COMMIT PREPARED 'it''s'",
        );
        assert_found(&json, "open_transactions", "warning", "idle in transaction");
        match old {
            10 => assert_found(&json, "partitions", "warning", "public.parts"),
            _ => assert_found(
                &json,
                "tablespaces",
                "warning",
                "CREATE TABLESPACE \\\"fa st\\\"",
            ),
        }
        publisher.sql("postgres", "ROLLBACK PREPARED 'it''s'");
    }
}

#[test]
fn what_goes_wrong_while_it_streams_is_named_and_blocks() {
    for (old, new) in [(10, 18), (18, 18)] {
        let pair = Pair::alone(old, new).with_accounts(1);
        let (db, sub, names) = (pair.db(), pair.subname(), pair.names());
        let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
        publisher.sql(
            db,
            "CREATE SEQUENCE alike; CREATE SEQUENCE unlike; CREATE TABLE filler (id int PRIMARY KEY); CREATE TABLE late (id int PRIMARY KEY);
             CREATE MATERIALIZED VIEW filled AS SELECT 1 AS one",
        );
        pair.flare(&["prepare", sub, "--yes"]).ok();
        publisher.sql(
            db,
            "CREATE INDEX lately ON late ((id + 1)); CREATE SEQUENCE missing; CREATE TABLE made_since (id int PRIMARY KEY); SELECT lo_create(0);
             ALTER TABLE late REPLICA IDENTITY FULL; CREATE PUBLICATION second FOR TABLE late",
        );
        subscriber.sql(
            db,
            &format!(
                "SET default_transaction_read_only = off;
                 ALTER SEQUENCE unlike INCREMENT 7;
                 REFRESH MATERIALIZED VIEW filled WITH NO DATA;
                 ALTER SUBSCRIPTION {sub} SET PUBLICATION \"{}\", second WITH (refresh = false)",
                names.pubname
            ),
        );
        publisher.configure(&[("synchronous_standby_names", "*")]);
        publisher.reload();
        let own = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{sub}' AND sync_state = 'sync'"
        );
        crate::support::wait::for_(
            "the walsender to be synchronous",
            std::time::Duration::from_secs(10),
            || publisher.value("postgres", &own) == "1",
        );
        let mut first = publisher.superuser_session(db);
        first
            .batch_execute("BEGIN; LOCK TABLE filler")
            .expect("a lock");
        let mut second = publisher.superuser_session(db);
        let queued =
            std::thread::spawn(move || second.batch_execute("LOCK TABLE filler; SELECT 1"));
        let long = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '2 seconds'";
        crate::support::wait::for_("a queue", std::time::Duration::from_secs(20), || {
            publisher.value(db, long) == "1"
        });
        let json = look(&pair);
        assert_found(&json, "lock_queues", "warning", "LOCK TABLE filler");
        let tables = super::of(&json, "subscription_tables")[0].to_string();
        assert!(!tables.contains("not published any more"), "{tables}");
        drop(first);
        queued.join().expect("a thread").expect("the lock");
        let json = look(&pair);
        assert_found(&json, "sequence_shape", "blocker", "public.missing");
        assert_found(&json, "sequence_shape", "warning", "public.unlike");
        assert_found(&json, "schema_drift", "blocker", "public.lately");
        assert_found(&json, "subscription_tables", "blocker", "public.made_since");
        assert_found(&json, "subscription_publications", "blocker", "second");
        assert_found(&json, "large_objects", "blocker", "large_objects");
        assert_found(&json, "identity_differs", "warning", "public.late");
        assert_found(&json, "materialized_views", "warning", "public.filled");
        assert_found(&json, "synchronous_standby", "blocker", sub);
        assert_eq!(json["ok"], false);

        let blockers = [
            "sequence_shape",
            "subscription_tables",
            "subscription_publications",
            "large_objects",
            "synchronous_standby",
            "schema_drift",
        ];
        let dry = pair.flare(&["cutover", sub, "--dry-run", "--format", "json"]);
        let dry = dry.code(3).json();
        let refused = pair.flare(&["cutover", sub, "--yes"]);
        refused.code(1);
        for id in blockers {
            assert!(!super::of(&dry, id).is_empty(), "{id} in {dry:#}");
            refused.says(&format!("({id})"));
        }
        assert!(super::of(&dry, "materialized_views").is_empty(), "{dry:#}");

        publisher.configure(&[("synchronous_standby_names", "")]);
        publisher.reload();
        subscriber.configure(&[("synchronous_standby_names", "gone")]);
        subscriber.reload();
        let names = "SHOW synchronous_standby_names";
        crate::support::wait::for_("the setting", std::time::Duration::from_secs(60), || {
            subscriber.value("postgres", names) == "gone"
        });
        assert_found(&look(&pair), "standbys_missing", "blocker", "gone");
        let refused = pair.flare(&["cutover", sub, "--yes"]);
        refused.code(1).says("(standbys_missing)");
        subscriber.configure(&[("synchronous_standby_names", "")]);
        subscriber.reload();
        subscriber.sql(db, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
        assert_found(
            &look(&pair),
            "subscription_stopped",
            "blocker",
            "is disabled",
        );
        subscriber.sql(
            db,
            &format!("ALTER SUBSCRIPTION {sub} SET (slot_name = NONE)"),
        );
        crate::support::wait::for_(
            "the slot to be free",
            std::time::Duration::from_secs(10),
            || {
                publisher.value(
                    "postgres",
                    "SELECT count(*) FROM pg_replication_slots WHERE active",
                ) == "0"
            },
        );
        publisher.sql(db, &format!("SELECT pg_drop_replication_slot('{sub}')"));
        subscriber.sql(
            db,
            &format!("ALTER SUBSCRIPTION {sub} SET (slot_name = '{sub}'); ALTER SUBSCRIPTION {sub} ENABLE"),
        );
        assert_found(
            &look(&pair),
            "subscription_stopped",
            "blocker",
            "is not on the publisher",
        );
        subscriber.sql(
            db,
            &format!("ALTER SUBSCRIPTION {sub} CONNECTION 'host=third.example port=5433 dbname={db} password=secret'"),
        );
        assert_found(
            &look(&pair),
            "subscription_source",
            "warning",
            "third.example:5433",
        );
    }
}

#[test]
fn a_publication_that_sends_a_part_is_named() {
    for old in [15, 18] {
        let pair = Pair::new(old, 18).with_accounts(1);
        let (db, pubname) = (pair.db(), &pair.names().pubname);
        pair.publisher().sql(
            db,
            &format!(
                "CREATE TABLE a (id int PRIMARY KEY, w int); CREATE TABLE b (id int PRIMARY KEY, w int);
                 CREATE PUBLICATION \"{pubname}\" FOR TABLE a WHERE (id > 50), b (id) WITH (publish = 'insert')"
            ),
        );
        let json = look(&pair);
        assert_found(
            &json,
            "publication_partial",
            "blocker",
            "public.a (row filter)",
        );
        assert_found(
            &json,
            "publication_partial",
            "blocker",
            "public.b (column list)",
        );
        assert_found(
            &json,
            "publication_partial",
            "pass",
            "does not send update, delete, truncate",
        );
    }
}

#[test]
fn names_that_are_no_text_are_named() {
    let pair = Pair::alone(10, 18);
    let (db, publisher) = (pair.db(), pair.publisher());
    publisher.sql("postgres", &format!("DROP DATABASE {db}"));
    publisher.sql(
        "postgres",
        &format!(
            "CREATE DATABASE {db} OWNER {} ENCODING 'SQL_ASCII' LC_COLLATE 'C.UTF8' LC_CTYPE 'C' TEMPLATE template0",
            pair.names().owner
        ),
    );
    publisher.sql(
        db,
        r"CREATE TABLE t (id int PRIMARY KEY); COMMENT ON TABLE t IS E'caf\351'",
    );
    // A system that has never heard of the locale.
    pair.subscriber().sql(
        "postgres",
        "DELETE FROM pg_collation WHERE lower(collname) LIKE 'c.utf%'",
    );
    let json = look(&pair);
    assert_found(&json, "sql_ascii", "blocker", "caf\u{fffd}");
    assert_found(&json, "locale", "blocker", "C.UTF8");
}
