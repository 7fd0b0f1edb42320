//! A server that is newer than flare knows: refused, or allowed, and said in every report.

use crate::support::Pair;
use crate::support::application::Side;
use crate::support::proxy::Proxy;

/// An 18.4 that says it is a 19.4: as a number of four bytes, as a text, and in JSON.
fn newer() -> Vec<(Vec<u8>, Vec<u8>)> {
    let number = |version: i32| [&[0, 0, 0, 4], &version.to_be_bytes()[..]].concat();
    let text = |version: &str| [&[0, 0, 0, 4], version.as_bytes()].concat();
    vec![
        (number(180_004), number(190_004)),
        (text("18.4"), text("19.4")),
        (b"\"18.4\"".to_vec(), b"\"19.4\"".to_vec()),
    ]
}

#[test]
fn a_version_to_come_is_refused_or_named_in_every_report() {
    let pair = Pair::new(14, 18).with_accounts(10).replicating();
    let (db, sub) = (pair.db(), pair.subname());
    let _proxy = Proxy::saying(&pair, Side::Subscriber, newer());
    pair.flare(&["lag"]).code(3).prints("flare knows 10 to 18");
    pair.flare(&["status"]).prints("flare knows 10 to 18");
    pair.flare(&["verify_data", sub])
        .fails_with("runs PostgreSQL 19.4")
        .says("allow_untested: [19]");

    pair.configure(|config| {
        config["allow_untested"] = serde_yaml::from_str("[19]").expect("a list")
    });
    let words = "the subscriber runs PostgreSQL 19.4, which this flare was never tested with";
    for args in [
        vec!["lag"],
        vec!["status"],
        vec!["verify_data", sub],
        vec!["verify_connectivity"],
        vec!["count", db, "pgbench_accounts"],
        vec!["replicate_sequences", sub, "--only-show"],
    ] {
        pair.flare(&args).ok().says(words);
        let json = pair
            .flare(&[&args[..], &["--format", "json"]].concat())
            .ok()
            .json();
        assert!(json["untested"].to_string().contains(words), "{json}");
    }
    pair.flare(&["monitor", db, sub, "--once"]).ok().says(words);
    pair.flare(&["preflight", db]).prints("untested_version");
    let quiet = pair.flare(&["lag", "--quiet"]);
    assert_eq!(quiet.ok().stderr(), "", "{quiet}");
    // No pg_dump of these machines reads a 19: the catalogs are compared.
    pair.flare(&["verify_schema", sub])
        .ok()
        .prints("find pg_dump 19 or newer");
}
