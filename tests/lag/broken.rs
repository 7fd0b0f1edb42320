//! What does not follow: disabled, failing, without its slot, or with a server that does not answer.

use std::fs;
use std::time::Duration;

use super::output::metrics;
use serde_json::Value;

use super::{apply_blocked, json, of_one, pairs, replicating, says, sql_on_subscriber, write_mb};
use crate::support::{Cluster, Pair, matrix, wait};

#[test]
fn a_subscription_that_does_not_follow_is_critical_and_says_why() {
    for &(old, new) in pairs() {
        let pair = replicating(old, new);
        let sub = pair.subname();
        sql_on_subscriber(&pair, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
        let inactive =
            format!("SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{sub}'");
        let is_inactive = || pair.publisher().value("postgres", &inactive) == "t";
        wait::for_("the slot to be left", Duration::from_secs(20), is_inactive);
        let one = of_one(&pair, 2, &[]);
        says(&one, "the subscription is disabled");
        assert_eq!(one["active"], false, "{one}");
        assert_eq!(one["lag_seconds"], 0.0, "{one}");

        // The age of the first change that waits, by the publisher's clock.
        write_mb(&pair, 1);
        std::thread::sleep(Duration::from_millis(1500));
        write_mb(&pair, 1);
        let one = of_one(&pair, 2, &[]);
        let seconds = one["lag_seconds"].as_f64().expect("seconds");
        assert!((1.5..20.0).contains(&seconds), "{one}");
        assert!(is_inactive(), "nobody has taken the slot");

        // Missing here, and so told apart from a lost one.
        sql_on_subscriber(
            &pair,
            &format!("ALTER SUBSCRIPTION {sub} SET (slot_name = NONE)"),
        );
        says(&of_one(&pair, 2, &[]), "has no slot (slot_name = NONE)");
        sql_on_subscriber(
            &pair,
            &format!("ALTER SUBSCRIPTION {sub} SET (slot_name = '{sub}')"),
        );
        pair.publisher().sql(
            "postgres",
            &format!("SELECT pg_drop_replication_slot('{sub}')"),
        );
        let one = of_one(&pair, 2, &[]);
        says(&one, "is missing on the publisher");
        assert!(
            one["active"].is_null() && one["lag_bytes"].is_null(),
            "{one}"
        );

        sql_on_subscriber(
            &pair,
            &format!("ALTER SUBSCRIPTION {sub} SET (slot_name = NONE); DROP SUBSCRIPTION {sub}"),
        );
        let one = of_one(&pair, 2, &[]);
        says(&one, "there is no subscription");
        assert!(one["tables"].is_null(), "{one}");
    }
}

/// The subscription stands, and this is the first suspect.
fn suspect(pair: &Pair, kind: &str, words: &str) -> Value {
    let mut one = Value::Null;
    let named = || {
        let run = pair.flare(&["lag", "--format", "json"]);
        one = run.json()["subscriptions"][0].clone();
        one["suspects"][0]["suspect"] == kind
    };
    if !wait::until(Duration::from_secs(30), named) {
        panic!("{kind} is not the first suspect: {one}");
    }
    // How far a lock has taken it is judged by the limits.
    assert!(kind == "lock" || one["status"] != "ok", "{one}");
    says(&one, words);
    one["suspects"][0].clone()
}

/// What the suspect's statement does on the subscriber lets the subscription go on.
fn mended_by(pair: &Pair, suspect: &Value) {
    let statement = suspect["statement"].as_str().expect("a statement");
    let (sql, _) = statement.split_once(" on the subscriber").expect("where");
    sql_on_subscriber(pair, sql);
    let is_ok = || pair.flare(&["lag"]).status().code() == Some(0);
    wait::for_("the subscription to go on", Duration::from_secs(30), is_ok);
}

#[test]
fn an_apply_worker_that_fails_is_critical_and_what_ends_it_is_named() {
    for &(old, new) in matrix::sample(&[(10, 13), (14, 18)], &[(14, 18)]) {
        let pair = replicating(old, new);
        sql_on_subscriber(&pair, "ALTER TABLE pgbench_accounts DROP COLUMN filler");
        write_mb(&pair, 1);
        let found = suspect(
            &pair,
            "missing_column",
            "column \"filler\" of public.pgbench_accounts is sent and is not on the subscriber",
        );
        pair.flare(&["status"])
            .ok()
            .prints("BROKEN")
            .prints("column \"filler\" of public.pgbench_accounts");
        mended_by(&pair, &found);

        // The row is found in the transaction that waits in the slot.
        let (db, publisher) = (pair.db(), pair.publisher());
        // A row of a table that inherits is none of the table's.
        sql_on_subscriber(
            &pair,
            "INSERT INTO pgbench_accounts (aid) VALUES (900002); CREATE TABLE heirs () INHERITS (pgbench_accounts); INSERT INTO heirs (aid) VALUES (900001)",
        );
        publisher.sql(
            db,
            "INSERT INTO pgbench_accounts (aid) SELECT generate_series(900001, 900003)",
        );
        // Whoever waits for the subscriber sees it too, and does not wait for long.
        let verifying = pair.spawn(&["verify_data", pair.subname()]);
        let found = suspect(
            &pair,
            "key_collision",
            "public.pgbench_accounts of the subscriber already: aid = 900002",
        );
        let verified = verifying.wait();
        verified
            .fails_with("wait for the subscriber: ")
            .says("public.pgbench_accounts of the subscriber already: aid = 900002");
        assert!(
            verified.took() < wait::BUSY * Duration::from_secs(20),
            "{verified}"
        );
        mended_by(&pair, &found);

        // Keys of more than columns: what an exclusion constraint compares, an expression, a predicate.
        let keys = "ALTER TABLE pgbench_branches ADD CONSTRAINT apart EXCLUDE USING gist (int4range(bbalance, bbalance + 10) WITH &&);
             CREATE UNIQUE INDEX alike ON pgbench_tellers (lower(filler)) WHERE tbalance > 0";
        publisher.sql(db, keys);
        sql_on_subscriber(
            &pair,
            &format!(
                "{keys}; INSERT INTO pgbench_branches VALUES (50, 105); INSERT INTO pgbench_tellers VALUES (9001, 1, 5, 'Ann')"
            ),
        );
        publisher.sql(db, "INSERT INTO pgbench_branches VALUES (51, 100)");
        let found = suspect(
            &pair,
            "key_collision",
            "conflicts with one in public.pgbench_branches of the subscriber: bbalance = 100 (constraint apart: EXCLUDE",
        );
        mended_by(&pair, &found);
        publisher.sql(
            db,
            "UPDATE pgbench_tellers SET filler = 'ANN', tbalance = 1 WHERE tid = 1",
        );
        let found = suspect(
            &pair,
            "key_collision",
            "public.pgbench_tellers of the subscriber already: ",
        );
        mended_by(&pair, &found);

        sql_on_subscriber(
            &pair,
            "CREATE FUNCTION by_path(int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 1; END';
             CREATE INDEX by_path ON pgbench_accounts (by_path(aid));
             CREATE OR REPLACE FUNCTION by_path(int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT count(*) FROM pgbench_tellers); END'",
        );
        publisher.sql(db, "INSERT INTO pgbench_accounts (aid) VALUES (900010)");
        suspect(
            &pair,
            "expression",
            "index public.by_path needs a search_path, which is empty in apply: relation \"pgbench_tellers\" does not exist",
        );
        sql_on_subscriber(&pair, "DROP INDEX by_path");
        let is_ok = || pair.flare(&["lag"]).status().code() == Some(0);
        wait::for_("the subscription to go on", Duration::from_secs(30), is_ok);

        let mut lock = apply_blocked(&pair);
        // The size of a table that is not ready is not asked for meanwhile.
        let unready = "UPDATE pg_subscription_rel SET srsubstate = 's', srsublsn = '0/1' WHERE srrelid = 'pgbench_accounts'::regclass";
        sql_on_subscriber(&pair, unready);
        publisher.sql(db, "UPDATE pgbench_accounts SET abalance = 1 WHERE aid = 1");
        let pid: i32 = lock
            .query_one("SELECT pg_backend_pid()", &[])
            .expect("a pid")
            .get(0);
        suspect(
            &pair,
            "lock",
            &format!("a lock on public.pgbench_accounts, held on the subscriber by pid {pid}"),
        );
        drop(lock);

        publisher.sql(
            db,
            "ALTER TABLE pgbench_tellers RENAME TO \"Tellers\"; UPDATE \"Tellers\" SET tbalance = 1",
        );
        suspect(
            &pair,
            "missing_table",
            "table public.Tellers is changed on the publisher and is not on the subscriber",
        );
        let renaming = "ALTER TABLE public.pgbench_tellers RENAME TO \"Tellers\"";
        let status = pair.flare(&["status"]);
        status.ok().prints("BROKEN").prints(renaming);
        sql_on_subscriber(&pair, renaming);
        wait::for_("the subscription to go on", Duration::from_secs(30), is_ok);

        if new >= 16 {
            let owner = &pair.names().owner;
            sql_on_subscriber(
                &pair,
                &format!(
                    "ALTER TABLE pgbench_accounts OWNER TO {owner};
                     ALTER TABLE pgbench_accounts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
                ),
            );
            publisher.sql(db, "UPDATE pgbench_accounts SET abalance = 2 WHERE aid = 1");
            suspect(&pair, "row_security", "as whom rows are applied");
        }
    }
}

#[test]
fn a_lost_slot_is_no_missing_one() {
    for old in [13, 14, 18] {
        let settings = [
            ("max_slot_wal_keep_size", "1MB"),
            ("min_wal_size", "32MB"),
            ("max_wal_size", "32MB"),
        ];
        let publisher = Cluster::private(old, &settings);
        let pair = Pair::between(publisher, Cluster::subscriber(18))
            .with_accounts(10)
            .replicating();
        let sub = pair.subname();
        sql_on_subscriber(&pair, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
        let lost = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{sub}'");
        wait::for_("the slot to be lost", Duration::from_secs(60), || {
            write_mb(&pair, 3);
            pair.publisher().sql("postgres", "SELECT pg_switch_wal()");
            pair.publisher().sql("postgres", "CHECKPOINT");
            pair.publisher().value("postgres", &lost) == "lost"
        });
        let one = of_one(&pair, 2, &[]);
        says(&one, "is lost");
        assert_eq!(one["wal_status"], "lost", "{one}");
        assert!(one["lag_seconds"].is_null(), "{one}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_unknown_in_time() {
    let pair = Pair::alone(14, 18).with_accounts(10).replicating();
    pair.configure(|config| {
        for side in ["publisher", "subscriber"] {
            config["hosts"][side]["conn"]["connect_timeout"] = "1s".into();
        }
    });
    type Act = fn(&Cluster);
    let acts: [(Act, Act); 2] = [
        (Cluster::freeze, Cluster::thaw),
        (Cluster::stop, Cluster::start),
    ];
    for (down, up) in acts {
        for (side, server) in [
            ("publisher", pair.publisher()),
            ("subscriber", pair.subscriber()),
        ] {
            down(server);
            let output = pair.flare(&["lag", "--quiet"]);
            output.code(3).prints("UNKNOWN").prints(side);
            assert!(
                output.took() < wait::BUSY * Duration::from_secs(5),
                "{output}"
            );
            let one = of_one(&pair, 3, &[]);
            says(&one, &format!("the {side} does not answer"));
            assert_eq!(one["lag_bytes"].is_null(), side == "publisher", "{one}");
            assert_eq!(one["tables"].is_null(), side == "subscriber", "{one}");
            up(server);
        }
        pair.publisher().stop();
        pair.subscriber().stop();
        let file = pair.dir().join("none.prom");
        let file = file.to_str().expect("UTF-8");
        let (output, json) = json(&pair, &["--prometheus", file]);
        output
            .code(3)
            .prints("publisher 127.0.0.1")
            .prints("subscriber 127.0.0.1");
        assert_eq!(json["status"], "unknown", "{output}");
        let scrape = metrics(&fs::read_to_string(file).expect("the file"));
        // Of a silent server only that is known.
        let known = ["flare_status", "flare_server_up"];
        let samples = &scrape.samples;
        assert_eq!(samples.len(), 3, "{scrape:?}");
        assert!(
            samples.iter().all(|it| known.contains(&it.metric.as_str())),
            "{scrape:?}"
        );
        pair.publisher().start();
        pair.subscriber().start();
        let is_ok = || pair.flare(&["lag"]).status().code() == Some(0);
        wait::for_("the subscription to go on", Duration::from_secs(60), is_ok);
    }
    // A server that refuses has answered.
    pair.configure(|config| {
        config["hosts"]["publisher"]["conn"]["superuser_password"] = "of another".into();
    });
    let one = of_one(&pair, 3, &[]);
    says(&one, "the publisher answers with a refusal: ");
    says(&one, "check the password of");
    let status = pair.flare(&["status"]);
    status.ok().prints("a server could not be asked");
    assert!(!status.stdout().contains("does not answer"), "{status}");
}
