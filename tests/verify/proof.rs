//! The record of what was verified: a run that was cut off goes on, and a switch may want proof.

use std::time::Duration;

use serde_json::Value;

use super::{named, verify_data};
use crate::support::{Pair, wait};

#[test]
fn a_switch_that_wants_proof_refuses_without_it_there_and_back() {
    let pair = Pair::new(15, 18).with_accounts(100);
    let (subname, db) = (pair.subname(), pair.db());
    pair.create_roles_on(pair.subscriber());
    pair.flare(&["prepare", subname, "--yes"]).ok();
    let proven =
        |verb: &str| pair.flare(&[verb, subname, "--yes", "--verified", "--format", "json"]);
    let verified = |json: &Value| -> (bool, bool) {
        let of = &json["verified"][0];
        (of["equal"] == true, of["finished_at"].is_string())
    };
    proven("cutover").fails_with("public.pgbench_accounts (not verified)");
    verify_data(&pair, &["--table", "pgbench_accounts"]).ok();
    let refused = proven("cutover");
    refused.fails_with("public.pgbench_branches (not verified)");
    assert!(!refused.stderr().contains("pgbench_accounts"), "{refused}");
    verify_data(&pair, &["--sample", "50"]).ok();
    proven("cutover").fails_with("not verified");
    verify_data(&pair, &[]).ok();
    // What a later column holds was not compared.
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql(db, "ALTER TABLE pgbench_tellers ADD COLUMN since int");
    }
    let refused = proven("cutover");
    refused.fails_with("public.pgbench_tellers (its columns or its key have changed since)");
    assert!(!refused.stderr().contains("pgbench_branches"), "{refused}");
    verify_data(&pair, &["--table", "pgbench_tellers"]).ok();
    // Nor does a proof hold for a table that was emptied on one side alone.
    let publishing = |what: &str| {
        let pubname = &pair.names().pubname;
        let sql = format!("ALTER PUBLICATION \"{pubname}\" SET (publish = '{what}')");
        pair.publisher().sql(db, &sql);
    };
    publishing("insert, update, delete");
    verify_data(&pair, &[]).ok();
    pair.publisher().sql(db, "TRUNCATE pgbench_history");
    let refused = proven("cutover");
    refused.fails_with("public.pgbench_history (truncated or written anew since)");
    assert!(!refused.stderr().contains("pgbench_tellers"), "{refused}");
    publishing("insert, update, delete, truncate");
    some_rows_alone_are_published(&pair);
    verify_data(&pair, &[]).ok();
    let there = proven("cutover");
    assert_eq!(verified(&there.ok().json()), (true, true), "{there}");

    // The other way nothing is proven yet; what is not asked for is said.
    proven("fallback").fails_with("not verified");
    wait::for_("the way back", Duration::from_secs(30), || {
        verify_data(&pair, &[]).status().success()
    });
    let seen = verify_data(&pair, &[]);
    assert_eq!(seen.ok().json()["direction"], "back");
    pair.publisher().sql(
        db,
        "BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL transaction_read_only = off;
         UPDATE pgbench_accounts SET abalance = 9 WHERE aid = 5; COMMIT",
    );
    let different = verify_data(&pair, &[]);
    assert_eq!(
        named(&different.code(3).json()),
        ["pgbench_accounts: different 5: abalance"]
    );
    // A person is told the servers by the configuration's names.
    let told = pair.flare(&["verify_data", subname]);
    told.code(3).prints(" publisher \"9\"");
    told.says("find out what wrote on the publisher");
    proven("fallback").fails_with("public.pgbench_accounts (different)");
    pair.subscriber()
        .sql(db, "UPDATE pgbench_accounts SET abalance = 1 WHERE aid = 5");
    verify_data(&pair, &[]).ok();
    let back = proven("fallback");
    assert_eq!(verified(&back.ok().json()), (true, true), "{back}");
    let said = pair.flare(&["cutover", subname, "--yes"]);
    said.ok().prints("its rows were not compared since");
    pair.flare(&["cleanup", subname, "--yes"]).ok();
    // Other tests may have theirs on the same server.
    let there = "SELECT to_regclass('flare.verified') IS NOT NULL";
    if pair.subscriber().value("postgres", there) == "t" {
        let left = format!("SELECT count(*) FROM flare.verified WHERE dbname = '{db}'");
        assert_eq!(pair.subscriber().value("postgres", &left), "0");
    }
}

