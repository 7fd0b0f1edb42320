//! What is printed, for people, for cron, for Prometheus, and how a call that is wrong ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{replicating, sql_on_subscriber};
use crate::support::flare::{Invocation, program};

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

pub(super) fn metrics(text: &str) -> prometheus_parse::Scrape {
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
    assert_eq!(scrape.docs.len(), 17, "{scrape:?}");
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
    // Its status, both servers, no slot, and the publisher's oldest transaction: what is not known has no line.
    assert_eq!(odd_lines.count(), 5, "{scrape:?}");
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
