//! How far behind: what the publisher itself says, and the limits that make it a warning.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{apply_blocked, of_one, pairs, replicating, says, write_mb};
use crate::support::{Cluster, Pair, wait};

const MB: u64 = 1 << 20;

/// What the publisher itself says the subscription has not confirmed.
fn lag_by_server(pair: &Pair) -> u64 {
    let lag = format!(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::int8
           FROM pg_replication_slots WHERE slot_name = '{}'",
        pair.subname()
    );
    let text = pair.publisher().value("postgres", &lag);
    text.parse().expect("a number of bytes")
}

/// The same once what came before the blocked change is confirmed.
fn settled_lag_by_server(pair: &Pair) -> u64 {
    let confirmed = format!(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        pair.subname()
    );
    let mut last = String::new();
    wait::for_("the slot to stand still", Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(700));
        let before = std::mem::replace(&mut last, pair.publisher().value("postgres", &confirmed));
        before == last
    });
    lag_by_server(pair)
}

#[test]
fn an_idle_publisher_is_no_lag_whatever_else_its_server_does() {
    for &(old, new) in pairs() {
        let pair = replicating(old, new);
        let publisher = pair.publisher();
        for elsewhere in [
            "SELECT 1",
            "CHECKPOINT",
            "SELECT pg_switch_wal()",
            "CREATE TABLE IF NOT EXISTS public.elsewhere AS SELECT generate_series(1, 50000) a",
            "DELETE FROM public.elsewhere",
        ] {
            publisher.sql("postgres", elsewhere);
            let one = of_one(&pair, 0, &["--warning", "5s"]);
            assert!(one["lag_seconds"].as_f64() < Some(5.0), "{one}");
            assert_eq!(one["active"], true, "{one}");
            assert_eq!(one["slot_name"], pair.subname(), "{one}");
            assert_eq!(one["tables"]["total"], 4, "{one}");
            assert_eq!(one["tables"]["ready"], 4, "{one}");
            assert_eq!(one["wal_status"].is_null(), old < 13, "{one}");
            assert!(one["retained_wal_bytes"].is_u64(), "{one}");
            pair.await_caught_up();
        }
        publisher.sql("postgres", "DROP TABLE public.elsewhere");
    }
}

#[test]
fn lag_is_what_the_publisher_says_and_the_limits_decide() {
    for &(old, new) in pairs() {
        let pair = replicating(old, new);
        of_one(&pair, 0, &[]);
        let lock = apply_blocked(&pair);
        write_mb(&pair, 6);
        let before = settled_lag_by_server(&pair);
        let one = of_one(&pair, 1, &["--warning", "1MB"]);
        let after = lag_by_server(&pair);
        let lag = one["lag_bytes"].as_u64().expect("a number of bytes");
        assert!((before..=after).contains(&lag), "{before} {after} {one}");
        assert!(lag > 4 * MB, "{one}");
        says(&one, "the lag is above 1 MB (warning)");
        let retained = one["retained_wal_bytes"].as_u64().expect("bytes");
        assert!(retained >= lag, "{one}");
        // The look before the lock is what the subscriber has confirmed since.
        let seconds = one["lag_seconds"].as_f64().expect("a number of seconds");
        assert!((0.0..60.0).contains(&seconds), "{one}");
        let one = of_one(&pair, 1, &["--warning", "0.5s"]);
        assert!(one["lag_seconds"].as_f64() > Some(seconds), "{one}");
        says(&one, "the lag is above 0.5 s (warning)");

        for (limits, code) in [
            (vec!["--critical", "1MB"], 2),
            (vec!["--warning", "1MB", "--critical", "2MB"], 2),
            (vec!["--warning", "1MB", "--critical", "1GB"], 1),
            (vec!["--warning", "10m", "--warning", "1GB"], 0),
            (vec!["--critical", "0s"], 2),
        ] {
            of_one(&pair, code, &limits);
            let words = ["OK", "WARNING", "CRITICAL"][code as usize];
            let output = pair.flare(&[&["lag", pair.subname()], &limits[..]].concat());
            output
                .code(code)
                .prints(&format!("{words}: {}", pair.subname()));
            assert_eq!(output.stderr(), "", "{output}");
        }
        pair.configure(|config| {
            config["lag"] = serde_yaml::from_str("{warning: {retained_wal: 1MB}}").expect("YAML");
        });
        let one = of_one(&pair, 1, &[]);
        says(&one, "the slot retains more than 1 MB of WAL (warning)");
        drop(lock);
        pair.await_caught_up();
    }
}

/// Another's look long ago is the newest that a subscription has confirmed which is a few bytes behind.
#[test]
fn a_look_long_ago_makes_no_lag_that_old() {
    let pair = Pair::between(Cluster::private(14, &[]), Cluster::subscriber(18))
        .with_accounts(10)
        .replicating();
    pair.await_caught_up();
    of_one(&pair, 0, &[]);
    pair.publisher().sql(
        "postgres",
        "UPDATE flare.sample SET time = time - interval '1 hour', since = since - interval '1 hour'",
    );
    let lock = apply_blocked(&pair);
    let change = "UPDATE pgbench_accounts SET abalance = 1 WHERE aid = 1";
    pair.publisher().sql(pair.db(), change);
    pair.publisher()
        .sql("postgres", "SELECT txid_current(); CHECKPOINT");
    let written = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let status = pair.flare(&["status", "--format", "json"]).json();
    let status = &status["subscriptions"][0];
    assert_eq!(status["stage"], "replicating", "{status}");
    let one = of_one(&pair, 0, &[]);
    for it in [status, &one] {
        let seconds = it["lag_seconds"].as_f64().expect("seconds");
        let truth = written.elapsed().as_secs_f64() + 0.5;
        assert!((2.0..truth).contains(&seconds), "{truth}: {it}");
        let at_most = it["lag_seconds_at_most"].as_f64();
        assert!(at_most > Some(3600.0), "{it}");
    }
    says(&one, "at least ");
    // Seldom looked at, it is known all the same since when the worker is stuck.
    let one = of_one(&pair, 0, &[]);
    let seconds = one["lag_seconds"].as_f64().expect("seconds");
    assert!(seconds > 4.0, "{one}");
    drop(lock);
    pair.await_caught_up();
}

/// Ends a writer of another thread, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_busy_publisher_whose_subscriber_follows_is_ok() {
    let pair = replicating(14, 18);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = pair.publisher().superuser_session(pair.db());
            while !stop.load(Ordering::Relaxed) {
                client
                    .batch_execute("UPDATE pgbench_accounts SET abalance = abalance + 1")
                    .expect("write");
                // As many as a single worker can follow on a busy machine.
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..5 {
            // Nothing in the diary is younger than the look before.
            let one = of_one(&pair, 0, &["--warning", "3s", "--critical", "4s"]);
            assert!(one["lag_seconds"].as_f64() < Some(3.0), "{one}");
            std::thread::sleep(Duration::from_millis(500));
        }
    });
}
