//! create_subscription and drop_subscription on real servers.

mod dropped;
mod interrupted;
mod refused;
mod rights;

use std::time::Duration;

use crate::support::output::Output;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, matrix, wait};

const SLOTS: &str = "SELECT coalesce(string_agg(slot_name, ' '), '') FROM pg_replication_slots WHERE database = current_database()";
const SUBSCRIPTIONS: &str = "SELECT count(*) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Copies nothing of one table.
const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                 $$BEGIN PERFORM pg_sleep(300); RETURN NEW; END$$;
             CREATE TRIGGER slow BEFORE INSERT ON pgbench_accounts FOR EACH ROW EXECUTE PROCEDURE slow();
             ALTER TABLE pgbench_accounts ENABLE ALWAYS TRIGGER slow";

fn count(server: &Cluster, pair: &Pair) -> String {
    server.value(pair.db(), "SELECT count(*) FROM pgbench_accounts")
}

fn create(pair: &Pair) -> Output {
    pair.flare(&["create_subscription", "--use-repl-user", pair.subname()])
}

fn create_and_wait(pair: &Pair) -> Output {
    pair.flare(&[
        "create_subscription",
        "--use-repl-user",
        "--wait",
        pair.subname(),
    ])
}

fn nothing_is_left(pair: &Pair) {
    // Before 14 a copy's own slot is temporary: it goes with its walsender, a moment after the worker.
    wait::for_("the slots to be gone", Duration::from_secs(15), || {
        pair.publisher().value(pair.db(), SLOTS).is_empty()
    });
    assert_eq!(pair.subscriber().value(pair.db(), SUBSCRIPTIONS), "0");
}

fn goes_without_trace(pair: &Pair) {
    pair.flare(&["drop_subscription", pair.subname()]).ok();
    nothing_is_left(pair);
}

#[test]
fn a_subscription_copies_follows_and_goes_on_every_version() {
    matrix::for_each_pair(|old, new| {
        let pair = Pair::new(old, new).with_accounts(500).published();
        let (db, sub) = (pair.db(), pair.subname());
        let dry = pair.flare(&["create_subscription", sub, "--use-repl-user", "--dry-run"]);
        dry.ok()
            .prints("would create subscription")
            .prints("create_slot = false");
        nothing_is_left(&pair);
        for changed in [true, false] {
            let run = pair.flare(&[
                "create_subscription",
                "--use-repl-user",
                "--wait",
                sub,
                "--format",
                "json",
            ]);
            assert_eq!(run.ok().json()["changed"], changed, "{run}");
        }
        assert_eq!(count(pair.subscriber(), &pair), "500");
        pair.publisher()
            .sql(db, "DELETE FROM pgbench_accounts WHERE aid <= 100");
        pair.await_caught_up();
        assert_eq!(count(pair.subscriber(), &pair), "400");

        // A table that came later is skipped in silence until the subscription takes it.
        for server in [pair.publisher(), pair.subscriber()] {
            server.sql(
                db,
                &format!(
                    "SET ROLE {}; CREATE TABLE later (a int PRIMARY KEY)",
                    pair.names().owner
                ),
            );
        }
        pair.publisher().sql(db, "INSERT INTO later VALUES (1)");
        create_and_wait(&pair).ok().prints("public.later");
        assert_eq!(
            pair.subscriber().value(db, "SELECT count(*) FROM later"),
            "1"
        );

        for changed in [true, false] {
            let run = pair.flare(&["drop_subscription", sub, "--format", "json"]);
            assert_eq!(run.ok().json()["changed"], changed, "{run}");
        }
        nothing_is_left(&pair);
        assert_eq!(count(pair.subscriber(), &pair), "400");
    });
}

#[test]
fn options_reach_the_subscription() {
    let pair = Pair::new(17, 18).with_accounts(10).published();
    let (sub, db) = (pair.subname(), pair.db());
    pair.configure(|c| {
        c["subscriptions"][sub]["options"] = serde_yaml::from_str(
            "{streaming: parallel, binary: true, two_phase: on, origin: none, failover: true, copy_data: off}",
        )
        .expect("options");
    });
    create_and_wait(&pair).ok();
    let options =
        "SELECT substream::text || subbinary || suborigin || subfailover FROM pg_subscription";
    assert_eq!(
        pair.subscriber()
            .value(db, &format!("{options} WHERE subname = '{sub}'")),
        "ptruenonetrue"
    );
    assert_eq!(count(pair.subscriber(), &pair), "0");
    let slot = format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{sub}'");
    assert_eq!(pair.publisher().value(db, &slot), "t");
    pair.publisher()
        .sql(db, "INSERT INTO pgbench_accounts (aid) VALUES (77)");
    wait::for_("the row", Duration::from_secs(20), || {
        count(pair.subscriber(), &pair) == "1"
    });
    goes_without_trace(&pair);
}

#[test]
fn no_password_is_in_the_servers_logs() {
    let settings = [
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
    ];
    let (publisher, subscriber) = (Cluster::private(16, &[]), Cluster::private(17, &settings));
    let pair = Pair::between(publisher, subscriber)
        .with_accounts(10)
        .published();
    create_and_wait(&pair).ok();
    let log = pair.subscriber().log();
    assert!(log.contains("pg_subscription"), "statements are logged");
    let part = &Passwords::REPL[..4];
    assert!(!log.contains("CREATE SUBSCRIPTION") && !log.contains(&format!("password='{part}")));
}
