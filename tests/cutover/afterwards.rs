//! The other commands after a cutover: they follow the data's direction, refuse, or say what to do.

use serde_json::Value;

use crate::support::application::Side;
use crate::support::{Cluster, Pair};

use super::fixture::{await_streaming_from, is_open, ready, switched_to};
use super::state::{Objects, Rows};

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

fn json(pair: &Pair, args: &[&str]) -> Value {
    pair.flare(&[args, &["--format", "json"]].concat()).json()
}

#[test]
#[ignore = "make soak"]
fn what_goes_forward_is_refused_after_a_cutover_and_nothing_is_in_its_way_after_a_fallback() {
    let pair = ready(Pair::alone(14, 17).with_accounts(10));
    let (db, sub) = (pair.db(), pair.subname());
    switched_to(&pair, THERE);
    let app = &pair.names().app;
    pair.subscriber().sql(
        "postgres",
        &format!("ALTER ROLE \"{app}\" SET work_mem = '7MB'"),
    );
    for command in [
        &["replicate_roles"][..],
        &["prepare", sub, "--yes"],
        &["create_publication", db],
        &["create_subscription", sub],
        &["drop_subscription", sub],
        &["replicate_sequences", sub],
        &["reset_replication_status", db],
        &["resume_write", db],
    ] {
        let refused = pair.flare(command);
        refused.code(1).fails_with("has been cut over");
        refused.says("flare fallback leads back");
    }
    let kept = format!("SELECT setconfig FROM pg_db_role_setting WHERE setrole = '{app}'::regrole");
    assert_eq!(
        pair.subscriber().value("postgres", &kept),
        "{work_mem=7MB}",
        "the roles of the server that is written are its own"
    );
    pair.flare(&["vacuum_analyze", db]).ok();
    let sample = json(&pair, &["monitor", db, sub, "--once"]);
    assert_eq!(sample["direction"], "back", "{sample}");
    let once = pair.flare(&["monitor", db, sub, "--once"]);
    let shown = once.ok().stdout();
    let place = |words: &str| {
        shown
            .find(words)
            .unwrap_or_else(|| panic!("{words}: {shown}"))
    };
    assert!(place("Subscriber at ") < place("Publisher: subscription enabled"));
    let prometheus = pair.dir().join("lag.prom");
    let path = prometheus.to_str().expect("a path");
    let lag = pair.flare(&["lag", "--prometheus", path]);
    lag.code(1).prints("setting work_mem of ROLE");
    let text = std::fs::read_to_string(&prometheus).expect("read the textfile");
    assert!(text.contains(&format!("subname=\"{sub}\"")), "{text}");

    // The subscriber's door stays shut, and keeps neither of them out.
    switched_to(&pair, BACK);
    assert!(!is_open(&pair, THERE));
    for command in [
        &["vacuum_analyze", db][..],
        &["create_replication_status_table", db],
        &["reset_replication_status", db],
    ] {
        pair.flare(command).ok();
    }
    assert!(!is_open(&pair, THERE));
}

#[track_caller]
fn assert_nothing_left(pair: &Pair, server: &Cluster) {
    let objects = Objects::of(server, pair.db());
    let found = [
        objects.slots,
        objects.publications,
        objects.subscriptions,
        objects.triggers,
    ];
    assert_eq!(found, [const { Rows::new() }; 4]);
    let flares = "SELECT count(*) FROM pg_namespace WHERE nspname = 'flare'";
    for db in [pair.db(), "postgres"] {
        assert_eq!(server.value(db, flares), "0", "schema flare in {db}");
    }
}

