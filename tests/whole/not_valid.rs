//! Constraints that old rows violate: out of the way of the copy, there afterwards, and named when apply stops at one.

use std::time::Duration;

use crate::support::{Cluster, Pair, matrix, wait};

const ROWS: &str = "
    CREATE TABLE \"Old\" (id int PRIMARY KEY, a int); CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (\"Old\");
    INSERT INTO \"Old\" VALUES (1, -1); INSERT INTO heir VALUES (2, -2);
    ALTER TABLE heir ADD CONSTRAINT \"p;os\" CHECK (a > 0) NOT VALID; ALTER TABLE \"Old\" ADD CONSTRAINT \"p;os\" CHECK (a > 0) NOT VALID;
    CREATE DOMAIN late AS int; CREATE TABLE lates (id int PRIMARY KEY, d late, n int); INSERT INTO lates VALUES (1, -1, 0);
    ALTER DOMAIN late ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID";

const NULLS: &str = "
    CREATE TABLE nulls (id int PRIMARY KEY, a int); INSERT INTO nulls VALUES (1, NULL);
    ALTER TABLE nulls ADD CONSTRAINT filled NOT NULL a NOT VALID";

fn constraints(pair: &Pair, server: &Cluster) -> String {
    server.value(
        pair.db(),
        "SELECT string_agg(format('%s %s %s', conname, pg_get_constraintdef(oid), convalidated), ', ' ORDER BY conname, conrelid::regclass::text)
           FROM pg_constraint WHERE NOT convalidated",
    )
}

#[test]
fn constraints_that_old_rows_violate_wait_for_postgresqls_own_copy() {
    for &(old, new) in matrix::sample(&[(10, 14), (18, 18)], &[(10, 14)]) {
        let pair = Pair::new(old, new);
        let (db, sub) = (pair.db(), pair.subname());
        let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
        pair.create_roles_on(subscriber);
        pair.configure(|config| {
            config["publications"][db]
                .as_mapping_mut()
                .expect("a mapping")
                .remove("replica_identity_full_tables");
        });
        publisher.sql(db, ROWS);
        if old < 18 {
            for args in [
                vec!["grant_replication", db],
                vec!["replicate_schema", db],
                vec!["create_publication", db],
                vec!["create_subscription", "--use-repl-user", sub],
            ] {
                pair.flare(&args).ok();
            }
            pair.await_tables_ready();
            pair.flare(&["replicate_schema", db]).ok();
        } else {
            publisher.sql(db, NULLS);
            // Stopped once they are taken off, and the copy comes to its end by itself.
            let prepare = ["prepare", sub, "--yes", "--copy", "native"];
            let killed = pair.spawn(&prepare);
            let has_begun = "SELECT FROM pg_subscription_rel LIMIT 1";
            wait::for_("the copy", Duration::from_secs(60), || {
                killed.has_ended()
                    || subscriber
                        .try_rows(db, has_begun)
                        .is_ok_and(|rows| !rows.is_empty())
            });
            killed.kill_9();
            assert_eq!(killed.wait().signal(), Some(9));
            pair.await_tables_ready();
            pair.flare(&prepare)
                .ok()
                .says("constraints of domains are NOT VALID");
        }
        assert_eq!(
            constraints(&pair, subscriber),
            constraints(&pair, publisher)
        );
        pair.flare(&["verify_schema", sub]).ok();
        pair.flare(&["verify_data", sub]).ok();

        // The publisher does not look at the domain of a column that is left alone; apply does.
        publisher.sql(db, "UPDATE lates SET n = 1");
        let mut said = String::new();
        let named = wait::until(Duration::from_secs(40), || {
            said = pair.flare(&["lag", "--format", "json"]).json()["subscriptions"][0]["suspects"]
                [0]
            .to_string();
            said.contains(
                "constraint \\\"positive\\\" of domain public.late, which public.lates has",
            )
        });
        assert!(named, "{said}");
        assert!(
            said.contains("ALTER DOMAIN \\\"public\\\".\\\"late\\\" DROP CONSTRAINT"),
            "{said}"
        );
        publisher.sql(db, "ALTER DOMAIN late DROP CONSTRAINT positive");
        subscriber.sql(
            db,
            "SET default_transaction_read_only = off; ALTER DOMAIN late DROP CONSTRAINT positive",
        );
        pair.flare(&["verify_data", sub]).ok();
        pair.flare(&["cutover", sub, "--yes"]).ok();
        pair.flare(&["cleanup", sub, "--yes"]).ok();
        assert_eq!(
            constraints(&pair, subscriber),
            constraints(&pair, publisher)
        );
    }
}
