//! Why it is slow: each cause planted on real servers, and named within ten seconds, with its object.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::flare::Running;
use crate::support::proxy::Proxy;
use crate::support::{Cluster, Pair, matrix, wait};

const NAMED_WITHIN: Duration = Duration::from_secs(10);

fn watching(pair: &Pair) -> Running {
    let args = ["monitor", pair.db(), pair.subname()];
    let running = pair.spawn(&[&args[..], &["--interval", "500ms", "--format", "json"]].concat());
    running.until_stdout("\n");
    running
}

/// The causes in the newest sample: which, and the sentence.
fn causes(running: &Running) -> Vec<(String, String)> {
    let seen = running.stdout_so_far();
    let whole = seen.rfind('\n').map_or("", |end| &seen[..end]);
    let Some(last) = whole.lines().next_back() else {
        return Vec::new();
    };
    let sample: Value = serde_json::from_str(last).expect("an object in each line");
    let causes = sample["causes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    causes
        .iter()
        .map(|it| (text(&it["cause"]), text(&it["message"])))
        .collect()
}

#[track_caller]
fn named(running: &Running, cause: &str, words: &[&str]) {
    let began = Instant::now();
    let found = || {
        let causes = causes(running);
        causes.iter().any(|(which, message)| {
            which == cause && words.iter().all(|words| message.contains(words))
        })
    };
    let seen = wait::until(NAMED_WITHIN * 4, found);
    let took = began.elapsed();
    assert!(
        seen,
        "{cause} with {words:?} is not in {:?}",
        causes(running)
    );
    // How late depends on what else the machine does.
    println!("{cause} was named after {took:?}");
}

#[track_caller]
fn gone(running: &Running, cause: &str) {
    let still = || causes(running).iter().any(|(which, _)| which == cause);
    wait::for_("a cause to go", Duration::from_secs(40), || !still());
}

fn sentences_on(old: u32, new: u32) {
    let pair = Pair::new(old, new).with_accounts(5000).replicating();
    pair.await_caught_up();
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    let running = watching(&pair);
    named(
        &running,
        "publisher_idle",
        &["the publisher sends nothing", pair.db()],
    );

    let mut lock = subscriber.superuser_session(pair.db());
    lock.batch_execute("BEGIN; LOCK TABLE pgbench_accounts IN SHARE MODE")
        .expect("lock");
    publisher.sql(
        pair.db(),
        "UPDATE pgbench_accounts SET abalance = 1 WHERE aid = 1",
    );
    let pid: i32 = lock
        .query_one("SELECT pg_backend_pid()", &[])
        .expect("its pid")
        .get(0);
    named(
        &running,
        "waits_for_lock",
        &[
            "apply waits for a lock on public.pgbench_accounts",
            &format!("pid {pid} "),
            "idle in transaction",
        ],
    );
    drop(lock);
    gone(&running, "waits_for_lock");

    let mut long = publisher.superuser_session(pair.db());
    let pid: i32 = long
        .query_one("SELECT pg_backend_pid()", &[])
        .expect("its pid")
        .get(0);
    long.batch_execute("BEGIN; UPDATE pgbench_accounts SET abalance = 1 WHERE aid = 2")
        .expect("write");
    named(
        &running,
        "long_transaction",
        &[
            &format!("pid {pid} (user postgres"),
            "idle in transaction, open for",
        ],
    );
    drop(long);

    publisher.sql(
        pair.db(),
        "INSERT INTO pgbench_history SELECT 1, 1, n, 0, now(), '' FROM generate_series(1, 60000) n",
    );
    pair.await_caught_up();
    publisher.sql(pair.db(), "UPDATE pgbench_history SET delta = 1");
    named(
        &running,
        "no_usable_index",
        &["public.pgbench_history", "REPLICA IDENTITY FULL"],
    );
    // Enough of it: what is left is taken away on both sides. A worker sees that it is disabled between transactions only.
    subscriber.sql(
        pair.db(),
        &format!("ALTER SUBSCRIPTION {} DISABLE", pair.subname()),
    );
    subscriber.sql(
        pair.db(),
        &format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_subscription WHERE subname = '{}' AND pid IS NOT NULL",
            pair.subname()
        ),
    );
    skip_what_is_left(&pair);
    gone(&running, "no_usable_index");

    subscriber.sql(pair.db(), "INSERT INTO pgbench_tellers VALUES (9999, 1, 0)");
    publisher.sql(pair.db(), "INSERT INTO pgbench_tellers VALUES (9999, 1, 0)");
    named(&running, "worker_restarts", &[pair.subname()]);
    subscriber.sql(pair.db(), "DELETE FROM pgbench_tellers WHERE tid = 9999");
    pair.await_caught_up();
    running.signal(libc::SIGINT);
    running.wait().ok();
}

/// Takes the subscription past everything that was written so far.
fn skip_what_is_left(pair: &Pair) {
    let sub = pair.subname();
    let free = format!("SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{sub}'");
    wait::for_("the slot to be free", Duration::from_secs(30), || {
        pair.publisher().value("postgres", &free) == "t"
    });
    pair.publisher().sql(
        pair.db(),
        &format!(
            "SELECT pg_drop_replication_slot('{sub}');
             SELECT pg_create_logical_replication_slot('{sub}', 'pgoutput')"
        ),
    );
    let origin = format!(
        "SELECT pg_replication_origin_advance('pg_' || oid, '{}') FROM pg_subscription WHERE subname = '{sub}'",
        pair.publisher()
            .value("postgres", "SELECT pg_current_wal_lsn()")
    );
    pair.subscriber().sql(pair.db(), &origin);
    pair.subscriber()
        .sql(pair.db(), &format!("ALTER SUBSCRIPTION {sub} ENABLE"));
}

