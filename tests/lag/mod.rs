//! lag: every state planted on real servers, and compared with what the servers say themselves.

mod alerts;
mod behind;
mod broken;
mod fleet;
mod lost;
mod output;
mod without_superuser;

use postgres::Client;
use serde_json::Value;

use crate::support::output::Output;
use crate::support::{Pair, matrix};

fn pairs() -> &'static [(u32, u32)] {
    if matrix::is_all() {
        &[(10, 13), (14, 18), (13, 14), (10, 18)]
    } else {
        &[(10, 18)]
    }
}

fn replicating(old: u32, new: u32) -> Pair {
    let pair = Pair::new(old, new).with_accounts(10).replicating();
    pair.await_caught_up();
    pair
}

fn json(pair: &Pair, more: &[&str]) -> (Output, Value) {
    let output = pair.flare(&[&["lag", "--format", "json"], more].concat());
    let json = output.json();
    (output, json)
}

/// The only subscription's part.
fn of_one(pair: &Pair, code: i32, more: &[&str]) -> Value {
    let (output, json) = json(pair, more);
    output.code(code);
    let status = ["ok", "warning", "critical", "unknown"][code as usize];
    assert_eq!(json["status"], status, "{output}");
    assert_eq!(json["ok"], code == 0, "{output}");
    assert_eq!(json["error"].is_null(), code == 0, "{output}");
    let subscription = json["subscriptions"][0].clone();
    assert_eq!(subscription["subname"], pair.subname(), "{output}");
    assert_eq!(subscription["dbname"], pair.db(), "{output}");
    assert_eq!(subscription["status"], status, "{output}");
    subscription
}

#[track_caller]
fn says(subscription: &Value, words: &str) {
    let message = subscription["message"].as_str().unwrap_or_default();
    assert!(message.contains(words), "{words:?} is missing: {message}");
}

/// Lets no change of pgbench_accounts be applied until it is dropped.
fn apply_blocked(pair: &Pair) -> Client {
    let mut lock = pair.subscriber().superuser_session(pair.db());
    lock.batch_execute("BEGIN; LOCK TABLE pgbench_accounts IN ACCESS EXCLUSIVE MODE")
        .expect("lock the table");
    lock
}

/// A transaction each: while one is decoded, what lies before its end is confirmed already.
fn write_mb(pair: &Pair, mb: u64) {
    for _ in 0..mb {
        pair.publisher().sql(
            pair.db(),
            "INSERT INTO pgbench_accounts (aid, bid, filler)
             SELECT (SELECT max(aid) FROM pgbench_accounts) + n, 1, repeat('x', 84) FROM generate_series(1, 7000) n",
        );
    }
}

fn sql_on_subscriber(pair: &Pair, sql: &str) {
    pair.subscriber().sql(pair.db(), sql);
}
