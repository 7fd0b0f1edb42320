//! What warns in time: hours left, tables nobody subscribed, drift, an open side; Nagios's own format, and a command
//! that hears of changes.

use std::fs;
use std::time::{Duration, Instant};

use super::{of_one, replicating, says, sql_on_subscriber, write_mb};
use crate::support::{Cluster, Pair, wait};

#[test]
fn hours_left_are_those_until_the_slot_reaches_its_limit() {
    for old in [13, 18] {
        let settings = [("max_slot_wal_keep_size", "200MB"), ("max_wal_size", "2GB")];
        let pair = Pair::between(Cluster::private(old, &settings), Cluster::subscriber(18))
            .with_accounts(10)
            .replicating();
        pair.await_caught_up();
        let one = of_one(&pair, 0, &["--warning", "10m", "--warning", "1TB"]);
        assert!(one["retention"]["bytes_left"].is_u64(), "{one}");
        assert_eq!(one["retention"]["limit"], "max_slot_wal_keep_size", "{one}");
        sql_on_subscriber(
            &pair,
            &format!("ALTER SUBSCRIPTION {} DISABLE", pair.subname()),
        );
        let (began, before) = (Instant::now(), retained(&pair));
        write_mb(&pair, 10);
        wait::until(Duration::from_secs(4), || false);
        let one = of_one(&pair, 2, &[]);
        let rate = (retained(&pair) - before) / began.elapsed().as_secs_f64();
        let left = "SELECT safe_wal_size FROM pg_replication_slots WHERE slot_name = ";
        let left = pair
            .publisher()
            .value("postgres", &format!("{left}'{}'", pair.subname()));
        let expected = left.parse::<f64>().expect("bytes") / rate / 3600.0;
        let hours = one["retention"]["hours_left"].as_f64().expect("hours");
        assert!(
            hours > expected * 0.2 && hours < expected * 5.0,
            "{expected} {one}"
        );
        says(
            &one,
            "until the WAL that the slot retains reaches its limit (critical)",
        );
    }
}

fn retained(pair: &Pair) -> f64 {
    let bytes = format!(
        "SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        pair.subname()
    );
    pair.publisher()
        .value("postgres", &bytes)
        .parse()
        .expect("bytes")
}

#[test]
fn a_disk_that_the_configuration_names_is_a_limit_too() {
    let pair = replicating(12, 15);
    pair.configure(|config| {
        config["lag"] = serde_yaml::from_str("{wal_disk: 50GB}").expect("YAML");
    });
    let one = of_one(&pair, 0, &["--warning", "10m"]);
    assert_eq!(one["retention"]["limit"], "wal_disk", "{one}");
    let left = one["retention"]["bytes_left"].as_u64().expect("bytes");
    assert!((1 << 35..50 << 30).contains(&left), "{one}");
}

#[test]
fn tables_that_nobody_subscribed_and_drift_are_named() {
    let pair = replicating(10, 16);
    let create = "CREATE TABLE \"New t\" (id int PRIMARY KEY)";
    pair.publisher().sql(pair.db(), create);
    let one = of_one(&pair, 2, &["--warning", "10m"]);
    says(
        &one,
        "published and not subscribed, rows are skipped in silence: public.New t",
    );
    assert_eq!(one["unsubscribed_tables"][0], "public.New t", "{one}");
    says(&one, "not the same on both sides: table");
    sql_on_subscriber(&pair, create);
    let grant = format!(
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
        pair.names().repl
    );
    pair.publisher().sql(pair.db(), &grant);
    sql_on_subscriber(
        &pair,
        &format!("ALTER SUBSCRIPTION {} REFRESH PUBLICATION", pair.subname()),
    );
    pair.await_tables_ready();
    pair.await_caught_up();
    pair.publisher()
        .sql(pair.db(), "CREATE VIEW v AS SELECT 1 AS one");
    let one = of_one(&pair, 1, &["--warning", "10m"]);
    says(&one, "not the same on both sides: view");
    assert_eq!(one["unsubscribed_tables"], serde_json::json!([]), "{one}");
    a_role_of_the_application_that_holds_nothing(&pair);
}

#[test]
#[ignore = "waits half a minute for a lock; make soak"]
fn what_could_not_be_compared_is_a_warning() {
    let pair = replicating(13, 18);
    let mut lock = pair.publisher().superuser_session(pair.db());
    let held = "BEGIN; LOCK TABLE pg_publication IN ACCESS EXCLUSIVE MODE";
    lock.batch_execute(held).expect("lock the catalog");
    let one = of_one(&pair, 1, &["--warning", "10m"]);
    says(
        &one,
        "whether tables or objects are missing on a side is not known",
    );
    assert!(one["drifted_objects"].is_null(), "{one}");
    lock.batch_execute("ROLLBACK").expect("let go");
    of_one(&pair, 0, &["--warning", "10m"]);
}