#[test]
fn a_publisher_that_is_gone_for_good_does_not_keep_the_slot_of_the_way_back() {
    let pair = ready(Pair::alone(13, 16).with_accounts(10));
    let sub = pair.subname();
    // As an earlier flare left it.
    pair.subscriber().sql(
        "postgres",
        "CREATE SCHEMA IF NOT EXISTS flare;
         CREATE TABLE IF NOT EXISTS flare.loaded_schema (dboid oid PRIMARY KEY, publisher text NOT NULL,
            fingerprint text NOT NULL, pg_dump_major int NOT NULL, shape text NOT NULL,
            loaded_at timestamptz NOT NULL DEFAULT clock_timestamp());
         INSERT INTO flare.loaded_schema SELECT oid, '1', 'x', 13, 'y' FROM pg_database ON CONFLICT DO NOTHING;
         DELETE FROM flare.loaded_schema
          WHERE dboid IN (SELECT oid FROM pg_database WHERE datname ~ '^(postgres|template)')",
    );
    // As a dump brings it: TRIGGER is flare's, SELECT it had on the publisher before.
    let repl = pair.names().repl.clone();
    pair.flare(&["grant_replication", pair.db()]).ok();
    let granted = format!("GRANT SELECT, TRIGGER ON pgbench_accounts TO {repl}");
    pair.subscriber().sql(pair.db(), &granted);
    switched_to(&pair, THERE);
    await_streaming_from(&pair, THERE);
    pair.publisher().stop();
    let renamed = "ALTER TABLE pgbench_accounts RENAME TO accounts";
    pair.subscriber().sql(pair.db(), renamed);
    let standing = json(&pair, &["status"]);
    let standing = &standing["subscriptions"][0];
    assert_eq!(
        (&standing["stage"], &standing["writable"]),
        (&"cut_over_unseen".into(), &"subscriber".into()),
        "{standing}"
    );
    let lag = json(&pair, &["lag"]);
    let message = lag["subscriptions"][0]["message"].as_str();
    assert!(
        message.is_some_and(|words| words.contains("the publisher does not answer")),
        "{lag}"
    );
    let listed = pair.flare(&["cleanup", sub, "--dry-run"]);
    assert!(listed.ok().stdout().contains("would drop replication slot"));
    let run = pair.flare(&["cleanup", sub, "--yes"]);
    let said = run.ok().to_string();
    assert!(!said.contains("stays, since"), "{said}");
    let kept = format!(
        "SELECT array_to_string(relacl, ' ') ~ '{repl}=r/' FROM pg_class WHERE relname = 'accounts'"
    );
    assert_eq!(
        pair.subscriber().value(pair.db(), &kept),
        "t",
        "what is the user's stays, under whatever name the rest is by now"
    );
    assert_nothing_left(&pair, pair.subscriber());
    assert!(is_open(&pair, THERE));
    pair.publisher().start();
    pair.flare(&["cleanup", sub, "--yes"]).ok();
    assert_nothing_left(&pair, pair.publisher());
    assert!(!is_open(&pair, BACK));
}

#[test]
fn a_subscriber_that_died_is_abandoned_only_when_asked_and_not_forgotten() {
    let pair = ready(Pair::alone(15, 18).with_accounts(10));
    let sub = pair.subname();
    let switched = pair.flare(&["cutover", sub, "--yes"]);
    assert!(
        switched.ok().stdout().contains("nowhere else"),
        "{switched}"
    );
    await_streaming_from(&pair, THERE);
    pair.subscriber().stop();
    let standing = json(&pair, &["status"]);
    let next = standing["subscriptions"][0]["next"].as_str();
    assert!(
        next.is_some_and(|next| next.contains("--abandon-target")),
        "{standing}"
    );
    let refused = pair.flare(&["fallback", sub, "--yes"]);
    refused.code(1).says("--abandon-target");
    assert!(!is_open(&pair, BACK));
    let abandoned = pair.flare(&["fallback", sub, "--abandon-target", "--yes"]);
    // What does not answer could not be shut.
    let said = abandoned.ok().stdout();
    assert!(said.contains("abandoned as it was"), "{abandoned}");
    assert!(!said.contains("nowhere else"), "{abandoned}");
    assert!(is_open(&pair, BACK));
    pair.subscriber().start();
    let said = pair.flare(&["status"]);
    assert!(said.ok().stdout().contains("AND STILL on the subscriber"));
    pair.flare(&["cleanup", sub, "--yes"]).ok();
    assert_nothing_left(&pair, pair.publisher());
    assert_nothing_left(&pair, pair.subscriber());
}
