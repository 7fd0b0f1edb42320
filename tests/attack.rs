//! The load generator: what it may write to, what it counts, and that its ledger proves what it says.

use std::fs;
use std::time::Duration;

use crate::support::flare::Invocation;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, wait};

pub const TABLES: &str = "CREATE TABLE items (id text PRIMARY KEY, name text NOT NULL);
    CREATE TABLE sessions (id text PRIMARY KEY, last_keepalive_at timestamptz NOT NULL);";

pub fn admin_url(server: &Cluster, db: &str) -> String {
    server.url(db, server.admin(), Passwords::ADMIN)
}

/// A database of the test's own, with the generator's tables.
fn pair_with_tables(old: u32, new: u32) -> Pair {
    let pair = Pair::new(old, new);
    pair.publisher().sql(pair.db(), TABLES);
    pair
}

#[test]
fn the_database_is_made_once_and_only_dropped_when_it_is_its_own() {
    let server = Cluster::private(18, &[]);
    let base = admin_url(&server, "postgres");
    let create = |args: &[&str]| {
        let args = [
            &["create_attack_db", "--format", "json", "--base-dsn", &base],
            args,
        ]
        .concat();
        Invocation::new(&args).run()
    };
    let exists = "SELECT count(*) FROM pg_database WHERE datname = 'flare_test'";
    create(&[]).code(1).fails_with("no such role");
    assert_eq!(server.value("postgres", exists), "0");

    server.sql("postgres", "CREATE ROLE app LOGIN");
    let shown = create(&["--dry-run"]).ok().json();
    assert_eq!(
        (&shown["changed"], &shown["dry_run"]),
        (&false.into(), &true.into())
    );
    assert_eq!(server.value("postgres", exists), "0");

    assert_eq!(create(&[]).ok().json()["changed"], true);
    assert_eq!(create(&[]).ok().json()["changed"], false);
    server.sql(
        "flare_test",
        "SET ROLE app; INSERT INTO items VALUES ('a', 'b')",
    );
    server.sql("flare_test", "REVOKE INSERT ON items FROM app");
    assert_eq!(create(&[]).ok().json()["changed"], true);

    assert_eq!(create(&["--drop-db-before"]).ok().json()["changed"], true);
    assert_eq!(
        server.value("flare_test", "SELECT count(*) FROM items"),
        "0"
    );

    server.sql("flare_test", "CREATE TABLE invoices (id bigint)");
    create(&["--drop-db-before"])
        .code(1)
        .fails_with("public.invoices");
    assert_eq!(
        server.value("flare_test", "SELECT count(*) FROM invoices"),
        "0"
    );
}

#[test]
fn only_tables_of_its_own_shape_are_written_to() {
    let pair = Pair::new(17, 18);
    let url = admin_url(pair.publisher(), pair.db());
    let attack = || pair.flare(&["attack", "--dsn", &url, "--duration", "1s"]);
    attack()
        .code(1)
        .fails_with("neither \"flare_test\" nor holds");
    let wider = TABLES.replace("name text NOT NULL", "name text NOT NULL, price numeric");
    pair.publisher().sql(pair.db(), &wider);
    attack().code(1).fails_with("price numeric");
    assert_eq!(
        pair.publisher()
            .value(pair.db(), "SELECT count(*) FROM items"),
        "0"
    );
}

#[test]
fn no_server_at_all_is_a_failure() {
    let dsn = "postgres://a:b@127.0.0.1:1/flare_test";
    let output = Invocation::new(&["attack", "--format", "json", "--dsn", dsn]).run();
    output.code(1).fails_with("127.0.0.1:1/flare_test");
    assert_eq!(output.json()["ok"], false);
}

