//! Several servers: which is written to when one refuses, falls silent or has been left.

use std::fs;
use std::time::Duration;

use super::{TABLES, admin_url, pair_with_tables};
use crate::support::flare::Invocation;
use crate::support::{Cluster, wait};

#[test]
fn the_next_server_is_tried_when_one_fails_and_nothing_is_lost() {
    let pair = pair_with_tables(16, 17);
    pair.create_roles_on(pair.subscriber());
    pair.create_database_on(pair.subscriber());
    pair.subscriber().sql(pair.db(), TABLES);
    let urls = [pair.publisher(), pair.subscriber()].map(|server| admin_url(server, pair.db()));
    let picture = pair.dir().join("run.svg");
    let running = pair.spawn(&[
        "attack",
        "--any-error",
        "--dsn",
        &urls[0],
        "--dsn",
        &urls[1],
        "--clients",
        "2",
        "--duration",
        "20s",
        "--plot",
        picture.to_str().expect("a path"),
        "--format",
        "json",
    ]);
    let rows = |server: &Cluster| -> u64 {
        server
            .value(pair.db(), "SELECT count(*) FROM items")
            .parse()
            .expect("a count")
    };
    let limit = Duration::from_secs(15);
    wait::for_("rows on the first", limit, || rows(pair.publisher()) > 20);
    assert_eq!(rows(pair.subscriber()), 0);
    pair.publisher().sql(
        "postgres",
        &format!(
            "ALTER DATABASE {db} ALLOW_CONNECTIONS false;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{db}'",
            db = pair.db()
        ),
    );
    wait::for_("rows on the second", limit, || rows(pair.subscriber()) > 20);
    running.signal(libc::SIGTERM);
    let summary = running.wait().ok().json();
    let allow = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", pair.db());
    pair.publisher().sql("postgres", &allow);
    let count = |field: &str| summary[field].as_u64().expect("a count");
    assert!(count("errors") >= 2, "{summary}");
    let written = rows(pair.publisher()) + rows(pair.subscriber());
    let acknowledged = count("acknowledged");
    assert!(
        (acknowledged..=acknowledged + count("unknown")).contains(&written),
        "{written}: {summary}"
    );
    assert!(
        summary["longest_gap_ms"].as_f64() < Some(5000.0),
        "{summary}"
    );
    let by_sqlstate = summary["sqlstates"].as_object().expect("by SQLSTATE");
    let sum: u64 = by_sqlstate
        .values()
        .filter_map(|count| count.as_u64())
        .sum();
    assert_eq!(sum, count("errors"), "{summary}");

    let svg = fs::read_to_string(&picture).expect("read the picture");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    let label = |text: &str| svg.lines().filter(|line| line.trim() == text).count();
    let [old, new] = [pair.publisher(), pair.subscriber()]
        .map(|server| format!("{}:{}", server.host(), server.port()));
    // In the legend; the new one also where it takes over, in the whole run and near by.
    assert_eq!((label(&old), label(&new)), (1, 3));
    assert_eq!(label(&format!("errors ({})", count("errors"))), 1);
    assert_eq!(svg.matches("longest gap: ").count(), 2);
}

/// Every write to items fails with this SQLSTATE.
fn refuse(server: &Cluster, db: &str, sqlstate: &str) {
    server.sql(
        db,
        &format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE 'not here' USING ERRCODE = '{sqlstate}'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON items EXECUTE PROCEDURE refuse();
             CREATE TRIGGER refuse BEFORE INSERT ON sessions EXECUTE PROCEDURE refuse()"
        ),
    );
}

#[test]
fn a_fenced_server_is_left_for_the_next() {
    let pair = pair_with_tables(11, 18);
    pair.create_roles_on(pair.subscriber());
    pair.create_database_on(pair.subscriber());
    pair.subscriber().sql(pair.db(), TABLES);
    refuse(pair.publisher(), pair.db(), "25006");
    let urls = [pair.publisher(), pair.subscriber()].map(|server| admin_url(server, pair.db()));
    let path = pair.dir().join("ledger");
    let ledger = path.to_str().expect("a path");
    let attack = [
        &[
            "attack",
            "--any-error",
            "--format",
            "json",
            "--dsn",
            &urls[0],
            "--dsn",
            &urls[1],
        ][..],
        &["--clients", "3", "--duration", "1s", "--ledger", ledger],
    ];
    let summary = pair.flare(&attack.concat()).ok().json();
    assert!(summary["acknowledged"].as_u64() > Some(0), "{summary}");
    assert!(
        summary["sqlstates"]["25006"].as_u64() > Some(0),
        "{summary}"
    );
    assert_eq!(summary["unknown"], 0, "{summary}");
    let rows = "SELECT count(*) FROM items";
    assert_eq!(pair.publisher().value(pair.db(), rows), "0");
    let verify = ["verify_attack", "--ledger", ledger, "--dsn", &urls[1]];
    pair.flare(&verify).ok();
}

