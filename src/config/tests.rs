mod misspelt;
mod wrong_values;

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::value::{Size, TableName};

const SEED: &str = include_str!("../../fixtures/seed-example.yml");
const ORIGINAL: &str = include_str!("../../fixtures/original-example.yml");
const FULL: &str = include_str!("../../fixtures/full.yml");

/// The seed's first example, with the colon that its last line lacks.
const TEMPLATE: &str = "\
hosts:
  publisher:
      conn:
        superuser:
        superuser_password:

        db_owner:
        db_owner_password::

        repl_user:
        repl_user_password::

        host:
        host_via_subscriber: # hostname that can be resolved from the subscriber

        port:
        port_via_subscriber: # port that can be accessible from the subscriber

        system_identifier:

  subscriber:
      conn:
        superuser:
        superuser_password:

        db_owner:
        db_owner_password::

        host:
        port:
        system_identifier:
";

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("/etc/flare/f.yml"))
}

fn problems(text: &str) -> String {
    let error = parse(text).expect_err("it was taken");
    assert_eq!(error.exit().code(), 2);
    error.message().replace("/etc/flare/", "")
}

/// The seed's example with one piece replaced.
fn altered(old: &str, new: &str) -> String {
    assert!(SEED.contains(old), "{old:?}");
    SEED.replacen(old, new, 1)
}

