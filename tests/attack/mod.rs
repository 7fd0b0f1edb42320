//! The load generator: what it may write to, what it counts, and that its ledger proves what it says.

mod hosts;

use std::fs;

use crate::support::flare::Invocation;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

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
