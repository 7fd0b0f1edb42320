//! What flare changes on a live publisher never makes the application wait long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::support::pair::Passwords;
use crate::support::{Pair, wait};

/// `lock_timeout` is 2 s; the rest is for a busy machine.
const QUEUED: Duration = Duration::from_millis(3500);

fn application(pair: &Pair) -> Client {
    let app = &pair.names().app;
    let session = pair.publisher().connect(pair.db(), app, Passwords::APP);
    session.expect("the application")
}

/// Runs a command behind a transaction of some seconds; the longest that a statement of the application took.
fn behind(pair: &Pair, blocking: &str, command: &[&str]) -> Duration {
    let db = pair.db();
    let mut blocker = pair.publisher().superuser_session(db);
    blocker
        .batch_execute(&format!("BEGIN; {blocking}"))
        .expect("hold a lock");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = application(pair);
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                client
                    .batch_execute("INSERT INTO pgbench_history (tid, bid, aid) VALUES (1, 1, 1)")
                    .expect("the application's insert");
                longest = longest.max(begun.elapsed());
                thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        let running = pair.spawn(command);
        let waits = format!(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{db}'
                AND wait_event_type = 'Lock' AND application_name = 'flare/{}'",
            command[0]
        );
        wait::for_("flare to wait", Duration::from_secs(20), || {
            pair.publisher().value("postgres", &waits) == "t"
        });
        thread::sleep(Duration::from_secs(6));
        assert!(!running.has_ended(), "it did not wait for its lock");
        blocker.batch_execute("COMMIT").expect("let go");
        running.wait().ok();
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer")
    })
}

#[test]
fn the_application_is_not_queued_behind_ddl() {
    let pair = Pair::new(14, 18).with_accounts(10);
    let longest = behind(
        &pair,
        "UPDATE pgbench_history SET delta = 1; INSERT INTO pgbench_history (tid) VALUES (1)",
        &["create_publication", pair.db()],
    );
    assert!(longest < QUEUED, "a statement took {longest:?}");
    let identity = "SELECT relreplident FROM pg_class WHERE relname = 'pgbench_history'";
    assert_eq!(pair.publisher().value(pair.db(), identity), "f");
}

#[test]
#[ignore = "make soak"]
fn a_lock_that_is_never_given_ends_with_who_holds_it() {
    let pair = Pair::new(13, 18).with_accounts(10);
    let mut blocker = pair.publisher().superuser_session(pair.db());
    blocker
        .batch_execute("BEGIN; INSERT INTO pgbench_history (tid) VALUES (1)")
        .expect("hold a lock");
    let run = pair.flare(&["create_publication", pair.db()]);
    run.code(1)
        .says("it is tried again for 30s in all")
        .says("hint: ");
    assert!(run.took() < wait::BUSY * Duration::from_secs(20), "{run}");
    let published = "SELECT count(*) FROM pg_publication";
    assert_eq!(pair.publisher().value(pair.db(), published), "0", "{run}");
    blocker.batch_execute("ROLLBACK").expect("let go");
    pair.flare(&["create_publication", pair.db()]).ok();
}
