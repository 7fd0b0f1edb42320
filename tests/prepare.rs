//! prepare and status: one command up to the cutover, and what to type next at every point of the way.

use std::time::Duration;

use serde_json::Value;

use crate::support::flare::Running;
use crate::support::pair::Names;
use crate::support::{Cluster, Pair, matrix, wait};

fn status(pair: &Pair) -> Value {
    let output = pair.flare(&["status", "--format", "json"]);
    output.ok().json()
}

#[track_caller]
fn stands(pair: &Pair, stage: &str, next: &str) -> Value {
    let status = status(pair);
    let one = &status["subscriptions"][0];
    assert_eq!(one["stage"], stage, "{status}");
    assert_eq!(one["next"], next, "{status}");
    assert_eq!(one["subname"], pair.subname(), "{status}");
    assert_eq!(one["dbname"], pair.db(), "{status}");
    status
}

/// Names of the steps that changed something.
fn changed(prepared: &Value) -> Vec<&str> {
    let steps = prepared["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 11, "{prepared}");
    let changed = steps.iter().filter(|step| step["changed"] == true);
    changed.filter_map(|step| step["step"].as_str()).collect()
}

#[test]
fn prepare_goes_all_the_way_and_a_second_time_changes_nothing() {
    matrix::for_some_pairs(|old, new| {
        let pair = Pair::alone(old, new).with_accounts(500);
        let (db, sub) = (pair.db(), pair.subname());
        let prepare = format!("flare prepare {sub}");
        stands(&pair, "not_begun", &prepare);
        pair.flare(&["prepare", sub]).code(2).says("--yes").says(db);
        let dry = pair.flare(&["prepare", sub, "--dry-run", "--format", "json"]);
        assert_eq!(dry.ok().json()["changed"], false, "{dry}");
        stands(&pair, "not_begun", &prepare);

        let run = pair.flare(&[
            "prepare", sub, "--yes", "--copy", "native", "--format", "json",
        ]);
        let json = run.ok().says("step 11 of 11: vacuum_analyze").json();
        assert_eq!(json["changed"], true, "{run}");
        assert_eq!(json["next"], format!("flare cutover {sub}"), "{run}");
        for step in [
            "replicate_roles",
            "replicate_schema",
            "create_subscription",
            "vacuum_analyze",
        ] {
            assert!(changed(&json).contains(&step), "{run}");
        }
        let count = "SELECT count(*) FROM pgbench_accounts";
        assert_eq!(pair.subscriber().value(db, count), "500");

        let again = pair.flare(&["prepare", sub, "--yes", "--format", "json"]);
        assert_eq!(changed(&again.ok().json()), Vec::<&str>::new(), "{again}");
        let status = stands(&pair, "replicating", &format!("flare cutover {sub}"));
        assert_eq!(status["writable"], "publisher", "{status}");
    });
}

#[test]
fn a_database_without_tables_is_prepared_and_closed() {
    let pair = Pair::new(14, 18);
    let (db, sub) = (pair.db(), pair.subname());
    pair.configure(|config| {
        config["publications"][db]["replica_identity_full_tables"] = Vec::<String>::new().into();
    });
    pair.flare(&["prepare", sub, "--yes"])
        .ok()
        .prints("every table is ready; next: flare cutover");
    pair.flare(&["ddl", db, "CREATE TABLE first (id int PRIMARY KEY)"])
        .ok();
    let mut session = pair.subscriber().superuser_session(db);
    let write = "SET default_transaction_read_only = off; INSERT INTO first VALUES (1)";
    session.batch_execute(write).expect_err("it is fenced");
}

/// Before 15 everybody may create tables in `public`; in a new database of 15 nobody else than its owner.
#[test]
fn a_database_that_belongs_to_somebody_else_is_prepared() {
    let pair = Pair::new(14, 18).with_accounts(1);
    let (db, sub) = (pair.db(), pair.subname());
    let given = format!("ALTER DATABASE {db} OWNER TO {}", pair.publisher().admin());
    pair.publisher().sql("postgres", &given);
    pair.flare(&["prepare", sub, "--yes"])
        .ok()
        .prints("every table is ready; next: flare cutover");
}

#[test]
fn an_interrupted_preparation_goes_on_where_it_stopped() {
    let pair = Pair::alone(14, 18).with_accounts(100);
    let sub = pair.subname();
    for step in [
        "replicate_roles",
        "grant_replication",
        "create_publication",
        "create_subscription",
    ] {
        let running = pair.spawn(&["prepare", sub, "--yes"]);
        running.until_stderr(&format!(": {step}\n"));
        running.signal(2);
        running.wait().code(130);
    }
    let run = pair.flare(&["prepare", sub, "--yes"]);
    run.ok().prints("every table is ready; next: flare cutover");
}

/// Kills flare at the statement that `held` keeps waiting.
fn killed_at(pair: &Pair, running: Running, mut held: postgres::Client, statement: &str) {
    let waits = format!(
        "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '{statement}%'"
    );
    wait::for_(statement, Duration::from_secs(60), || {
        if running.has_ended() {
            return true;
        }
        !pair.subscriber().rows("postgres", &waits).is_empty()
    });
    if running.has_ended() {
        panic!("it has ended before {statement}: {}", running.wait());
    }
    running.kill_9();
    running.wait();
    // What it has sent would be done once it may.
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '{statement}%'"
    );
    pair.subscriber().sql("postgres", &end);
    wait::for_("its end", Duration::from_secs(10), || {
        pair.subscriber().rows("postgres", &waits).is_empty()
    });
    held.batch_execute("ROLLBACK").expect("let go");
}