#[test]
fn the_ledger_is_what_the_server_has() {
    let pair = pair_with_tables(10, 18);
    let publisher = pair.publisher();
    let url = admin_url(publisher, pair.db());
    publisher.sql(pair.db(), "INSERT INTO items VALUES ('before', 'x')");
    let path = pair.dir().join("ledger");
    let ledger = path.to_str().expect("a path");
    let attack = [
        "attack",
        "--dsn",
        &url,
        "--clients",
        "3",
        "--rate",
        "600",
        "--duration",
        "2s",
        "--ledger",
        ledger,
        "--format",
        "json",
    ];
    // The second run goes on where the first one ended.
    let counted: u64 = [&attack, &attack]
        .into_iter()
        .map(|attack| {
            let summary = pair.flare(attack).ok().json();
            assert_eq!(
                (&summary["errors"], &summary["unknown"]),
                (&0.into(), &0.into())
            );
            let rate = summary["rate"].as_f64().expect("a rate");
            assert!((1.0..700.0).contains(&rate), "{summary}");
            for field in ["longest_gap_ms", "p50_ms", "p99_ms", "seconds"] {
                assert!(summary[field].as_f64() > Some(0.0), "{field}: {summary}");
            }
            summary["acknowledged"].as_u64().expect("a count")
        })
        .sum();
    let text = fs::read_to_string(&path).expect("read the ledger");
    let acknowledged = text
        .lines()
        .filter(|line| line.contains(r#""outcome":"acknowledged""#));
    assert_eq!(acknowledged.count() as u64, counted);
    for op in ["insert", "update", "delete"] {
        assert!(text.contains(&format!(r#""op":"{op}""#)), "no {op}");
    }

    let verify = || {
        pair.flare(&[
            "verify_attack",
            "--ledger",
            ledger,
            "--dsn",
            &url,
            "--format",
            "json",
        ])
    };
    let replay = verify().ok().json();
    assert_eq!(
        (&replay["lost"], &replay["extra"], &replay["wrong"]),
        (&0.into(), &0.into(), &0.into())
    );

    // Of clients that write thousands of lines, one that nobody would miss in the rows.
    let lines: Vec<&str> = text.lines().collect();
    let deleted = lines
        .iter()
        .rposition(|line| line.contains(r#""op":"delete""#));
    let row = lines[deleted.expect("a deleted row")].split('"').nth(11);
    let row = row.expect("its id");
    let inserted = lines.iter().position(|line| line.contains(row));
    let inserted = inserted.expect("its first line");
    let changed = lines[inserted].replace(row, "another");
    let tampered = |change: &dyn Fn(&mut Vec<String>), code: i32, words: &str| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        change(&mut lines);
        fs::write(&path, lines.join("\n") + "\n").expect("write the ledger");
        verify().code(code).fails_with(words);
    };
    tampered(
        &|lines| drop(lines.remove(inserted)),
        3,
        "of the ledger 1 line missing",
    );
    tampered(
        &|lines| lines.push(lines[inserted].clone()),
        3,
        "1 there twice",
    );
    tampered(&|lines| lines[inserted] = changed.clone(), 3, "1 row lost");
    tampered(&|lines| lines[inserted] = "nonsense".into(), 1, "line");
    fs::write(&path, &text).expect("write the ledger");

    publisher.sql(
        pair.db(),
        "DELETE FROM items WHERE id IN (SELECT id FROM items WHERE id <> 'before' LIMIT 2);
         UPDATE items SET name = 'y' WHERE id = 'before';
         INSERT INTO sessions VALUES ('stray', now())",
    );
    let replay = verify().code(3).json();
    assert_eq!(
        (&replay["lost"], &replay["extra"], &replay["wrong"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!(replay["examples"].as_array().map(Vec::len), Some(4));
}

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

#[test]
fn a_picture_that_cannot_be_written_is_refused_before_anything_is() {
    let pair = pair_with_tables(17, 18);
    let url = admin_url(pair.publisher(), pair.db());
    let nowhere = pair.dir().join("no/run.svg");
    let nowhere = nowhere.to_str().expect("a path");
    let attack = [
        "attack",
        "--dsn",
        &url,
        "--duration",
        "1s",
        "--plot",
        nowhere,
    ];
    pair.flare(&attack).code(1).fails_with(nowhere);
    let rows = "SELECT count(*) FROM items";
    assert_eq!(pair.publisher().value(pair.db(), rows), "0");
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
