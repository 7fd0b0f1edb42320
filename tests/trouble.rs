//! What is wrong with the servers or the configuration is said clearly, with a next step, and nothing is half done.

use std::time::Duration;

use serde_yaml::Value;

use crate::support::output::Output;
use crate::support::pooler::{Mode, Pooler};
use crate::support::{Cluster, Pair, wait};

const REST: &str = "
    SELECT (SELECT count(*) FROM pg_subscription) || ' ' || (SELECT count(*) FROM pg_publication)
        || ' ' || (SELECT count(*) FROM pg_replication_slots)";

fn set(pair: &Pair, side: &str, key: &str, value: impl Into<Value>) {
    let value = value.into();
    pair.configure(|config| config["hosts"][side]["conn"][key] = value);
}

fn subscribe(pair: &Pair) -> Output {
    pair.flare(&["create_subscription", "--use-repl-user", pair.subname()])
}

/// No subscription, no slot.
#[track_caller]
fn assert_nothing_subscribed(pair: &Pair, run: &Output) {
    let rest = |server: &Cluster| server.value(pair.db(), REST);
    assert_eq!(rest(pair.subscriber()), "0 0 0", "{run}");
    assert_eq!(rest(pair.publisher()), "0 1 0", "{run}");
}

#[test]
fn what_the_configuration_has_wrong_is_said_with_where_to_correct_it() {
    let pair = Pair::new(16, 18).with_accounts(10).replicating();
    let (db, sub) = (pair.db().to_owned(), pair.subname().to_owned());
    let right = std::fs::read_to_string(pair.config_path()).expect("read flare.yml");
    let replicate = ["replicate_sequences", &sub];
    let count = ["count", &db, "pgbench_accounts"];
    type Case<'a> = (&'a str, &'a str, Value, &'a [&'a str], &'a [&'a str]);
    let cases: [Case; 8] = [
        (
            "subscriber",
            "host",
            "nowhere.invalid".into(),
            &replicate,
            &["nowhere.invalid", "subscriber"],
        ),
        (
            "publisher",
            "host",
            "nowhere.invalid".into(),
            &replicate,
            &["nowhere.invalid", "publisher"],
        ),
        (
            "publisher",
            "port",
            1.into(),
            &replicate,
            &["127.0.0.1:1", "publisher", "firewall"],
        ),
        (
            "publisher",
            "superuser_password",
            "wrong".into(),
            &replicate,
            &["password authentication failed", "pg_hba.conf"],
        ),
        (
            "publisher",
            "superuser",
            "no such user".into(),
            &replicate,
            &["no such user", "pg_hba.conf"],
        ),
        (
            "subscriber",
            "db_owner_password",
            "wrong".into(),
            &count,
            &["password authentication failed", &pair.names().owner],
        ),
        (
            "subscriber",
            "sslmode",
            "require".into(),
            &count,
            &["TLS", "subscriber"],
        ),
        (
            "subscriber",
            "sslmode",
            "verify-full".into(),
            &count,
            &["sslrootcert"],
        ),
    ];
    for (side, key, value, command, says) in cases {
        set(&pair, side, key, value);
        let run = pair.flare(command);
        let code = run.status().code();
        assert!(matches!(code, Some(1 | 2)), "{run}");
        run.says("error: ").says("hint: ");
        for words in says {
            run.says(words);
        }
        pair.write_config(&right);
    }
}

#[test]
fn a_database_or_a_publication_that_is_missing_is_named() {
    let pair = Pair::new(15, 18).with_accounts(10);
    let (db, sub) = (pair.db(), pair.subname());
    pair.create_roles_on(pair.subscriber());
    // No database on the subscriber.
    for command in [
        &["count", db, "pgbench_accounts"][..],
        &["vacuum_analyze", db],
        &["replicate_sequences", sub],
        &["create_subscription", sub],
    ] {
        pair.flare(command).code(1).says(db).says("hint: ");
    }
    // An option that CREATE SUBSCRIPTION would refuse, after hours of a copy.
    for (option, says) in [
        ("{slot_name: mine}", "flare sets it itself"),
        ("{binary: yes please}", "it takes on, off"),
        ("{slotname: x}", "no such option"),
    ] {
        pair.configure(|config| {
            let option = serde_yaml::from_str(option).expect("YAML");
            config["subscriptions"][sub]["options"] = option;
        });
        for command in [&["preflight"][..], &["prepare", sub, "--yes"]] {
            let run = pair.flare(command);
            run.code(2).says(says).says("options");
        }
    }
    pair.configure(|config| {
        let subscription = config["subscriptions"][sub].as_mapping_mut();
        subscription.expect("a mapping").remove("options");
    });
    pair.create_database_on(pair.subscriber());
    pair.create_pgbench_on(pair.subscriber());
    // No publication on the publisher.
    let run = subscribe(&pair);
    run.code(1)
        .says(&pair.names().pubname)
        .says("create_publication");
    // No table on the subscriber.
    pair.flare(&["grant_replication", "--use-db-owner", db])
        .ok();
    pair.flare(&["create_publication", db]).ok();
    pair.subscriber().sql(db, "DROP TABLE pgbench_tellers");
    let run = subscribe(&pair);
    run.code(1).says("pgbench_tellers").says("replicate_schema");
    // No database on the publisher.
    pair.configure(|config| {
        let publication = config["publications"][db].clone();
        config["publications"]["nowhere"] = publication;
    });
    for command in [
        "create_publication",
        "grant_create",
        "replicate_schema",
        "pause_write",
    ] {
        let run = pair.flare(&[command, "nowhere"]);
        assert_ne!(run.status().code(), Some(0), "{run}");
        run.says("nowhere").says("hint: ");
    }
}

#[test]
fn a_publisher_that_cannot_replicate_is_refused_with_the_setting() {
    for (version, setting, value, says) in [
        (13, "wal_level", "replica", "wal_level"),
        (14, "max_replication_slots", "0", "max_replication_slots"),
        (15, "max_wal_senders", "0", "max_wal_senders"),
    ] {
        let publisher = Cluster::private(version, &[(setting, value)]);
        let pair = Pair::between(publisher, Cluster::private(17, &[])).with_accounts(10);
        let pair = pair.published();
        let run = subscribe(&pair);
        run.code(1).says(says).says("hint: ");
        assert_nothing_subscribed(&pair, &run);
    }
}

#[test]
fn full_slots_are_said_and_leave_nothing() {
    let publisher = Cluster::private(12, &[("max_replication_slots", "1")]);
    let pair = Pair::between(publisher, Cluster::private(16, &[]))
        .with_accounts(10)
        .published();
    let take = "SELECT pg_create_physical_replication_slot('taken')";
    pair.publisher().sql("postgres", take);
    let run = subscribe(&pair);
    run.code(1).says("max_replication_slots").says("hint: ");
    let rest = pair.publisher().value(pair.db(), REST);
    assert_eq!(rest, "0 1 1", "{run}");
    assert_eq!(pair.subscriber().value(pair.db(), REST), "0 0 0", "{run}");
    pair.publisher()
        .sql("postgres", "SELECT pg_drop_replication_slot('taken')");
    // A slot for the subscription and one for its copy do not fit either, at one time.
    pair.publisher()
        .configure(&[("max_replication_slots", "2")]);
    pair.publisher().stop();
    pair.publisher().start();
    subscribe(&pair).ok();
}

#[test]
fn sessions_that_begin_read_only_hold_no_change_up() {
    let pair = Pair::alone(14, 18).with_accounts(10);
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql(
            "postgres",
            "ALTER SYSTEM SET default_transaction_read_only = on",
        );
        server.reload();
    }
    pair.flare(&["replicate_roles"]).ok();
    pair.flare(&["replicate_schema", pair.db()]).ok();
    pair.flare(&["grant_replication", "--use-db-owner", pair.db()])
        .ok();
    pair.flare(&["create_publication", pair.db()]).ok();
    pair.flare(&[
        "create_subscription",
        "--use-repl-user",
        "--wait",
        pair.subname(),
    ])
    .ok();
    let count = ["count", "--both", pair.db(), "pgbench_accounts"];
    pair.flare(&count)
        .ok()
        .prints("publisher 10\nsubscriber 10");
}

#[test]
fn a_publisher_that_dies_while_it_is_subscribed_to_leaves_what_the_next_run_finishes() {
    let pair = Pair::alone(13, 16).with_accounts(10).published();
    // The slot waits for this transaction, and the server goes.
    let mut blocker = pair.publisher().superuser_session(pair.db());
    blocker
        .batch_execute("BEGIN; SELECT txid_current()")
        .expect("begin");
    let running = pair.spawn(&["create_subscription", "--use-repl-user", pair.subname()]);
    running.until_stderr("waits for an open transaction");
    pair.publisher().kill_9();
    let run = running.wait();
    run.code(1).says("publisher 127.0.0.1:").says("hint: ");
    let slots = "SELECT count(*) FROM pg_subscription";
    assert_eq!(pair.subscriber().value(pair.db(), slots), "0", "{run}");
    pair.publisher().start();
    pair.flare(&[
        "create_subscription",
        "--use-repl-user",
        "--wait",
        pair.subname(),
    ])
    .ok();
    wait::for_("all rows", Duration::from_secs(10), || {
        let count = "SELECT count(*) FROM pgbench_accounts";
        pair.subscriber().value(pair.db(), count) == "10"
    });
}

#[test]
fn a_standby_is_refused_before_anything_is_tried() {
    let pair = Pair::alone(13, 17).with_accounts(10);
    let publisher = pair.publisher();
    publisher.stop();
    std::fs::write(publisher.data_dir().join("standby.signal"), "").expect("make it a standby");
    publisher.start();
    for command in [
        &["create_publication", pair.db()][..],
        &["resume_write", pair.db()],
    ] {
        pair.flare(command)
            .code(1)
            .says("it is a standby")
            .says("its primary");
    }
}

#[test]
fn a_pooler_in_a_servers_place_is_refused() {
    let pair = Pair::new(16, 18).with_accounts(10).replicating();
    let pooler = Pooler::start(&pair, Mode::Transaction);
    set(&pair, "publisher", "port", pooler.port());
    let commands: [&[&str]; 3] = [
        &["verify_connectivity"],
        &["preflight"],
        &["replicate_sequences", pair.subname()],
    ];
    let server_itself = "hosts.publisher.conn needs the host and port of the server itself";
    for words in [
        "unsupported startup parameter",
        "the settings of this session have not arrived",
    ] {
        for command in commands {
            let run = pair.flare(command);
            run.code(1).says(words).says(server_itself);
        }
        pooler.keep_options_back();
    }
}
