//! Very many tables, and one that is most of the database: all rows, in bounded memory.

use std::fs;
use std::time::Duration;

use super::same;
use crate::support::{Cluster, Pair};

const MB: u64 = 1024 * 1024;

/// Copies it all; the most memory that flare took.
fn copied(pair: &Pair, args: &[&str]) -> u64 {
    let running = pair.spawn(args);
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0;
    while !running.has_ended() {
        let read = fs::read_to_string(&status).unwrap_or_default();
        let line = read.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) * 1024);
        std::thread::sleep(Duration::from_millis(10));
    }
    let run = running.wait();
    println!("{run}\npeak memory {} MB", peak / MB);
    run.ok();
    peak
}

fn published(
    publisher: std::sync::Arc<Cluster>,
    subscriber: std::sync::Arc<Cluster>,
    sql: &[String],
) -> Pair {
    let pair = Pair::between(publisher, subscriber);
    pair.create_roles_on(pair.subscriber());
    for statement in sql {
        pair.publisher().sql(pair.db(), statement);
    }
    let publication = format!(
        "CREATE PUBLICATION \"{}\" FOR ALL TABLES",
        pair.names().pubname
    );
    pair.publisher().sql(pair.db(), &publication);
    pair
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_small_tables() {
    let made: Vec<String> = (0..20)
        .map(|part| {
            format!(
                "DO $$ BEGIN FOR i IN {}..{} LOOP
                     EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, v text)', 'S ' || i);
                     EXECUTE format('INSERT INTO %I SELECT g, g FROM generate_series(1, 3) g', 'S ' || i);
                 END LOOP; END $$",
                part * 500 + 1,
                part * 500 + 500
            )
        })
        .collect();
    // With the room that a server has by default, one transaction cannot create them all.
    let pair = published(Cluster::private(13, &[]), Cluster::private(16, &[]), &made);
    let peak = copied(&pair, &["initial_copy", pair.subname()]);
    assert!(peak < 200 * MB, "{peak}");
    pair.await_caught_up();
    let count = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname LIKE 'S %'";
    assert_eq!(pair.subscriber().value(pair.db(), count), "10000");
    same::nothing_of_the_copy_is_left(&pair);
}

/// The view of 10 that CREATE SUBSCRIPTION asks for the tables takes longer than any statement on a catalog should.
#[test]
#[ignore = "minutes"]
fn a_publisher_of_10_lists_its_tables_for_longer_than_half_a_minute() {
    let made: Vec<String> = (0..12)
        .map(|part| {
            format!(
                "DO $$ BEGIN FOR i IN {}..{} LOOP
                     EXECUTE format('CREATE TABLE %I (id serial PRIMARY KEY, v text UNIQUE)', 'T ' || i);
                 END LOOP; END $$",
                part * 250 + 1,
                part * 250 + 250
            )
        })
        .collect();
    let room = [("max_locks_per_transaction", "512")];
    let pair = published(
        Cluster::private(10, &room),
        Cluster::private(18, &room),
        &made,
    );
    pair.flare(&["prepare", pair.subname(), "--yes"]).ok();
    pair.flare(&["status"]).ok().prints("ready to cut over");
}

#[test]
#[ignore = "minutes"]
fn one_table_of_nine_tenths() {
    for (old, new) in [(10, 15), (17, 18)] {
        let made = [
            "CREATE TABLE giant (id bigint PRIMARY KEY, v text, pad text);
             INSERT INTO giant SELECT g, md5(g::text), repeat('x', 300) FROM generate_series(1, 1500000) g;
             CREATE INDEX ON giant (v); CREATE TABLE keyless (a int, b text);
             INSERT INTO keyless SELECT g, repeat('y', 100) FROM generate_series(1, 300000) g"
                .to_owned(),
            "ANALYZE".to_owned(),
        ];
        let pair = published(
            Cluster::private(old, &[]),
            Cluster::private(new, &[]),
            &made,
        );
        let peak = copied(&pair, &["initial_copy", pair.subname()]);
        assert!(peak < 40 * MB, "{peak}");
        pair.await_caught_up();
        same::rows_are_equal(&pair);
    }
}