#[test]
fn what_holds_it_up_is_named_with_its_object() {
    sentences_on(14, 18);
}

#[test]
#[ignore = "each pair of versions: minutes"]
fn what_holds_it_up_is_named_between_all_versions() {
    matrix::for_some_pairs(sentences_on);
}

#[test]
#[ignore = "make soak"]
fn a_huge_transaction_is_named_while_it_is_decoded_and_applied() {
    let pair = Pair::new(13, 16).with_accounts(10).replicating();
    pair.await_caught_up();
    let running = watching(&pair);
    let mut writer = pair.publisher().superuser_session(pair.db());
    let pid: i32 = writer
        .query_one("SELECT pg_backend_pid()", &[])
        .expect("its pid")
        .get(0);
    writer
        .batch_execute(
            "BEGIN; INSERT INTO pgbench_accounts SELECT n, 1, 0, repeat('x', 84) FROM generate_series(10000, 1210000) n",
        )
        .expect("write");
    named(
        &running,
        "huge_transaction_decoded",
        &[&format!("pid {pid} (user postgres"), "MB of WAL"],
    );
    writer.batch_execute("COMMIT").expect("commit");
    named(
        &running,
        "huge_transaction_applied",
        &["public.pgbench_accounts", "of WAL there so far"],
    );
    running.signal(libc::SIGINT);
    running.wait().ok();
    pair.await_caught_up();
}

#[test]
fn tables_that_wait_for_workers_are_named_with_the_setting() {
    let subscriber = Cluster::private(15, &[("max_sync_workers_per_subscription", "1")]);
    let pair = Pair::between(Cluster::publisher(12), subscriber)
        .with_accounts(10)
        .replicating();
    let create =
        "CREATE TABLE copy_a (id int PRIMARY KEY); CREATE TABLE copy_b (id int PRIMARY KEY);
                  CREATE TABLE copy_c (id int PRIMARY KEY)";
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql(pair.db(), create);
    }
    let grant = format!(
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
        pair.names().repl
    );
    pair.publisher().sql(pair.db(), &grant);
    let mut lock = pair.subscriber().superuser_session(pair.db());
    lock.batch_execute("BEGIN; LOCK TABLE copy_a, copy_b, copy_c IN SHARE MODE")
        .expect("lock");
    let refresh = format!("ALTER SUBSCRIPTION {} REFRESH PUBLICATION", pair.subname());
    pair.subscriber().sql(pair.db(), &refresh);
    let running = watching(&pair);
    named(
        &running,
        "copy_waits_for_workers",
        &[
            "2 tables wait",
            "max_sync_workers_per_subscription = 1 of the subscriber",
        ],
    );
    named(&running, "waits_for_lock", &["the copy of public.copy_"]);
    drop(lock);
    pair.await_tables_ready();
}

#[test]
fn a_narrow_line_is_named() {
    let pair = Pair::new(15, 17).with_accounts(10).replicating();
    let proxy = Proxy::to(pair.publisher().port());
    proxy.narrow(400_000);
    let conninfo = pair.publisher().conninfo(
        pair.db(),
        &pair.names().repl,
        crate::support::pair::Passwords::REPL,
    );
    let conninfo = conninfo.replace(
        &format!("port={}", pair.publisher().port()),
        &format!("port={}", proxy.port()),
    );
    pair.subscriber().sql(
        pair.db(),
        &format!(
            "ALTER SUBSCRIPTION {} CONNECTION '{}'",
            pair.subname(),
            conninfo.replace('\'', "''")
        ),
    );
    let running = watching(&pair);
    for _ in 0..6 {
        pair.publisher().sql(
            pair.db(),
            "INSERT INTO pgbench_history SELECT 1, 1, n, 0, now(), repeat('x', 22) FROM generate_series(1, 50000) n",
        );
    }
    named(
        &running,
        "network",
        &["the network between the servers is the limit"],
    );
    running.signal(libc::SIGINT);
    running.wait().ok();
}

#[test]
fn a_slow_disk_of_the_subscriber_is_named() {
    let subscriber = Cluster::private(17, &[("shared_buffers", "256kB")]);
    if !subscriber.with_changeable_disk() {
        println!("left out: no C compiler");
        return;
    }
    let pair = Pair::between(Cluster::publisher(14), subscriber);
    let pair = pair.with_accounts(5000).replicating();
    pair.await_caught_up();
    let running = watching(&pair);
    pair.subscriber().slow_down(true);
    // More pages than its buffers hold, in no order.
    pair.publisher().sql(
        pair.db(),
        "DO $$ BEGIN FOR n IN 0..4999 LOOP
            UPDATE pgbench_accounts SET abalance = n, filler = repeat('x', 84) WHERE aid = (n * 1201 % 5000) + 1;
         END LOOP; END $$",
    );
    named(
        &running,
        "subscriber_disk",
        &["the disk of the subscriber is the limit"],
    );
    pair.subscriber().slow_down(false);
    gone(&running, "subscriber_disk");
    running.signal(libc::SIGINT);
    running.wait().ok();
    pair.await_caught_up();
}
