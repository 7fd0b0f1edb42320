//! A slot driven to its loss at a constant rate: the hours left, compared with when that came to pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Cluster, Pair};

#[test]
#[ignore = "drives a slot to its loss, which takes a minute or two: make soak"]
fn the_hours_left_are_those_until_the_slot_is_lost() {
    for version in [13, 16] {
        let settings = [
            ("max_slot_wal_keep_size", "64MB"),
            ("max_wal_size", "64MB"),
            ("min_wal_size", "32MB"),
        ];
        let pair = Pair::between(
            Cluster::private(version, &settings),
            Cluster::private(18, &[]),
        )
        .with_accounts(10)
        .replicating();
        let (db, sub) = (pair.db(), pair.subname());
        let disable = format!("ALTER SUBSCRIPTION {sub} DISABLE");
        pair.subscriber().sql(db, &disable);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut client = pair.publisher().superuser_session(db);
        let writer = std::thread::spawn(move || {
            let mut next = Instant::now();
            while !stopped.load(Ordering::SeqCst) {
                let message = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 100000))";
                client.batch_execute(message).expect("write WAL");
                next += Duration::from_millis(100);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        let since = Instant::now();
        let mut foretold = Vec::new();
        let actual = loop {
            let lag = pair.flare(&["lag", sub, "--format", "json"]).json();
            let at = since.elapsed().as_secs_f64();
            let seen = &lag["subscriptions"][0];
            if seen["retention"]["bytes_left"] == 0 || seen["wal_status"] == "lost" {
                break at;
            }
            if let Some(hours) = seen["retention"]["hours_left"].as_f64() {
                foretold.push(at + hours * 3600.0);
            }
            assert!(at < 300.0, "{lag:#}");
            std::thread::sleep(Duration::from_secs(2));
        };
        stop.store(true, Ordering::SeqCst);
        writer.join().expect("the writer");
        println!("{version}: lost after {actual:.0} s, foretold {foretold:.0?}");
        assert!(foretold.len() > 5, "{foretold:?}");
        let near = |it: &&f64| (*it - actual).abs() < actual * 0.2;
        let right = foretold.iter().filter(near).count();
        assert!(right * 5 >= foretold.len() * 4, "{actual}: {foretold:?}");
    }
}
