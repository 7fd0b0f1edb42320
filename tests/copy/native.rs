//! PostgreSQL's own copy, kept going by flare while it waits.

use std::time::{Duration, Instant};

use crate::support::{Pair, wait};

#[test]
fn tables_of_an_idle_publisher_do_not_wait_for_its_next_record() {
    let pair = Pair::alone(10, 15).with_accounts(10).published();
    let (db, sub) = (pair.db(), pair.subname());
    for server in [pair.publisher(), pair.subscriber()] {
        let tables: String = (0..12)
            .map(|n| format!("CREATE TABLE idle{n} (a int PRIMARY KEY);"))
            .collect();
        server.sql(db, &tables);
    }
    pair.publisher().sql(
        db,
        &format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
            pair.names().repl
        ),
    );
    pair.flare(&["create_replication_status_table", db]).ok();
    pair.flare(&["create_publication", db]).ok();
    let begun = Instant::now();
    pair.flare(&["create_subscription", "--use-repl-user", "--wait", sub])
        .ok();
    // Sixteen tables, two at a time, each some ten seconds when nobody writes.
    let took = begun.elapsed();
    assert!(took < wait::BUSY * Duration::from_secs(12), "{took:?}");
    crashed_between_the_end_of_a_copy_and_the_disk(&pair);
}

#[test]
fn a_table_that_is_truncated_while_it_is_copied_is_copied_anew() {
    let pair = Pair::alone(12, 13).with_accounts(10).published();
    let (db, sub) = (pair.db(), pair.subname());
    pair.flare(&["create_subscription", "--wait", sub]).ok();
    for command in [
        &["create_subscription", "--wait", sub][..],
        &["prepare", "--copy", "native", "--yes", sub],
    ] {
        hangs(&pair);
        pair.flare(&["status"])
            .ok()
            .prints(&format!("next: flare prepare {sub}, which waits"));
        let run = pair.flare(command);
        run.ok()
            .says("the copy of public.pgbench_accounts begins anew");
        assert!(!run.stdout().contains("still being copied"), "{run}");
        pair.flare(&["create_subscription", "--wait", sub]).ok();
        let rows = "SELECT string_agg(aid::text, ',') FROM pgbench_accounts";
        assert_eq!(pair.subscriber().value(db, rows), "7");
    }
}

/// A copy and apply that wait for each other.
fn hangs(pair: &Pair) {
    let (db, sub) = (pair.db(), pair.subname());
    let subscriber = pair.subscriber();
    let alter = format!("SET default_transaction_read_only = off; ALTER SUBSCRIPTION {sub}");
    subscriber.sql(db, &format!("{alter} DISABLE"));
    let workers = "SELECT count(pid) FROM pg_stat_subscription";
    wait::for_("its workers to end", Duration::from_secs(10), || {
        subscriber.value(db, workers) == "0"
    });
    let anew = "SET default_transaction_read_only = off; SET session_replication_role = replica; TRUNCATE pgbench_accounts;
         UPDATE pg_subscription_rel SET srsubstate = 'i', srsublsn = NULL WHERE srrelid = 'pgbench_accounts'::regclass";
    subscriber.sql(db, anew);
    let mut lock = subscriber.superuser_session(db);
    lock.batch_execute("BEGIN; LOCK TABLE pgbench_accounts IN SHARE MODE")
        .expect("lock the table");
    subscriber.sql(db, &format!("{alter} ENABLE"));
    let waiting = |count: &str| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'logical replication worker'";
        wait::for_("the workers to wait", Duration::from_secs(20), || {
            subscriber.value(db, sql) == count
        });
    };
    // The worker that copies comes first; apply waits behind it, and it for apply.
    waiting("1");
    somebody_waits(pair);
    let truncated = "TRUNCATE pgbench_accounts; INSERT INTO pgbench_accounts (aid) VALUES (7)";
    pair.publisher().sql(db, truncated);
    waiting("2");
    lock.batch_execute("COMMIT").expect("let go");
}