/// A session that is in a transaction, once its first statement can be run.
fn in_transaction(pair: &Pair, db: &str, sql: &str) -> postgres::Client {
    let mut held = None;
    wait::for_(sql, Duration::from_secs(60), || {
        let session = pair.subscriber().try_superuser_session(db);
        held = session.ok().and_then(|mut session| {
            let begun = session.batch_execute(&format!("BEGIN; {sql}"));
            begun.ok().map(|()| session)
        });
        held.is_some()
    });
    held.expect("a session")
}

#[test]
fn by_default_rows_come_with_the_fast_copy() {
    let pair = Pair::alone(12, 17).with_accounts(500);
    let (db, sub) = (pair.db(), pair.subname());
    let comment = format!("COMMENT ON DATABASE {db} IS 'the shop'");
    pair.publisher().sql("postgres", &comment);

    pair.create_roles_on(pair.subscriber());

    // Killed once its tables are there, and once its subscription is.
    pair.flare(&["create_publication", db]).ok();
    let copying = pair.spawn(&["initial_copy", sub]);
    let other = format!("SELECT FROM flare.copy_run; COMMENT ON DATABASE {db} IS 'held'");
    let held = in_transaction(&pair, db, &other);
    killed_at(&pair, copying, held, "COMMENT ON DATABASE");
    stands(
        &pair,
        "copy_interrupted",
        &format!("flare initial_copy {sub}"),
    );
    let preparing = pair.spawn(&["prepare", sub, "--yes"]);
    let held = in_transaction(&pair, db, "LOCK flare.copy_piece IN ACCESS SHARE MODE");
    killed_at(&pair, preparing, held, "DROP TABLE IF EXISTS flare.copy");

    pair.flare(&["prepare", sub, "--yes"]).ok();
    let commented = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
    assert_eq!(pair.subscriber().value(db, commented), "the shop");
    let record = "SELECT to_regclass('flare.copy_run') IS NULL";
    assert_eq!(pair.subscriber().value(db, record), "t");
    let count = "SELECT count(*) FROM pgbench_accounts";
    assert_eq!(pair.subscriber().value(db, count), "500");
    let again = pair.flare(&["prepare", sub, "--yes", "--format", "json"]);
    assert_eq!(changed(&again.ok().json()), Vec::<&str>::new(), "{again}");
    stands(&pair, "replicating", &format!("flare cutover {sub}"));
}

#[test]
fn prepare_works_without_a_superuser() {
    for &(old, new) in matrix::sample(&[(13, 16), (16, 18)], &[(16, 18)]) {
        let publisher = Cluster::private_rds(old, &[]);
        let subscriber = Cluster::private_rds(new, &[]);
        let pair = Pair::between(publisher, subscriber).with_accounts(100);
        // Password hashes cannot be read there: whom flare logs in as gets the password of the configuration.
        let args = ["prepare", pair.subname(), "--yes", "--format", "json"];
        let run = pair.flare(&args);
        // What comes then needs REPLICATION, which real RDS gives through rds_replication.
        if run.status().code() != Some(0) {
            run.says("create_subscription, step 9 of 11");
        }
        // Nobody may write down there what was granted.
        let (db, repl) = (pair.db(), &pair.names().repl);
        let held = format!("SELECT has_table_privilege('{repl}', 'pgbench_accounts', 'DELETE')");
        assert_eq!(pair.publisher().value(db, &held), "t");
        let cleaned = pair.flare(&["cleanup", pair.subname(), "--yes", "--format", "json"]);
        let cleaned = cleaned.ok().json();
        let notes = cleaned["notes"].as_array().expect("notes");
        let note = notes
            .iter()
            .filter_map(|it| it.as_str())
            .find(|it| it.starts_with("nobody could keep a record on the publisher"));
        let statements = note.and_then(|it| it.split_once(" goes with: "));
        let statements = statements.and_then(|(_, it)| it.split_once("; replica identities"));
        let (statements, _) = statements.unwrap_or_else(|| panic!("{cleaned}"));
        pair.publisher().sql(db, statements);
        assert_eq!(pair.publisher().value(db, &held), "f");
    }
}