#[test]
fn a_run_that_was_cut_off_goes_on() {
    let pair = Pair::new(13, 17).with_accounts(100_000).replicating();
    let subscriber = pair.subscriber();
    subscriber.sql(
        pair.db(),
        "UPDATE pgbench_accounts SET abalance = 7 WHERE aid IN (100, 99000)",
    );
    let args = [
        "verify_data",
        pair.subname(),
        "--jobs",
        "1",
        "--max-rate",
        "3MB",
    ];
    let running = pair.spawn(&args);
    let reached = format!(
        "SELECT count(*) FROM flare.verified WHERE dbname = '{}' AND \"table\" = 'pgbench_accounts' AND bound IS NOT NULL",
        pair.db()
    );
    wait::for_("a bound on record", Duration::from_secs(60), || {
        let there = "SELECT to_regclass('flare.verified') IS NOT NULL";
        subscriber.value("postgres", there) == "t" && subscriber.value("postgres", &reached) == "1"
    });
    running.kill_9();
    running.wait();
    let resumed = verify_data(&pair, &["--resume"]);
    let json = resumed.code(3).json();
    assert_eq!(
        named(&json),
        [
            "pgbench_accounts: different 100: abalance",
            "pgbench_accounts: different 99000: abalance"
        ],
        "{resumed}"
    );
    assert_eq!(
        (&json["resumed"], &json["tables"][0]["rows"]),
        (&true.into(), &100_000.into()),
        "{resumed}"
    );
    let again = verify_data(&pair, &["--resume"]);
    let json = again.code(3).json();
    assert_eq!(json["resumed"], false);
    assert!(
        json["notes"].to_string().contains("no run was cut off"),
        "{again}"
    );
    let probes = "SELECT count(*) FROM pg_class WHERE relname = 'flare_replication_status'";
    assert_eq!(pair.publisher().value(pair.db(), probes), "0");
}

/// A table of which not all rows are replicated is named; the others are compared.
fn some_rows_alone_are_published(pair: &Pair) {
    let (db, pubname) = (pair.db(), &pair.names().pubname);
    let publish = |what: &str| {
        let sql = format!(
            "BEGIN; DROP PUBLICATION \"{pubname}\"; CREATE PUBLICATION \"{pubname}\" FOR {what}; COMMIT"
        );
        pair.publisher().sql(db, &sql);
    };
    publish(
        "TABLE pgbench_accounts WHERE (aid > 50), TABLE pgbench_branches, pgbench_tellers, pgbench_history, flare_replication_status",
    );
    let seen = verify_data(pair, &[]);
    let report = seen.code(3).json();
    let status = |table: &str| {
        let mut tables = report["tables"].as_array().unwrap().iter();
        let found = tables.find(|it| it["table"] == table);
        found.unwrap()["status"].clone()
    };
    assert_eq!(status("pgbench_accounts"), "unverified", "{seen}");
    assert_eq!(status("pgbench_branches"), "equal", "{seen}");
    let why = "public.pgbench_accounts: the publication sends only rows where (aid > 50)";
    let message = report["error"]["message"].as_str().unwrap();
    assert!(message.contains(why), "{seen}");
    pair.flare(&["cutover", pair.subname(), "--yes", "--verified"])
        .fails_with("public.pgbench_accounts (unverified)");
    verify_data(pair, &["--table", "pgbench_accounts"]).code(1);
    publish("ALL TABLES");
}