/// Status sends nobody to do what is being done.
fn somebody_waits(pair: &Pair) {
    let (db, sub) = (pair.db(), pair.subname());
    let waits = pair.spawn(&["create_subscription", "--wait", sub]);
    await_next(pair, &format!("monitor {db} {sub}"));
    waits.kill_9();
    waits.wait();
    await_next(pair, &format!("prepare {sub}, which waits"));
}

fn await_next(pair: &Pair, command: &str) {
    wait::for_(command, Duration::from_secs(20), || {
        let next = format!("next: flare {command}");
        pair.flare(&["status"]).to_string().contains(&next)
    });
}

#[test]
#[ignore = "make soak"]
fn a_publisher_that_stops_while_its_tables_are_copied_is_named_and_waited_for() {
    let pair = Pair::alone(12, 13).with_accounts(10).published();
    let (db, sub) = (pair.db(), pair.subname());
    pair.flare(&["create_subscription", "--wait", sub]).ok();
    let mut lock = pair.subscriber().superuser_session(db);
    let anew = "SET default_transaction_read_only = off; SET session_replication_role = replica; BEGIN; TRUNCATE pgbench_accounts;
         UPDATE pg_subscription_rel SET srsubstate = 'i', srsublsn = NULL WHERE srrelid = 'pgbench_accounts'::regclass; COMMIT;
         BEGIN; LOCK TABLE pgbench_accounts";
    lock.batch_execute(anew).expect("copy it anew, and lock it");
    let waits = pair.spawn(&["create_subscription", "--wait", sub]);
    await_next(&pair, &format!("monitor {db} {sub}"));
    pair.publisher().kill_9();
    waits.until_stderr("the copy waits for the publisher");
    pair.publisher().start();
    waits.until_stderr("the publisher answers again");
    lock.batch_execute("COMMIT").expect("let go");
    waits.wait().ok();
}

/// The end of a copy that a crash has undone, once its slot was dropped.
fn crashed_between_the_end_of_a_copy_and_the_disk(pair: &Pair) {
    let (db, sub) = (pair.db(), pair.subname());
    let on_subscriber = |statements: &str| {
        let past_the_fence = "SET default_transaction_read_only = off; ALTER SUBSCRIPTION";
        let subscriber = pair.subscriber();
        subscriber.sql(db, &format!("{past_the_fence} {sub} DISABLE"));
        // A worker that is about to end still holds its origin.
        let workers = "SELECT count(pid) FROM pg_stat_subscription";
        wait::for_("its workers to end", Duration::from_secs(10), || {
            subscriber.value(db, workers) == "0"
        });
        subscriber.sql(
            db,
            &format!("{past_the_fence} {sub} DISABLE; {statements} {past_the_fence} {sub} ENABLE"),
        );
    };
    on_subscriber(
        "SELECT pg_replication_origin_create('of_a_copy'); UPDATE pg_replication_origin SET roname = (
             SELECT format('pg_%s_%s', srsubid, srrelid) FROM pg_subscription_rel WHERE srrelid = 'idle1'::regclass) WHERE roname = 'of_a_copy';
         UPDATE pg_subscription_rel SET srsubstate = 'f', srsublsn = NULL WHERE srrelid = 'idle1'::regclass;",
    );
    let looks = "looks for";
    for command in [&["lag"][..], &["status"], &["monitor", "--once", db, sub]] {
        // While the table's worker runs, until it has not found its slot, it is copied as far as anybody can tell.
        wait::for_(
            &format!("{command:?} to name the slot"),
            Duration::from_secs(30),
            || pair.flare(command).to_string().contains(looks),
        );
    }
    let waits = ["create_subscription", "--use-repl-user", "--wait", sub];
    let run = pair.flare(&waits);
    run.fails_with("the copy of public.idle1 has ended, and the slot that its worker looks for");
    let said = run.stderr();
    let statement = said
        .split_once("committed on the subscriber (")
        .expect("a statement")
        .1;
    let statement = statement.split_once(" on the subscriber").expect("where").0;
    on_subscriber(&format!("{statement};"));
    pair.flare(&waits).ok();
}
