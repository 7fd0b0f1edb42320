//! Faults of limits, roles and programs, which the other tests do not plant.

use std::time::Duration;

use super::{assert_found, look, of};
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, wait};

/// Just enough for flare and for what is planted.
fn small(version: u32) -> Vec<(&'static str, &'static str)> {
    let mut settings = vec![
        ("max_locks_per_transaction", "10"),
        ("max_connections", "20"),
        ("max_worker_processes", "4"),
        ("max_wal_senders", "3"),
        ("max_prepared_transactions", "0"),
        ("max_replication_slots", "4"),
        ("max_logical_replication_workers", "2"),
        ("autovacuum_max_workers", "1"),
    ];
    if version >= 13 {
        settings.push(("max_slot_wal_keep_size", "1MB"));
    }
    if version >= 18 {
        settings.push(("autovacuum_worker_slots", "1"));
    }
    settings
}

#[test]
fn limits_roles_and_programs_are_named() {
    for (old, new) in [(10, 18), (18, 18)] {
        let subscriber = [("wal_level", "replica"), ("max_wal_senders", "0")];
        let pair = Pair::between(
            Cluster::private(old, &small(old)),
            Cluster::private(new, &subscriber),
        )
        .with_accounts(1);
        let (db, app, publisher) = (pair.db(), &pair.names().app, pair.publisher());
        publisher.sql(
            db,
            r"CREATE TABLE t (id int PRIMARY KEY);
              INSERT INTO pg_seclabel (objoid, classoid, objsubid, provider, label)
                VALUES ('t'::regclass, 'pg_class'::regclass, 0, 'dummy', 'classified');
              CREATE TABLE wide (a int) WITH (autovacuum_enabled = off); ALTER TABLE wide REPLICA IDENTITY FULL;
              INSERT INTO wide SELECT generate_series(1, 2000); UPDATE wide SET a = a + 1;
              UPDATE pg_class SET relpages = 20000 WHERE relname = 'wide'",
        );
        // Before 15 a collector hears of it a moment later.
        wait::for_("the UPDATE to be counted", Duration::from_secs(30), || {
            let counted = "SELECT n_tup_upd > 0 FROM pg_stat_user_tables WHERE relname = 'wide'";
            publisher.value(db, counted) == "t"
        });
        publisher.sql(
            db,
            "SELECT pg_create_logical_replication_slot('idle', 'test_decoding')",
        );
        publisher.sql(
            db,
            "CREATE SUBSCRIPTION third CONNECTION 'dbname=postgres' PUBLICATION p WITH (connect = false, slot_name = 'third')",
        );
        publisher.sql(db, "ALTER SUBSCRIPTION third ENABLE");
        for hundred in 0..5 {
            publisher.sql(
                db,
                &format!(
                    "DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE format('CREATE TABLE many_%s_%s (id int)', {hundred}, i); END LOOP; END $$"
                ),
            );
        }
        pair.create_roles_on(pair.subscriber());
        pair.create_database_on(pair.subscriber());
        pair.subscriber()
            .sql("postgres", &format!("ALTER ROLE {app} CONNECTION LIMIT 0"));
        let _application: Vec<postgres::Client> = (0..9)
            .map(|_| publisher.connect(db, app, Passwords::APP).expect("a login"))
            .collect();
        pair.configure(|config| {
            config["lag"] =
                serde_yaml::from_str("{warning: {retained_wal: 1kB}}").expect("a threshold");
        });
        let json = look(&pair);
        let by_version = match old {
            10 => ("truncate", "pass", "does not send TRUNCATE"),
            _ => ("slot_limit", "warning", "max_slot_wal_keep_size"),
        };
        let planted = [
            ("security_labels", "warning", "dummy"),
            ("identity_full", "warning", "public.wide"),
            ("slot_retention", "warning", "idle"),
            ("other_slots", "warning", "idle (test_decoding"),
            ("other_subscriptions", "blocker", "third"),
            (
                "locks",
                "blocker",
                "max_locks_per_transaction of the publisher is 10",
            ),
            (
                "own_sessions",
                "warning",
                "the publisher has room for 20 sessions, 9 are taken",
            ),
            ("app_limits", "warning", app.as_str()),
            ("wal_level_back", "warning", "of the subscriber is replica"),
            (
                "capacity_back",
                "warning",
                "max_wal_senders of the subscriber is 0",
            ),
            by_version,
        ];
        let missed: Vec<&(&str, &str, &str)> = planted
            .iter()
            .filter(|(id, severity, words)| {
                let says = |it: &&serde_json::Value| {
                    it["severity"] == *severity && it.to_string().contains(words)
                };
                !of(&json, id).iter().any(says)
            })
            .collect();
        assert!(missed.is_empty(), "{missed:?}\n{json:#}");
        assert!(!of(&json, "other_slots")[0].to_string().contains("drop"));
        pair.configure(|config| {
            config["tools"]["path"] = pair.dir().to_str().expect("UTF-8").into();
        });
        assert_found(&look(&pair), "client_programs", "blocker", "pg_dump");
    }
}
