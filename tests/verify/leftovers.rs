//! What a killed comparison leaves goes with the next one, or with `cleanup`; and how much of the servers one takes.

use std::time::Duration;

use serde_json::Value;

use super::{named, verify_data};
use crate::support::{Pair, wait};

const PROBES: &str =
    "SELECT count(*) FROM flare_replication_status WHERE system_identifier LIKE '%/verify/%'";
const THROWAWAYS: &str = "SELECT count(*) FROM pg_database WHERE datname LIKE 'flare_verify_%'";

/// `VmHWM` of /proc.
fn peak_kilobytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    line.and_then(|it| it.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[test]
#[ignore = "make soak"]
fn large_values_are_compared_in_little_memory() {
    let heavy = "CREATE TABLE heavy (n int, v text); CREATE TABLE vast (k text PRIMARY KEY, v bytea, a text[]);
CREATE TYPE pair AS (x float8, t text); CREATE TABLE bag (n int, v pair); CREATE TABLE spelled";
    let pair = Pair::alone(14, 18)
        .with_accounts(1)
        .replicating_with(|pair, server| {
            // Equal values have another text there.
            let padded = if std::ptr::eq(server, pair.publisher()) {
                "text"
            } else {
                "char(400000)"
            };
            server.sql(
                pair.db(),
                &format!("{heavy} (k int PRIMARY KEY, v pair, w {padded})"),
            );
        });
    let (db, sub) = (pair.db(), pair.subname());
    pair.flare(&["create_replication_status_table", db]).ok();
    pair.await_tables_ready();
    // Rows without a key that are large are not all in memory to be named.
    pair.subscriber().sql(
        db,
        "INSERT INTO heavy SELECT i, repeat(md5(i::text), 32768) FROM generate_series(1, 120) i; ANALYZE heavy",
    );
    let running = pair.spawn(&["verify_data", sub, "--table", "heavy", "--format", "json"]);
    let mut peak = 0;
    while !running.has_ended() {
        peak = peak.max(peak_kilobytes(running.pid()));
        std::thread::sleep(Duration::from_millis(5));
    }
    let json = running.wait().code(3).json();
    assert_eq!(
        (named(&json).len(), &json["differences"]),
        (100, &120.into())
    );
    assert!(peak < 64 * 1024, "{peak} kB");
    pair.subscriber().sql(db, "TRUNCATE heavy");

    // Nor is a value that is vast, nor are all of many large keys: a value is compared where it is.
    pair.publisher().sql(
        db,
        "INSERT INTO vast SELECT (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 70) j), '' FROM generate_series(1, 8000) i;
         INSERT INTO vast SELECT 'big', decode(repeat(md5('x'), 1310720), 'hex'); ANALYZE vast;
         INSERT INTO vast SELECT 'wide', NULL, ARRAY[repeat(md5('x'), 1310720)];
         INSERT INTO heavy SELECT 1, repeat(md5('x'), 1310720)",
    );
    pair.await_caught_up();
    pair.subscriber().sql(
        db,
        "DELETE FROM vast WHERE k NOT IN ('big', 'wide'); UPDATE vast SET v = set_byte(v, 15000000, get_byte(v, 15000000) # 1), a = a || 'y'::text;
         UPDATE heavy SET v = overlay(v PLACING 'y' FROM 1000000)",
    );
    let tables = ["--table", "vast", "--table", "heavy"];
    let running = pair.spawn(&[&["verify_data", sub, "--format", "json"], &tables[..]].concat());
    let mut peak = 0;
    while !running.has_ended() {
        peak = peak.max(peak_kilobytes(running.pid()));
        std::thread::sleep(Duration::from_millis(5));
    }
    let json = running.wait().code(3).json();
    assert_eq!(json["differences"], 8004, "{:#}", json["notes"]);
    let found = |table: &str| -> Vec<Value> {
        let tables = json["tables"].as_array().expect("tables");
        let found = tables.iter().find(|it| it["table"] == table);
        let examples = found.expect("the table")["examples"].as_array();
        examples.expect("examples").clone()
    };
    // Two rows that differ behind what is shown of them look different.
    let heavy = found("heavy");
    assert_ne!(
        heavy[0]["columns"][1]["publisher"], heavy[1]["columns"][1]["subscriber"],
        "{heavy:#?}"
    );
    let examples = found("vast");
    let big = examples.iter().find(|it| it["columns"][0]["column"] == "v");
    if let Some(column) = big.map(|it| &it["columns"][0]) {
        for side in ["publisher", "subscriber"] {
            let shown = column[side].as_str().unwrap_or_default();
            assert!(
                shown.ends_with("41943040 bytes)") || shown.ends_with("41943042 bytes)"),
                "{column}"
            );
        }
        assert_ne!(column["publisher"], column["subscriber"]);
    }
    assert!(peak < 64 * 1024, "{peak} kB");

    // What may be spelled in another way is carried there, in several parts; equal values beside it are not named.
    pair.publisher().sql(
        db,
        "INSERT INTO spelled SELECT i, ROW(i::float8, repeat('a\u{20ac}b', 200000))::pair, repeat('c', 300000) FROM generate_series(1, 3) i;
         INSERT INTO bag SELECT i, ROW(i::float8, repeat('d\u{20ac}', 1200000))::pair FROM generate_series(1, 2) i",
    );
    pair.await_caught_up();
    pair.subscriber().sql(
        db,
        "UPDATE spelled SET v.t = overlay((v).t PLACING 'x' FROM 500000) WHERE k = 2; UPDATE spelled SET v.x = '-NaN' WHERE k = 3;
         UPDATE bag SET v.t = overlay((v).t PLACING 'x' FROM 1000000) WHERE n = 1",
    );
    // A table that is named twice is compared once.
    let tables = ["--table", "spelled", "--table", "bag", "--table", "bag"];
    let run = verify_data(&pair, &tables);
    let json = run.code(3).json();
    let names: Vec<String> = named(&json);
    assert_eq!(
        names,
        [
            "bag: extra : n,v",
            "bag: missing : n,v",
            "spelled: different 2: v",
            "spelled: different 3: v"
        ],
        "{run}"
    );
}

#[test]
fn a_killed_comparison_leaves_nothing_for_long() {
    let pair = Pair::alone(14, 18).with_accounts(100_000).replicating();
    let (db, sub) = (pair.db(), pair.subname());
    pair.flare(&["create_replication_status_table", db]).ok();
    pair.await_tables_ready();
    let table = ["--table", "pgbench_accounts"];
    let json = verify_data(&pair, &[&table[..], &["--sample", "1"]].concat());
    let json = json.ok().json();
    assert_eq!(json["sample_percent"], 1.0, "{json}");
    assert!(json["rows_compared"].as_i64() < Some(100_000), "{json}");
    assert_eq!(json["equal"], false, "{json}");
    let json = verify_data(&pair, &[&table[..], &["--max-rate", "4MB"]].concat());
    let json = json.ok().json();
    assert!(json["seconds"].as_f64() > Some(1.5), "{json}");

    // A row that differs is looked at, and so a row of flare's travels.
    pair.subscriber()
        .sql(db, "UPDATE pgbench_accounts SET abalance = 7 WHERE aid = 1");
    let probed = || {
        let rows = pair.publisher().value(db, PROBES);
        rows.parse::<i64>().expect("a number")
    };
    let running = pair.spawn(&["verify_data", sub, "--jobs", "3", "--max-rate", "200kB"]);
    wait::for_("a row to wait for", Duration::from_secs(30), || {
        probed() > 0
    });
    running.kill_9();
    running.wait();
    assert!(probed() > 0);
    verify_data(&pair, &[&table[..], &["--jobs", "1"]].concat()).code(3);
    assert_eq!(probed(), 0);
    let slowly = ["--jobs", "3", "--max-rate", "200kB"];
    let running = pair.spawn(&[&["verify_data", sub], &table[..], &slowly].concat());
    wait::for_("a row to wait for", Duration::from_secs(30), || {
        probed() > 0
    });
    running.signal(2);
    let goes_on =
        format!("flare verify_data {sub} --table public.pgbench_accounts --resume goes on");
    running.wait().code(130).says(&goes_on);
    assert_eq!(probed(), 0);

    let throwaways = || pair.subscriber().value("postgres", THROWAWAYS);
    let running = pair.spawn(&["verify_schema", sub]);
    wait::for_("a throwaway database", Duration::from_secs(30), || {
        running.has_ended() || throwaways() == "1"
    });
    running.kill_9();
    let run = running.wait();
    assert_eq!(run.signal(), Some(9), "{run}");
    // Killed a moment earlier, it had no comment yet.
    let bare = format!("CREATE DATABASE flare_verify_{:032x}", 7);
    pair.subscriber().sql("postgres", &bare);
    // What its psql and pg_dump had begun ends by itself.
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'flare_verify_%'";
    wait::for_("its sessions to end", Duration::from_secs(30), || {
        pair.subscriber().value("postgres", busy) == "0"
    });
    assert_eq!(throwaways(), "2");
    pair.flare(&["cleanup", "--dry-run", sub])
        .ok()
        .prints("throwaway database");
    pair.flare(&["cleanup", "--yes", sub]).ok();
    assert_eq!(throwaways(), "0");
}