#[test]
fn status_says_who_can_write_and_goes_on_without_a_server() {
    let pair = Pair::alone(14, 18).with_accounts(10).replicating();
    let (db, sub) = (pair.db(), pair.subname());
    pair.flare(&["status"])
        .ok()
        .prints(&format!(
            "The application can write to {db:?} on the publisher."
        ))
        .prints("replicating, NOT ready to cut over")
        .prints("in the way:")
        .prints("flare_replication_status is not ready")
        .prints(&format!(
            "next: flare create_replication_status_table {db}; then flare cutover {sub}"
        ));
    let sample = "SELECT to_regclass('flare.sample') IS NULL AND to_regnamespace('flare') IS NULL";
    assert_eq!(pair.publisher().value("postgres", sample), "t");

    pair.flare(&["create_replication_status_table", db]).ok();
    pair.await_tables_ready();
    let status = stands(&pair, "replicating", &format!("flare cutover {sub}"));
    assert!(status["subscriptions"][0]["obstacle"].is_null(), "{status}");
    pair.flare(&["pause_write", db, "--allowed-rep-duration", "0s"])
        .ok();
    let status = stands(&pair, "paused", &format!("flare resume_write {db}"));
    assert_eq!(status["writable"], "none", "{status}");
    assert!(
        status["subscriptions"][0]["paused_since"].is_string(),
        "{status}"
    );
    let output = pair.flare(&["status"]);
    let first = output.ok().stdout().lines().next().unwrap_or_default();
    assert!(
        first.starts_with("Nobody but superusers can write"),
        "{output}"
    );
    pair.subscriber().stop();
    let status = stands(&pair, "paused", &format!("flare resume_write {db}"));
    assert_eq!(status["writable"], "none", "{status}");
    pair.flare(&["resume_write", db]).ok();
    let status = stands(&pair, "unknown", "flare verify_connectivity");
    assert_eq!(status["writable"], "publisher", "{status}");
    pair.subscriber().start();
    pair.publisher().stop();
    let output = pair.flare(&["status"]);
    output
        .ok()
        .prints("is unknown: the publisher could not be asked");
    pair.publisher().start();
}

/// Nothing of flare's is on either server yet: whoever comes first makes roles, schema, journal and records.
#[test]
fn databases_of_the_same_servers_are_moved_side_by_side() {
    let pair = Pair::alone(15, 18);
    let dbnames = ["side1", "side2", "side3", "side4"];
    pair.moves(&Names {
        db: dbnames[0].to_owned(),
        subname: dbnames[0].to_owned(),
        ..pair.names().clone()
    });
    pair.configure(|config| {
        let mut publication = config["publications"][dbnames[0]].clone();
        let tables = publication.as_mapping_mut().expect("a mapping");
        tables.remove("replica_identity_full_tables");
        let subscription = config["subscriptions"][dbnames[0]].clone();
        for dbname in dbnames {
            config["publications"][dbname] = publication.clone();
            config["subscriptions"][dbname] = subscription.clone();
            config["subscriptions"][dbname]["dbname"] = dbname.into();
        }
    });
    for dbname in dbnames {
        let create = format!("CREATE DATABASE {dbname} OWNER {}", pair.names().owner);
        pair.publisher().sql("postgres", &create);
        let table = "CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t DEFAULT VALUES";
        pair.publisher().sql(dbname, table);
    }
    let runs = dbnames.map(|subname| pair.spawn(&["prepare", subname, "--yes"]));
    for run in runs {
        run.wait().ok();
    }
    let status = status(&pair);
    let ready = |it: &Value| it["stage"] == "replicating" && it["obstacle"].is_null();
    let subscriptions = status["subscriptions"].as_array().expect("a list");
    assert!(subscriptions.iter().all(ready), "{status:#}");
    assert_eq!(subscriptions.len(), dbnames.len());
    for command in ["cutover", "cleanup"] {
        let runs = dbnames.map(|subname| pair.spawn(&[command, subname, "--yes"]));
        for run in runs {
            run.wait().ok();
        }
    }
    for server in [pair.publisher(), pair.subscriber()] {
        let left = "SELECT to_regnamespace('flare') IS NULL";
        assert_eq!(server.value("postgres", left), "t");
    }
}