#[test]
fn a_key_that_is_there_already_is_an_error_of_this_server_and_said() {
    let pair = pair_with_tables(12, 18);
    pair.create_roles_on(pair.subscriber());
    pair.create_database_on(pair.subscriber());
    pair.subscriber().sql(pair.db(), TABLES);
    refuse(pair.publisher(), pair.db(), "23505");
    let urls = [pair.publisher(), pair.subscriber()].map(|server| admin_url(server, pair.db()));
    let running = pair.spawn(&[
        "attack",
        "--any-error",
        "--dsn",
        &urls[0],
        "--dsn",
        &urls[1],
        "--format",
        "json",
    ]);
    running.until_stderr("not here");
    pair.publisher().sql(
        pair.db(),
        "DROP TRIGGER refuse ON items; DROP TRIGGER refuse ON sessions",
    );
    wait::for_("rows on the first", Duration::from_secs(15), || {
        let rows = "SELECT count(*) > 20 FROM items";
        pair.publisher().value(pair.db(), rows) == "t"
    });
    running.signal(libc::SIGINT);
    let summary = running.wait().ok().json();
    assert!(
        summary["sqlstates"]["23505"].as_u64() > Some(0),
        "{summary}"
    );
    let rows = "SELECT count(*) FROM items";
    assert_eq!(pair.subscriber().value(pair.db(), rows), "0");
}

#[test]
fn a_frozen_server_is_left_for_the_next() {
    let servers = [Cluster::private(18, &[]), Cluster::private(18, &[])];
    for server in &servers {
        server.sql("postgres", "CREATE DATABASE flare_test");
        server.sql("flare_test", TABLES);
    }
    let urls = [&servers[0], &servers[1]].map(|server| admin_url(server, "flare_test"));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger");
    let args = [
        &[
            "attack",
            "--any-error",
            "--format",
            "json",
            "--dsn",
            &urls[0],
            "--dsn",
            &urls[1],
        ][..],
        &["--clients", "3", "--ledger", path.to_str().expect("a path")],
    ];
    let running = Invocation::new(&args.concat()).spawn();
    // The heartbeat, too, gives up a frozen server in its own time.
    let written = |server: &Cluster| {
        let all = "SELECT count(*) > 20 AND EXISTS (SELECT FROM sessions) FROM items";
        server.value("flare_test", all)
    };
    let limit = Duration::from_secs(60);
    wait::for_("rows on the first", limit, || written(&servers[0]) == "t");
    let sessions = |server: &Cluster, began: &str| {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flare/attack' AND backend_start <= {began}"
        );
        server.value("postgres", &count)
    };
    let (before, all) = (
        servers[0].value("postgres", "SELECT now()"),
        sessions(&servers[0], "now()"),
    );
    servers[0].freeze();
    wait::for_("rows on the second", limit, || written(&servers[1]) == "t");
    // One that has not given the frozen server up yet goes on there when it wakes up.
    wait::for_("all to move", limit, || {
        sessions(&servers[1], "now()") == all
    });
    // Woken up, the old sessions are nobody's any more.
    servers[0].thaw();
    wait::for_("the old sessions to end", limit, || {
        // A busy machine may lead a client back to the first.
        sessions(&servers[0], &format!("'{before}'")) == "0"
    });
    running.signal(libc::SIGTERM);
    let summary = running.wait().ok().json();
    let unknown = summary["unknown"].as_u64().expect("a count");
    assert!(unknown > 0, "{summary}");
    assert!(
        summary["sqlstates"]["connection"].as_u64() > Some(0),
        "{summary}"
    );
    let text = fs::read_to_string(&path).expect("read the ledger");
    let marked = text.matches(r#""outcome":"unknown""#).count() as u64;
    // The heartbeat's, at the beginning, is the other one.
    assert_eq!(marked, unknown + 1);
}

#[test]
fn a_frozen_server_does_not_hold_the_end_up() {
    let server = Cluster::private(18, &[]);
    server.sql("postgres", "CREATE DATABASE flare_test");
    server.sql("flare_test", TABLES);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger");
    let url = admin_url(&server, "flare_test");
    let running = Invocation::new(&[
        "attack",
        "--dsn",
        &url,
        "--clients",
        "2",
        "--ledger",
        path.to_str().expect("a path"),
        "--format",
        "json",
    ])
    .spawn();
    wait::for_("rows", Duration::from_secs(15), || {
        server.value("flare_test", "SELECT count(*) > 20 FROM items") == "t"
    });
    server.freeze();
    std::thread::sleep(Duration::from_millis(200));
    let since = std::time::Instant::now();
    running.signal(libc::SIGINT);
    let summary = running.wait().ok().json();
    assert!(
        since.elapsed() < wait::BUSY * Duration::from_secs(4),
        "{summary}"
    );
    server.thaw();
    assert!(summary["unknown"].as_u64() > Some(0), "{summary}");
    let ledger = path.to_str().expect("a path");
    wait::for_("the sessions to end", Duration::from_secs(15), || {
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flare/attack'";
        server.value("postgres", left) == "0"
    });
    Invocation::new(&["verify_attack", "--ledger", ledger, "--dsn", &url])
        .run()
        .ok();
}
