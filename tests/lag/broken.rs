//! What does not follow: disabled, failing, without its slot, or with a server that does not answer.

use std::fs;
use std::time::Duration;

use super::output::metrics;
use super::{PAIRS, json, of_one, replicating, says, sql_on_subscriber, write_mb};
use crate::support::{Cluster, Pair, wait};

#[test]
fn a_subscription_that_does_not_follow_is_critical_and_says_why() {
    for (old, new) in PAIRS {
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

#[test]
fn an_apply_worker_that_fails_is_critical() {
    for (old, new) in PAIRS {
        let pair = replicating(old, new);
        sql_on_subscriber(&pair, "ALTER TABLE pgbench_accounts DROP COLUMN filler");
        write_mb(&pair, 1);
        wait::for_("apply to fail", Duration::from_secs(30), || {
            let log = pair.subscriber().log();
            log.contains("missing replicated column")
                || log.contains("missing some replicated columns")
        });
        // Younger than that, it is no standstill yet.
        std::thread::sleep(Duration::from_secs(3));
        for _ in 0..3 {
            let one = of_one(&pair, 2, &[]);
            says(&one, "subscriber's log");
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
            assert!(output.took() < Duration::from_secs(9), "{output}");
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
}