#[test]
fn the_seeds_example_loads() {
    let config = parse(SEED).unwrap();
    let publisher = &config.publisher;
    assert_eq!(
        (publisher.host.as_str(), publisher.port),
        ("127.0.0.1", 15432)
    );
    assert_eq!(publisher.via.host, "<publisher>.rds.amazonaws.com");
    assert_eq!(publisher.via.port, 5432);
    assert_eq!(publisher.via.sslmode, SslMode::Prefer);
    assert_eq!(publisher.system_identifier, 6989310928239083265);
    assert_eq!(publisher.connect_timeout, Duration::from_secs(5));
    assert_eq!(publisher.repl.as_ref().unwrap().user, "repl");
    assert!(config.subscriber.repl.is_none());
    assert_eq!(config.subscriber.via.port, 35432);
    let password = config.subscriber.superuser.password.read().unwrap();
    assert_eq!(password.reveal(), "<PASSWORD>");
    let bench = config.publication("bench").unwrap();
    assert_eq!(bench.pubname, "bench-pub");
    assert_eq!(bench.tables, None);
    assert_eq!(
        bench.replica_identity_full_tables,
        [TableName::new("public", "pgbench_history")]
    );
    assert_eq!(config.cutover.max_pause, Duration::from_secs(10));
    assert!(config.cutover.reverse);
    assert_eq!(config.lag, Lag::default());
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn the_originals_layout_loads_with_numbers_or_text() {
    let config = parse(ORIGINAL).unwrap();
    let names: Vec<&String> = config.subscriptions.keys().collect();
    assert_eq!(names, ["benchsub1", "benchsub2"]);
    assert_eq!(config.publications.len(), 2);
    let unquoted = ORIGINAL.replace('\'', "");
    assert_eq!(parse(&unquoted).unwrap().publisher.port, 5430);
    let hosts = ORIGINAL.split("publications:").next().unwrap();
    for rest in [
        "",
        "publications:\nsubscriptions: ~\n",
        "publications: {}\n",
    ] {
        let config = parse(&format!("{hosts}{rest}")).unwrap();
        assert!(config.publications.is_empty() && config.subscriptions.is_empty());
    }
}

#[test]
fn every_key_is_read() {
    let config = parse(FULL).unwrap();
    let Config {
        publisher,
        subscriber,
        cutover,
        ..
    } = &config;
    assert_eq!(publisher.hostaddr, Some([127, 0, 0, 1].into()));
    assert_eq!(
        publisher.superuser.password,
        PasswordSource::Env("PGPASSWORD_PUB".into())
    );
    assert_eq!(
        publisher.db_owner.password,
        PasswordSource::File("/etc/flare/secrets/dbowner".into())
    );
    let bundle = RootCert::File("/etc/flare/rds-bundle.pem".into());
    assert_eq!(publisher.tls.sslrootcert, Some(bundle));
    let there = RootCert::File("/etc/ssl/rds-bundle.pem".into());
    assert_eq!(publisher.via.sslrootcert, Some(there));
    assert_eq!(subscriber.superuser.user, "postgres");
    assert!(
        matches!(&subscriber.superuser.password, PasswordSource::Command(argv) if argv.len() == 9)
    );
    assert_eq!(
        subscriber.db_owner.password.read().unwrap().reveal(),
        "0123"
    );
    assert_eq!(subscriber.via.host, "10.0.0.6");
    assert_eq!(config.tools.path, Some("/usr/lib/postgresql/18/bin".into()));
    let bench = &config.publications["bench"];
    assert_eq!(bench.tables.as_ref().unwrap().len(), 4);
    assert_eq!(bench.allow_no_identity, [TableName::new("app", "log")]);
    let options: Vec<(&str, &str)> = config.subscriptions["bench1"]
        .options
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(options, [("streaming", "on"), ("binary", "true")]);
    assert_eq!(cutover.app_users, ["app"]);
    assert_eq!(
        cutover.hooks.switch.as_ref().unwrap(),
        &["./point-dns-at-new"]
    );
    assert_eq!(cutover.poolers[0].admin.port, 6432);
    assert_eq!(config.lag.critical.retained_wal, Size(50 << 30));
    let with_disk = Lag {
        wal_disk: Some(Size(100 << 30)),
        ..Lag::default()
    };
    assert_eq!(config.lag, with_disk);
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn the_unfilled_template_lists_all_that_is_missing() {
    let problems = problems(TEMPLATE);
    let lines: Vec<&str> = problems.lines().map(str::trim).collect();
    let message = &lines[1..];
    assert_eq!(lines[0], "read f.yml: 17 problems");
    for wanted in [
        "f.yml:4: hosts.publisher.conn.superuser: has no value",
        r#"f.yml:8: unknown key "db_owner_password:" in hosts.publisher.conn (did you mean "db_owner_password"?)"#,
        "f.yml:3: hosts.publisher.conn.db_owner_password is missing",
        "f.yml:19: hosts.publisher.conn.system_identifier: has no value",
        "f.yml:31: hosts.subscriber.conn.system_identifier: has no value",
    ] {
        assert!(message.contains(&wanted), "{wanted}\n{problems}");
    }
}

#[test]
fn the_template_as_it_stands_breaks_off_at_the_missing_colon() {
    let text = TEMPLATE.trim_end().trim_end_matches(':').to_owned() + "\n\npublications:\n  a: b\n";
    let problems = problems(&text);
    assert!(problems.contains("f.yml:8: unknown key"), "{problems}");
    assert!(
        problems.contains("a key before this place lacks its colon"),
        "{problems}"
    );
    assert!(!problems.contains("missing"), "{problems}");
}

#[test]
fn passwords_are_taken_as_written_and_never_shown() {
    for (written, meant) in [
        ("12345", "12345"),
        ("1.10", "1.10"),
        ("0x1F", "0x1F"),
        ("true", "true"),
        ("''", ""),
        ("' a #b'", " a #b"),
    ] {
        let config = parse(&altered("'<PASSWORD>'", written)).unwrap();
        let password = config.publisher.superuser.password.read().unwrap();
        assert_eq!(password.reveal(), meant);
    }
    for written in [
        "[hunter2]",
        "{hunter2}",
        "{hunter2: }",
        "{env: a, hunter2: b}",
        "{file: [hunter2]}",
        "{command: hunter2}",
        "!hunter2",
        "*hunter2",
        "&hunter2",
        "#hunter2",
        "@hunter2",
        "%hunter2: x",
        "'hunter2",
        "hunter2: x",
        "{comand: [hunter2]}",
    ] {
        let found = problems(&altered("'<PASSWORD>'", written));
        assert!(!found.contains("hunter2"), "{written}: {found}");
    }
    let config = parse(&altered("'<PASSWORD>'", "hunter2")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn keys_of_the_users_own_are_left_alone() {
    let text = format!(
        "x-any: [1, {{a: b}}]\n{}",
        altered("conn:", "conn:\n      x-note: {}")
    );
    assert!(parse(&text).is_ok());
}

#[test]
fn oddities_are_warnings() {
    let text = altered(
        "dbname: bench\n    pubname: bench-pub",
        "dbname: bench\n    pubname: other",
    );
    assert_eq!(
        parse(&text).unwrap().warnings,
        [
            "/etc/flare/f.yml:42: subscription \"bench1\" is to publication \"other\", while publications.bench declares \"bench-pub\""
        ]
    );
    let text = altered("port: '15432'", "port: '15432'\n      sslmode: verify-ca");
    assert!(
        parse(&text).unwrap().warnings[0].contains(":17: the other server verifies the publisher")
    );
    let text = altered(
        "port: '15432'",
        "port: '15432'\n      sslmode: verify-full\n      sslrootcert: system",
    );
    assert_eq!(
        parse(&text).unwrap().publisher.via.sslrootcert,
        Some(RootCert::System)
    );
}

#[test]
fn a_file_with_passwords_that_others_may_read_is_a_warning() {
    let config = parse(SEED).unwrap();
    assert_eq!(config.exposure(0o600), None);
    assert_eq!(
        config.exposure(0o640).unwrap(),
        "/etc/flare/f.yml holds passwords and others may read it (mode 640): chmod 600 /etc/flare/f.yml"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SEED).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(Config::load(file.path()).unwrap().warnings.len(), 1);
}

#[test]
fn a_file_that_is_not_there_says_how_to_get_one() {
    let error = Config::load(Path::new("/no/such.yml")).unwrap_err();
    assert!(
        error
            .message()
            .starts_with("read the configuration /no/such.yml: No such file")
    );
    assert!(error.hint().unwrap().contains("flare init_config"));
    assert!(error.hint().unwrap().contains("--config"));
    assert_eq!(error.exit().code(), 2);
}

#[test]
fn what_a_command_names_is_found_or_explained() {
    let config = parse(ORIGINAL).unwrap();
    let (subname, _) = config.subscription_of("pubtable2", None).unwrap();
    assert_eq!(subname, "benchsub2");
    assert!(
        config
            .subscription_of("pubtable2", Some("benchsub2"))
            .is_ok()
    );
    let explained = |error: Error| {
        assert_eq!(error.exit().code(), 2);
        let hint = error.hint().unwrap_or_default().to_owned();
        (error.message().replace("/etc/flare/", ""), hint)
    };
    assert_eq!(
        explained(config.publication("pubtabel1").unwrap_err()),
        (
            "find database \"pubtabel1\": f.yml has \"pubtable1\", \"pubtable2\" under publications".into(),
            "did you mean \"pubtable1\"?".into()
        )
    );
    assert!(
        explained(config.subscription("x").unwrap_err())
            .1
            .starts_with("declare it")
    );
    let (message, _) = explained(
        config
            .subscription_of("pubtable1", Some("benchsub2"))
            .unwrap_err(),
    );
    assert!(message.ends_with("f.yml declares it for database \"pubtable2\""));
    assert!(
        explained(config.subscription_of("x", None).unwrap_err())
            .0
            .ends_with("declares none")
    );
    let both = parse(&ORIGINAL.replace("dbname: pubtable2", "dbname: pubtable1")).unwrap();
    let (message, _) = explained(both.subscription_of("pubtable1", None).unwrap_err());
    assert!(
        message.ends_with("declares \"benchsub1\", \"benchsub2\""),
        "{message}"
    );
}
