//! `monitor`: what it shows, on every version, and that it goes on when a server does not.

mod causes;
mod picture;
mod screen;

use std::time::Duration;

use serde_json::Value;

use crate::support::{Pair, matrix};

fn once(pair: &Pair) -> Value {
    let output = pair.flare(&[
        "monitor",
        pair.db(),
        pair.subname(),
        "--once",
        "--format",
        "json",
    ]);
    output.ok().json()
}

#[test]
fn one_sample_of_each_pair_of_versions() {
    matrix::for_some_pairs(|old, new| {
        let pair = Pair::new(old, new).with_accounts(10).replicating();
        check(&once(&pair), &pair, old, new);
    });
}

#[test]
fn one_sample_without_a_superuser() {
    for &(old, new) in matrix::sample(&[(10, 11), (15, 18)], &[(15, 18)]) {
        let pair = Pair::rds(old, new).with_accounts(10).replicating();
        check(&once(&pair), &pair, old, new);
    }
}

fn check(sample: &Value, pair: &Pair, old: u32, new: u32) {
    assert_eq!(sample["slot_name"], pair.subname(), "{sample}");
    assert_eq!(sample["active"], true, "{sample}");
    let headline = &sample["headline"];
    let writes = "The application writes on the publisher.";
    assert_eq!(headline["writable"], writes, "{sample}");
    assert!(headline["cut_over"]["answer"].is_string(), "{sample}");
    assert!(
        sample["lag_bytes"].is_u64() && sample["retained_wal_bytes"].is_u64(),
        "{sample}"
    );
    assert_eq!(sample["wal_status"].is_string(), old >= 13, "{sample}");
    assert_eq!(
        sample["tables"],
        serde_json::json!({"total": 4, "ready": 4}),
        "{sample}"
    );
    let (publisher, subscriber) = (&sample["publisher"], &sample["subscriber"]);
    assert_eq!(
        publisher["walsenders"][0]["application_name"],
        pair.subname(),
        "{sample}"
    );
    assert_eq!(subscriber["subscription"]["subenabled"], true, "{sample}");
    assert_eq!(
        subscriber["workers"].as_array().map(Vec::len),
        Some(1),
        "{sample}"
    );
    assert_eq!(subscriber["errors"].is_object(), new >= 15, "{sample}");
}

#[test]
fn what_is_not_there_is_said() {
    let pair = Pair::new(16, 17);
    pair.create_roles_on(pair.subscriber());
    pair.create_database_on(pair.subscriber());
    let output = pair.flare(&["monitor", pair.db(), pair.subname(), "--once"]);
    output
        .ok()
        .prints("MISSING")
        .prints("there is no such subscription");
    pair.flare(&["monitor", pair.db(), "nope", "--once"])
        .code(2);
    pair.flare(&["monitor", "nope", pair.subname(), "--once"])
        .code(2);
    pair.configure(|config| config["hosts"]["publisher"]["conn"]["system_identifier"] = "1".into());
    let output = pair.flare(&["monitor", pair.db(), pair.subname(), "--once"]);
    output.code(1).fails_with("system_identifier");
}

#[test]
fn a_server_that_goes_away_and_comes_back_is_seen() {
    let pair = Pair::alone(14, 16).with_accounts(10).replicating();
    let running = pair.spawn(&[
        "monitor",
        pair.db(),
        pair.subname(),
        "--interval",
        "100ms",
        "--format",
        "json",
    ]);
    running.until_stdout(r#""active":true"#);
    pair.publisher().stop();
    running.until_stdout(r#""publisher":null"#);
    pair.publisher().start();
    let goes_on = || {
        let seen = running.stdout_so_far();
        let last = seen.lines().rev().nth(1).unwrap_or_default().to_owned();
        last.contains(r#""publisher_error":null"#)
    };
    crate::support::wait::for_(
        "the publisher to be seen again",
        Duration::from_secs(20),
        goes_on,
    );
    running.signal(libc::SIGINT);
    let output = running.wait();
    output.ok();
    for line in output.stdout().lines() {
        serde_json::from_str::<Value>(line).expect("an object in each line");
    }
}
