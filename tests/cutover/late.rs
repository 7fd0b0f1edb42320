//! A session of flare's own that its server lets go on late.

use std::time::Duration;

use super::fixture::{assert_settled, go_on, of_the_run_in, ready, stopped_at};
use crate::support::application::Side;
use crate::support::pair::Passwords;
use crate::support::{Pair, process, wait};

/// The server processes of cutovers whose query has these words, and that are `of` a run.
fn sessions_that(pair: &Pair, words: &str, of: &str) -> Vec<u32> {
    let found = format!(
        "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity session
          WHERE application_name = 'flare/cutover' AND query LIKE '%{words}%' AND {of}"
    );
    let found = pair.publisher().value("postgres", &found);
    let pids = found.split_whitespace().map(|pid| pid.parse());
    pids.collect::<Result<_, _>>().expect("pids")
}

#[test]
fn the_locks_may_have_become_the_fence_before_whoever_clears_their_way_looks() {
    let pair = ready(Pair::new(14, 18).with_accounts(10));
    let (to, publisher) = (Side::Subscriber, pair.publisher());
    let run = stopped_at(&pair, to, "revoke", &["--max-pause", "20s"]);
    let clearing = sessions_that(&pair, "waiting CONSTANT int[]", &of_the_run_in(pair.db()))[0];
    process::signal(clearing, libc::SIGSTOP);
    go_on(&run);
    // The signal of the fence: "fls" in ASCII, and its number.
    let fenced = format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::bigint = {}
            AND database = (SELECT oid FROM pg_database WHERE datname = '{}')",
        0x66_6c_73_0a,
        pair.db()
    );
    wait::for_("the fence", Duration::from_secs(15), || {
        publisher.value("postgres", &fenced) != "0"
    });
    process::signal(clearing, libc::SIGCONT);
    let run = run.wait();
    assert_eq!(run.ok().json()["outcome"], "switched", "{run}");
    assert_settled(&pair, to);
}

/// The locks, which wait for one table after the other, meet a transaction that waits for what they hold.
#[test]
fn a_transaction_that_makes_a_deadlock_with_the_locks_gets_through_and_undoes_nothing() {
    let pair = ready(Pair::new(13, 17).with_accounts(10));
    let (to, publisher) = (Side::Subscriber, pair.publisher());
    let app = || {
        let app = publisher.connect(pair.db(), &pair.names().app, Passwords::APP);
        app.expect("a session of the application")
    };
    let (mut one, mut other) = (app(), app());
    one.batch_execute("BEGIN; UPDATE pgbench_branches SET bbalance = 1")
        .expect("the table in the middle");
    other
        .batch_execute("BEGIN; UPDATE pgbench_tellers SET tbalance = 1")
        .expect("the last one");
    let run = stopped_at(&pair, to, "revoke", &["--max-pause", "20s"]);
    // Whoever would end these two does so late.
    let of_the_run = of_the_run_in(pair.db());
    let in_it = format!("datname = '{}'", pair.db());
    let late = [
        sessions_that(&pair, "waiting CONSTANT int[]", &of_the_run),
        // It has looked at the guard.
        sessions_that(&pair, "FROM pg_stat_activity WHERE pid = $1", &in_it),
    ]
    .concat();
    assert_eq!(late.len(), 2);
    for pid in &late {
        process::signal(*pid, libc::SIGSTOP);
    }
    go_on(&run);
    let waits = |what: &str, mode: &str| {
        let waits = format!(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
              WHERE d.datname = '{}' AND NOT l.granted AND l.mode = '{mode}'",
            pair.db()
        );
        wait::for_(what, Duration::from_secs(15), || {
            publisher.value("postgres", &waits) != "0"
        });
    };
    waits("the locks to wait", "ShareRowExclusiveLock");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| other.batch_execute("UPDATE pgbench_accounts SET abalance = 1"));
        waits("the transaction to wait", "RowExclusiveLock");
        one.batch_execute("ROLLBACK").expect("out of the way");
        first.join().expect("no panic").expect("the locks give way");
    });
    for pid in &late {
        process::signal(*pid, libc::SIGCONT);
    }
    let run = run.wait();
    assert_eq!(run.ok().json()["outcome"], "switched", "{run}");
    assert_settled(&pair, to);
}
