//! `tables: listed`: what the application makes after `create_publication` is its own affair.

use crate::support::Pair;
use crate::support::pair::Passwords;

#[test]
fn a_table_without_key_that_comes_later_stays_out_and_hinders_nobody() {
    let pair = Pair::new(14, 18);
    let (db, sub, names) = (pair.db(), pair.subname(), pair.names());
    let make = |sql: &str| {
        let sql = format!("SET ROLE {}; {sql}", names.owner);
        pair.publisher().sql(db, &sql);
    };
    make("CREATE TABLE t (id int PRIMARY KEY, w int); INSERT INTO t VALUES (1, 1)");
    let repl = names.repl.clone();
    pair.configure(|config| {
        config["publications"][db]["tables"] = "listed".into();
        for list in ["replica_identity_full_tables", "allow_no_identity"] {
            let publication = config["publications"][db].as_mapping_mut();
            publication.expect("a publication").remove(list);
        }
        let subscriber = &mut config["hosts"]["subscriber"]["conn"];
        subscriber["repl_user"] = repl.into();
        subscriber["repl_user_password"] = Passwords::REPL.into();
    });
    pair.flare(&["prepare", sub, "--yes"]).ok();
    make("CREATE TABLE scratch (what text); INSERT INTO scratch VALUES ('x')");
    make("UPDATE scratch SET what = 'y'; UPDATE t SET w = 2");
    let found = pair.flare(&["preflight", "--format", "json"]).json();
    let named = found["checks"].as_array().expect("checks").iter();
    let named: Vec<&serde_json::Value> = named
        .filter(|it| it["check"] == "replica_identity" && it["severity"] != "pass")
        .collect();
    assert!(named.is_empty(), "{named:#?}");
    // Published from now on, its UPDATE would fail.
    pair.flare(&["create_publication", db])
        .code(1)
        .says("scratch");
    pair.flare(&["cutover", sub, "--yes"])
        .code(1)
        .says("scratch");
    pair.configure(|config| {
        config["publications"][db]["leave_behind"] =
            serde_yaml::from_str("[scratch]").expect("a list");
    });
    pair.flare(&["cutover", sub, "--yes"]).ok();
    let on_the_new_one = pair.subscriber().value(db, "SELECT w FROM t");
    assert_eq!(on_the_new_one, "2");
    pair.flare(&["fallback", sub, "--yes"]).ok();
    pair.flare(&["cleanup", sub, "--yes"]).ok();
    make("UPDATE scratch SET what = 'z'; DROP TABLE scratch");
}
