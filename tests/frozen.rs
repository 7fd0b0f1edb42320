//! A server that stands still holds nobody up, and a signal undoes what is in flight.

use std::time::Duration;

use crate::commands::{self, Needs};
use crate::support::flare::Running;
use crate::support::{Cluster, Pair, wait};

/// The connect timeout is 5 s, and a command may come to need more than one connection.
const BEFORE: Duration = Duration::from_secs(25);
/// A sign of life is asked for every 10 s, and awaited for 5.
const DURING: Duration = Duration::from_secs(45);

#[test]
fn a_server_that_stands_still_from_the_start_ends_every_command() {
    let pair = Pair::alone(14, 16).with_accounts(10).replicating();
    for (frozen, side, enough) in [
        (pair.publisher(), "publisher", Needs::Subscriber),
        (pair.subscriber(), "subscriber", Needs::Publisher),
    ] {
        frozen.freeze();
        let commands = commands::of_migrations(&pair);
        let running: Vec<(&str, Running)> = commands
            .iter()
            // With one server alone these would do their work, and in each other's way.
            .filter(|command| command.needs == Needs::Both || command.name == "count")
            .map(|command| {
                let run = pair.invocation(&command.json()).limit(BEFORE);
                (command.name.as_str(), run.spawn())
            })
            .collect();
        let there = format!("{side} 127.0.0.1:{}", frozen.port());
        for (name, running) in running {
            let run = running.wait();
            let answer = run.json();
            if name == "count" && enough == Needs::Subscriber {
                assert_eq!(answer["subscriber"], 10, "{run}")
            } else {
                assert_ne!(run.status().code(), Some(0), "{run}");
                assert_eq!(answer["changed"], false, "{run}");
            }
            let told = run.stdout().contains(&there) || run.stderr().contains(&there);
            assert!(told, "{there} is missing: {run}");
        }
        frozen.thaw();
    }
}

/// A session that holds a lock, so that a command comes to a halt where the test wants it.
fn held(server: &Cluster, db: &str, sql: &str) -> postgres::Client {
    let mut session = server.superuser_session(db);
    session
        .batch_execute(&format!("BEGIN; {sql}"))
        .expect("hold a lock");
    session
}

fn await_lock(server: &Cluster, name: &str) {
    let waits = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity
          WHERE wait_event_type = 'Lock' AND application_name = 'flare/{name}'"
    );
    wait::for_("it to wait for a lock", Duration::from_secs(30), || {
        server.value("postgres", &waits) == "t"
    });
}

#[test]
fn a_server_that_stops_half_way_ends_every_command() {
    let pair = Pair::alone(13, 17).with_accounts(10);
    pair.create_tables_on(pair.subscriber());
    let (db, old) = (pair.db(), pair.publisher());
    let lock = "LOCK TABLE pgbench_accounts";
    let _publisher = held(old, db, lock);
    let _subscriber = held(pair.subscriber(), db, lock);
    let _catalog = held(old, db, "LOCK TABLE pg_publication");
    let calls: [&[&str]; 4] = [
        &["create_publication", db, "--dry-run"],
        &["count", "--both", db, "pgbench_accounts"],
        &["replicate_schema", db],
        &["vacuum_analyze", db],
    ];
    let start = |args: &&[&str]| {
        let args = [&["--format", "json"], *args].concat();
        pair.invocation(&args).limit(DURING * 2).spawn()
    };
    let running: Vec<Running> = calls.iter().map(start).collect();
    await_lock(old, "create_publication");
    await_lock(old, "count");
    await_lock(old, "replicate_schema");
    await_lock(pair.subscriber(), "vacuum_analyze");
    old.freeze();
    pair.subscriber().freeze();
    let frozen = std::time::Instant::now();
    for running in running {
        let run = running.wait();
        run.code(1);
        assert_eq!(run.json()["ok"], false, "{run}");
        run.says("127.0.0.1:");
        // What may take half a minute on a live server is not waited for that long.
        assert!(!run.stdout().contains("within 30s"), "{run}");
        assert!(frozen.elapsed() < DURING, "{run}");
    }
    old.thaw();
    pair.subscriber().thaw();
}

#[test]
fn signals_end_what_waits_and_nothing_is_left() {
    let pair = Pair::alone(15, 16).with_accounts(10);
    let db = pair.db();
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    let roles = "SELECT count(*) FROM pg_roles";
    let none = subscriber.value("postgres", roles);
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        // The roles are loaded behind this lock.
        let mut holder = held(subscriber, "postgres", "LOCK pg_authid IN EXCLUSIVE MODE");
        let running = pair.spawn(&["--format", "json", "replicate_roles"]);
        await_lock(subscriber, "replicate_roles");
        running.signal(signal);
        let run = running.wait();
        run.code(code);
        assert_eq!(run.json()["changed"], false, "{run}");
        holder.batch_execute("ROLLBACK").expect("let go");
        let sessions =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'flare/%'";
        for server in [publisher, subscriber] {
            wait::for_("sessions to end", Duration::from_secs(10), || {
                server.value("postgres", sessions) == "0"
            });
        }
        assert_eq!(subscriber.value("postgres", roles), none, "{run}");
    }
    pair.create_tables_on(subscriber);
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let _holder = held(subscriber, db, "LOCK TABLE pgbench_tellers");
        let running = pair.spawn(&["vacuum_analyze", db]);
        await_lock(subscriber, "vacuum_analyze");
        running.signal(signal);
        let run = running.wait();
        run.code(code);
        assert!(run.took() < wait::BUSY * Duration::from_secs(5), "{run}");
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'flare/%'";
        wait::for_("sessions to end", Duration::from_secs(10), || {
            subscriber.value("postgres", waits) == "0"
        });
    }
}
