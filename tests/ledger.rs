//! The ledger of a generator that did not end in peace.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::flare::Invocation;
use crate::support::output::Output;
use crate::support::pair::Passwords;
use crate::support::{Pair, wait};

const TABLES: &str = "CREATE TABLE items (id text PRIMARY KEY, name text NOT NULL);
    CREATE TABLE sessions (id text PRIMARY KEY, last_keepalive_at timestamptz NOT NULL);";

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

#[test]
fn a_generator_that_is_killed_accuses_nobody() {
    let pair = Pair::new(16, 17);
    let publisher = pair.publisher();
    publisher.sql(pair.db(), TABLES);
    let url = publisher.url(pair.db(), publisher.admin(), Passwords::ADMIN);
    let ledger = pair.dir().join("ledger");
    let underway = pair.dir().join("ledger.underway");
    let attack = ["attack", "--dsn", &url, "--clients", "8"];
    let attack = [&attack[..], &["--ledger", text(&ledger)]].concat();
    let verify = |ledger: &Path| -> Output {
        let args = ["verify_attack", "--ledger", text(ledger), "--dsn", &url];
        Invocation::new(&args).run()
    };
    let rows = || -> u64 {
        let count = publisher.value(pair.db(), "SELECT count(*) FROM items");
        count.parse().expect("a count")
    };
    let limit = Duration::from_secs(15);
    let at_rest = || {
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flare/attack'";
        publisher.value(pair.db(), left) == "0"
    };
    // Each goes on with the ledger of the one before.
    for _ in 0..3 {
        let before = rows();
        let running = Invocation::new(&attack).spawn();
        wait::for_("rows", limit, || rows() > before + 200);
        running.kill_9();
        running.wait();
        wait::for_("its sessions to end", limit, at_rest);
        assert!(underway.exists());
        verify(&ledger).ok();
    }
    let whole = [&attack[..], &["--duration", "1s"]].concat();
    Invocation::new(&whole).run().ok();
    assert!(!underway.exists(), "it ended in peace");
    verify(&ledger).ok();

    // What is at the end is missed as much as what is in the middle.
    let told = fs::read_to_string(&ledger).expect("read the ledger");
    let cut_off = pair.dir().join("cut-off");
    let lines: Vec<&str> = told.lines().collect();
    for kept in [lines.len() - 1, lines.len() - 3] {
        let left = lines[..kept].join("\n") + "\n";
        fs::write(&cut_off, left).expect("write the ledger");
        verify(&cut_off).code(3);
    }
}
