//! lag: every state planted on real servers, and compared with what the servers say themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use postgres::Client;
use serde_json::Value;

use crate::support::flare::{Invocation, program};
use crate::support::output::Output;
use crate::support::{Cluster, Pair, wait};

const PAIRS: [(u32, u32); 4] = [(10, 13), (13, 14), (14, 18), (10, 18)];
const MB: u64 = 1 << 20;

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

fn sql_on_subscriber(pair: &Pair, sql: &str) {
    pair.subscriber().sql(pair.db(), sql);
}

#[test]
fn an_idle_publisher_is_no_lag_whatever_else_its_server_does() {
    for (old, new) in PAIRS {
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
    for (old, new) in PAIRS {
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

#[test]
fn a_busy_publisher_whose_subscriber_follows_is_ok() {
    let pair = replicating(14, 18);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = pair.publisher().superuser_session(pair.db());
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                client
                    .batch_execute("UPDATE pgbench_accounts SET abalance = abalance + 1")
                    .expect("write");
            }
        });
        for _ in 0..5 {
            // Nothing in the diary is younger than the look before.
            let one = of_one(&pair, 0, &["--warning", "3s", "--critical", "4s"]);
            assert!(one["lag_seconds"].as_f64() < Some(3.0), "{one}");
            std::thread::sleep(Duration::from_millis(500));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_subscription_that_does_not_follow_is_critical_and_says_why() {
    for (old, new) in PAIRS {
        let pair = replicating(old, new);
        let sub = pair.subname();
        sql_on_subscriber(&pair, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
        let inactive =
            format!("SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{sub}'");
        let is_inactive = || pair.publisher().value("postgres", &inactive) == "t";
        wait::for_("the slot to be left", Duration::from_secs(20), is_inactive);
        let one = of_one(&pair, 2, &[]);
        says(&one, "the subscription is disabled");
        assert_eq!(one["active"], false, "{one}");
        assert_eq!(one["lag_seconds"], 0.0, "{one}");

        // The age of the first change that waits, by the publisher's clock.
        write_mb(&pair, 1);
        std::thread::sleep(Duration::from_millis(1500));
        write_mb(&pair, 1);
        let one = of_one(&pair, 2, &[]);
        let seconds = one["lag_seconds"].as_f64().expect("seconds");
        assert!((1.5..20.0).contains(&seconds), "{one}");
        is_inactive();

        // Missing here, and so told apart from a lost one.
        sql_on_subscriber(
            &pair,
            &format!("ALTER SUBSCRIPTION {sub} SET (slot_name = NONE)"),
        );
        says(&of_one(&pair, 2, &[]), "has no slot (slot_name = NONE)");
        sql_on_subscriber(
            &pair,
            &format!("ALTER SUBSCRIPTION {sub} SET (slot_name = '{sub}')"),
        );
        pair.publisher().sql(
            "postgres",
            &format!("SELECT pg_drop_replication_slot('{sub}')"),
        );
        let one = of_one(&pair, 2, &[]);
        says(&one, "is missing on the publisher");
        assert!(
            one["active"].is_null() && one["lag_bytes"].is_null(),
            "{one}"
        );

        sql_on_subscriber(
            &pair,
            &format!("ALTER SUBSCRIPTION {sub} SET (slot_name = NONE); DROP SUBSCRIPTION {sub}"),
        );
        let one = of_one(&pair, 2, &[]);
        says(&one, "there is no subscription");
        assert!(one["tables"].is_null(), "{one}");
    }
}

#[test]
fn an_apply_worker_that_fails_is_critical() {
    for (old, new) in PAIRS {
        let pair = replicating(old, new);
        sql_on_subscriber(&pair, "ALTER TABLE pgbench_accounts DROP COLUMN filler");
        write_mb(&pair, 1);
        wait::for_("apply to fail", Duration::from_secs(30), || {
            let log = pair.subscriber().log();
            log.contains("missing replicated column")
                || log.contains("missing some replicated columns")
        });
        // Younger than that, it is no standstill yet.
        std::thread::sleep(Duration::from_secs(3));
        for _ in 0..3 {
            let one = of_one(&pair, 2, &[]);
            says(&one, "subscriber's log");
        }
    }
}

#[test]
fn a_lost_slot_is_no_missing_one() {
    for old in [13, 14, 18] {
        let settings = [
            ("max_slot_wal_keep_size", "1MB"),
            ("min_wal_size", "32MB"),
            ("max_wal_size", "32MB"),
        ];
        let publisher = Cluster::private(old, &settings);
        let pair = Pair::between(publisher, Cluster::subscriber(18))
            .with_accounts(10)
            .replicating();
        let sub = pair.subname();
        sql_on_subscriber(&pair, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
        let lost = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{sub}'");
        wait::for_("the slot to be lost", Duration::from_secs(60), || {
            write_mb(&pair, 3);
            pair.publisher().sql("postgres", "SELECT pg_switch_wal()");
            pair.publisher().sql("postgres", "CHECKPOINT");
            pair.publisher().value("postgres", &lost) == "lost"
        });
        let one = of_one(&pair, 2, &[]);
        says(&one, "is lost");
        assert_eq!(one["wal_status"], "lost", "{one}");
        assert!(one["lag_seconds"].is_null(), "{one}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_unknown_in_time() {
    let pair = Pair::alone(14, 18).with_accounts(10).replicating();
    pair.configure(|config| {
        for side in ["publisher", "subscriber"] {
            config["hosts"][side]["conn"]["connect_timeout"] = "1s".into();
        }
    });
    type Act = fn(&Cluster);
    let acts: [(Act, Act); 2] = [
        (Cluster::freeze, Cluster::thaw),
        (Cluster::stop, Cluster::start),
    ];
    for (down, up) in acts {
        for (side, server) in [
            ("publisher", pair.publisher()),
            ("subscriber", pair.subscriber()),
        ] {
            down(server);
            let output = pair.flare(&["lag", "--quiet"]);
            output.code(3).prints("UNKNOWN").prints(side);
            assert!(output.took() < Duration::from_secs(9), "{output}");
            let one = of_one(&pair, 3, &[]);
            says(&one, &format!("the {side} does not answer"));
            assert_eq!(one["lag_bytes"].is_null(), side == "publisher", "{one}");
            assert_eq!(one["tables"].is_null(), side == "subscriber", "{one}");
            up(server);
        }
        pair.publisher().stop();
        pair.subscriber().stop();
        let file = pair.dir().join("none.prom");
        let file = file.to_str().expect("UTF-8");
        let (output, json) = json(&pair, &["--prometheus", file]);
        output
            .code(3)
            .prints("publisher 127.0.0.1")
            .prints("subscriber 127.0.0.1");
        assert_eq!(json["status"], "unknown", "{output}");
        let scrape = metrics(&fs::read_to_string(file).expect("the file"));
        assert!(scrape.samples.is_empty(), "{scrape:?}");
        pair.publisher().start();
        pair.subscriber().start();
        let is_ok = || pair.flare(&["lag"]).status().code() == Some(0);
        wait::for_("the subscription to go on", Duration::from_secs(60), is_ok);
    }
}

#[test]
fn usage_and_configuration_errors_and_strangers_are_unknown() {
    let pair = replicating(14, 18);
    for args in [
        vec!["lag", "nosuch"],
        vec!["lag", "--warning", "64"],
        vec!["lag", "--warning", "64 parsecs"],
        vec!["lag", "--nosuch"],
        vec!["lag", "--config", "/nosuch.yml"],
        vec!["lag", "--prometheus", "/nosuch/flare.prom"],
    ] {
        pair.flare(&args).code(3).says("error: ");
        let output = pair.flare(&[&args[..], &["--format", "json"]].concat());
        output.code(3);
        assert_eq!(output.json()["status"], "unknown", "{output}");
    }
    pair.configure(|config| {
        config["hosts"]["publisher"]["conn"]["system_identifier"] = "1".into();
    });
    pair.flare(&["lag"]).code(3).says("system_identifier");
}

#[test]
fn quiet_prints_only_what_is_not_ok() {
    let pair = replicating(14, 18);
    for format in ["human", "json"] {
        let output = pair.flare(&["lag", "--quiet", "--format", format]);
        output.ok();
        assert_eq!((output.stdout(), output.stderr()), ("", ""), "{output}");
    }
    sql_on_subscriber(
        &pair,
        &format!("ALTER SUBSCRIPTION {} DISABLE", pair.subname()),
    );
    let output = pair.flare(&["lag", "--quiet"]);
    output.code(2).prints("CRITICAL: ").prints("is disabled");
    assert_eq!(output.stderr(), "", "{output}");
}

fn metrics(text: &str) -> prometheus_parse::Scrape {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    prometheus_parse::Scrape::parse(lines).expect("Prometheus's text format")
}

fn number(scrape: &prometheus_parse::Scrape, name: &str, state: Option<&str>) -> Option<f64> {
    let found = scrape
        .samples
        .iter()
        .find(|it| it.metric == name && it.labels.get("state") == state)?;
    match found.value {
        prometheus_parse::Value::Gauge(value) | prometheus_parse::Value::Counter(value) => {
            Some(value)
        }
        ref other => panic!("{name} is neither gauge nor counter: {other:?}"),
    }
}

#[test]
fn prometheus_reads_the_textfile() {
    let pair = replicating(14, 18);
    // A name that the format has to escape.
    let odd = "a\"b\\c";
    pair.configure(|config| {
        let subscription = config["subscriptions"][pair.subname()].clone();
        config["subscriptions"][odd] = subscription;
    });
    let path = pair.dir().join("flare.prom");
    let file = path.to_str().expect("UTF-8");
    for _ in 0..2 {
        pair.flare(&["lag", "--prometheus", file, pair.subname()])
            .ok();
    }
    let scrape = metrics(&fs::read_to_string(&path).expect("the file"));
    assert_eq!(scrape.docs.len(), 6, "{scrape:?}");
    for sample in &scrape.samples {
        assert_eq!(sample.labels.get("subname"), Some(pair.subname()));
        assert_eq!(sample.labels.get("dbname"), Some(pair.db()));
    }
    assert_eq!(number(&scrape, "flare_slot_active", None), Some(1.0));
    assert_eq!(number(&scrape, "flare_tables", Some("ready")), Some(4.0));
    assert_eq!(number(&scrape, "flare_tables", Some("copying")), Some(0.0));
    assert_eq!(number(&scrape, "flare_apply_errors_total", None), Some(0.0));
    for name in [
        "flare_lag_bytes",
        "flare_lag_seconds",
        "flare_retained_wal_bytes",
    ] {
        assert!(number(&scrape, name, None).is_some(), "{name}: {scrape:?}");
    }
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    // Both, of which one is not there: nothing is left beside the file.
    pair.flare(&["lag", "--prometheus", file]).code(2);
    let scrape = metrics(&fs::read_to_string(&path).expect("the file"));
    let odd_lines = scrape.samples.iter();
    let odd_lines = odd_lines.filter(|it| it.labels.get("subname") != Some(pair.subname()));
    assert_eq!(odd_lines.count(), 1, "{scrape:?}");
    let left = fs::read_dir(pair.dir()).expect("the directory");
    let left: Vec<_> = left
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains("flare") && name != "flare.yml")
        .collect();
    assert_eq!(left, ["flare.prom"]);
}

#[test]
fn cron_gives_no_environment() {
    let pair = replicating(14, 18);
    let config = pair.config_path();
    let program = program();
    let output = Invocation::of(
        "/usr/bin/env",
        &[
            "-i",
            program.to_str().expect("UTF-8"),
            "--config",
            config.to_str().expect("UTF-8"),
            "lag",
            "--quiet",
        ],
    )
    .current_dir("/")
    .run();
    output.ok();
    assert_eq!((output.stdout(), output.stderr()), ("", ""), "{output}");
}

#[test]
fn an_administrator_without_superuser_sees_the_same() {
    for (old, new) in [(10, 13), (13, 18), (14, 16)] {
        let pair = Pair::rds(old, new).with_accounts(10).replicating();
        pair.await_caught_up();
        let one = of_one(&pair, 0, &["--warning", "5s"]);
        assert_eq!(one["tables"]["ready"], 4, "{one}");
        let lock = apply_blocked(&pair);
        write_mb(&pair, 4);
        let one = of_one(&pair, 1, &["--warning", "1MB"]);
        assert_eq!(one["active"], true, "{one}");
        drop(lock);
        pair.await_caught_up();
        let sub = pair.subname();
        sql_on_subscriber(&pair, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
        let one = of_one(&pair, 2, &[]);
        says(&one, "disabled");
    }
}

#[test]
fn what_cannot_be_written_down_is_not_missed() {
    let publisher = Cluster::private_rds(14, &[]);
    let pair = Pair::between(publisher, Cluster::subscriber(18))
        .with_accounts(10)
        .replicating();
    pair.await_caught_up();
    let exists = "SELECT to_regclass('flare.sample') IS NOT NULL";
    of_one(&pair, 0, &["--warning", "5s"]);
    assert_eq!(pair.publisher().value("postgres", exists), "f");
    assert!(!pair.publisher().log().contains("permission denied"));
    let admin = pair.publisher().admin();
    pair.publisher().sql(
        "postgres",
        &format!("GRANT CREATE ON DATABASE postgres TO {admin}"),
    );
    for rows in ["1", "2"] {
        of_one(&pair, 0, &["--warning", "5s"]);
        let count = "SELECT count(*) FROM flare.sample";
        assert_eq!(pair.publisher().value("postgres", count), rows);
    }
}