/// Nothing but the configuration says that it has to do with the database.
fn a_role_of_the_application_that_holds_nothing(pair: &Pair) {
    let role = format!("{}_idle", pair.db());
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql("postgres", &format!("CREATE ROLE {role} LOGIN"));
    }
    let set = format!("ALTER ROLE {role} SET statement_timeout = '7s'");
    pair.publisher().sql("postgres", &set);
    let setting = format!("setting statement_timeout of ROLE {role}");
    let named = |pair: &Pair| -> bool {
        let one = of_one(pair, 1, &["--warning", "10m"]);
        one["drifted_objects"].to_string().contains(&setting)
    };
    assert!(!named(pair));
    pair.configure(|config| config["cutover"]["app_users"] = vec![role.as_str()].into());
    assert!(named(pair));
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql("postgres", &format!("DROP ROLE {role}"));
    }
}

#[test]
fn a_side_that_was_opened_by_hand_is_critical() {
    let pair = Pair::new(14, 18).with_accounts(10).published();
    pair.flare(&["create_replication_status_table", pair.db()])
        .ok();
    pair.flare(&[
        "create_subscription",
        "--use-repl-user",
        "--wait",
        pair.subname(),
    ])
    .ok();
    pair.await_caught_up();
    let relaxed = ["--warning", "10m", "--warning", "1TB"];
    let one = of_one(&pair, 0, &relaxed);
    assert_eq!(one["side_gaps"], serde_json::json!([]), "{one}");
    let reset = format!(
        "ALTER DATABASE {} RESET default_transaction_read_only",
        pair.db()
    );
    pair.subscriber().sql("postgres", &reset);
    let one = of_one(&pair, 2, &relaxed);
    says(
        &one,
        "the subscriber is not closed: default_transaction_read_only",
    );
}

#[test]
fn nagios_reads_what_a_plugin_prints() {
    let pair = replicating(15, 17);
    let output = pair.flare(&["lag", "--format", "nagios", "--warning", "10m"]);
    output.ok();
    let text = output.stdout().trim_end();
    assert!(
        text.starts_with(&format!("FLARE OK - {}: lag ", pair.subname())),
        "{output}"
    );
    let (_, figures) = text.split_once(" | ").expect("figures");
    assert!(
        !figures.contains('|') && text.lines().count() == 1,
        "{output}"
    );
    for figure in figures.split(' ') {
        let (label, value) = figure.split_once('=').expect("label=value");
        assert!(!label.is_empty() && !label.contains('\''), "{figure}");
        let fields: Vec<&str> = value.split(';').collect();
        assert_eq!(fields.len(), 4, "{figure}");
        let digits = fields[0].trim_end_matches(['B', 's', 'c']);
        assert!(digits.parse::<f64>().is_ok(), "{figure}");
    }
    sql_on_subscriber(
        &pair,
        &format!("ALTER SUBSCRIPTION {} DISABLE", pair.subname()),
    );
    let output = pair.flare(&["lag", "--format", "nagios"]);
    output
        .code(2)
        .prints("FLARE CRITICAL - ")
        .prints("is disabled");
    let output = pair.flare(&["lag", "--format", "nagios", "nosuch"]);
    output.code(3).prints("FLARE UNKNOWN - ");
    let output = pair.flare(&["lag", "--format", "nagios", "--nosuch"]);
    output.code(3).prints("FLARE UNKNOWN - ");
    pair.flare(&["status", "--format", "nagios"]).code(2);
}

#[test]
fn a_command_hears_of_each_change_once() {
    let pair = replicating(14, 18);
    let (heard, state) = (pair.dir().join("heard"), pair.dir().join("state"));
    let (heard, state) = (
        heard.to_str().expect("UTF-8"),
        state.to_str().expect("UTF-8"),
    );
    let command = format!(
        "echo \"$FLARE_STATUS_BEFORE $FLARE_STATUS\" >> '{heard}'; cat >> '{heard}'; echo said"
    );
    let lag = |code: i32| {
        let args = [
            "lag",
            "--warning",
            "10m",
            "--on-change",
            &command,
            "--state",
            state,
        ];
        pair.flare(&args).code(code);
        fs::read_to_string(heard).unwrap_or_default()
    };
    assert_eq!(lag(0), "");
    let sub = pair.subname();
    sql_on_subscriber(&pair, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
    let first = lag(2);
    let (statuses, json) = first.split_once('\n').expect("two lines");
    assert_eq!(statuses, "ok critical");
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(json["subscriptions"][0]["subname"], sub);
    assert_eq!(json["status"], "critical");
    assert_eq!(lag(2), first);
    // Lost or broken: said once more, and no harm done.
    fs::write(state, "{").expect("break the file");
    assert!(lag(2).contains("unknown critical"));
    sql_on_subscriber(&pair, &format!("ALTER SUBSCRIPTION {sub} ENABLE"));
    pair.await_caught_up();
    assert!(lag(0).contains("critical ok"));
    pair.flare(&["lag", "--state", state]).code(3);
}
