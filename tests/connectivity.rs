//! Who can log in where, and whether the subscriber reaches the publisher.

use serde_json::{Value, json};

use crate::support::output::Output;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

fn verify(pair: &Pair) -> Output {
    pair.flare(&["verify_connectivity", "--format", "json"])
}

/// How each user of a side ended.
fn statuses(said: &Value, side: &str) -> Vec<(String, String)> {
    let users = said[side]["users"].as_array().expect("users");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    users
        .iter()
        .map(|user| (text(&user["user"]), text(&user["status"])))
        .collect()
}

fn all(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = expected.iter();
    owned
        .map(|(user, status)| ((*user).to_owned(), (*status).to_owned()))
        .collect()
}

#[test]
fn each_user_is_tried_and_roles_that_are_still_to_come_are_missing() {
    let pair = Pair::new(15, 18);
    let names = pair.names();
    let said = verify(&pair);
    said.ok();
    let said = said.json();
    let (admin, owner) = (pair.publisher().admin(), names.owner.as_str());
    let on_publisher = all(&[(admin, "ok"), (owner, "ok"), (&names.repl, "ok")]);
    assert_eq!(statuses(&said, "publisher"), on_publisher, "{said}");
    let on_subscriber = all(&[(pair.subscriber().admin(), "ok"), (owner, "missing")]);
    assert_eq!(statuses(&said, "subscriber"), on_subscriber, "{said}");
    assert_eq!(said["error"], Value::Null);
    pair.flare(&["verify_connectivity"])
        .ok()
        .prints(&format!("{owner:?}: missing (replicate_roles brings"));
}

#[test]
fn a_user_that_cannot_log_in_is_named_beside_those_that_can() {
    let pair = Pair::new(15, 18);
    let names = pair.names();
    pair.configure(|config| {
        config["hosts"]["publisher"]["conn"]["db_owner_password"] = "not the owner's".into();
    });
    let run = verify(&pair);
    let owner = names.owner.as_str();
    run.code(1).fails_with(&format!(
        "password authentication failed for user {owner:?}"
    ));
    let said = run.json();
    let (admin, repl) = (pair.publisher().admin(), names.repl.as_str());
    let on_publisher = all(&[(admin, "ok"), (owner, "failed"), (repl, "ok")]);
    assert_eq!(statuses(&said, "publisher"), on_publisher, "{run}");
    assert_eq!(said["subscriptions"][0]["status"], "ok", "{run}");
    let hint = said["error"]["hint"].as_str().expect("a hint");
    assert!(
        hint.contains(owner) && hint.contains("pg_hba.conf"),
        "{run}"
    );
}

#[test]
fn the_replication_user_need_not_be_let_in_to_other_databases() {
    let pair = Pair::between(Cluster::private(14, &[]), Cluster::subscriber(18)).with_accounts(1);
    let (db, names, publisher) = (pair.db(), pair.names(), pair.publisher());
    let access = format!(
        "local all all trust
         host {db} {repl} 127.0.0.1/32 scram-sha-256
         host all {repl} 127.0.0.1/32 reject
         host all all 127.0.0.1/32 scram-sha-256\n",
        repl = names.repl
    );
    std::fs::write(publisher.data_dir().join("pg_hba.conf"), access).expect("write pg_hba.conf");
    publisher.reload();
    let run = verify(&pair);
    run.ok();
    pair.flare(&["prepare", pair.subname(), "--yes"]).ok();
}

#[test]
fn a_way_to_the_publisher_that_leads_nowhere_is_told_in_the_servers_words_and_leaves_nothing() {
    let pair = Pair::new(15, 18);
    let tried = "SELECT count(*) FROM pg_subscription WHERE subname LIKE '%flare_try'";
    let way = |password: &str, port: u16| {
        pair.configure(|config| {
            let conn = &mut config["hosts"]["publisher"]["conn"];
            conn["repl_user_password"] = password.into();
            conn["port_via_subscriber"] = port.into();
        });
        let run = verify(&pair);
        assert_eq!(pair.subscriber().value("postgres", tried), "0", "{run}");
        run
    };
    let port = pair.publisher().port();
    let nobody_there = way(Passwords::REPL, 1);
    nobody_there.code(1).fails_with("Connection refused");
    let said = nobody_there.json();
    assert_eq!(said["subscriptions"][0]["status"], "failed", "{said}");
    assert!(
        said["error"]["hint"]
            .to_string()
            .contains("port_via_subscriber"),
        "{said}"
    );
    let wrong = way("not the replication user's", port);
    wrong.code(1).fails_with("password authentication failed");
    let right = way(Passwords::REPL, port);
    right.ok();
    assert_eq!(
        right.json()["subscriptions"],
        json!([{"subname": pair.subname(), "status": "ok", "message": null}]),
        "{right}"
    );
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = ";
    let slots = format!("{slots}'{}'", pair.db());
    assert_eq!(pair.publisher().value("postgres", &slots), "0");
}
