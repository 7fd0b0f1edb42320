//! A server that has just been moved to is moved on from: by another configuration, when the first migration is cleaned up.

use super::traces::{set_up, set_up_by_commands_for};
use crate::support::{Cluster, Pair};

#[test]
#[ignore = "make soak"]
fn a_migration_begins_where_another_one_was_cleaned_up() {
    let first = Pair::new(14, 16).with_accounts(1);
    let (db, sub, owner) = (first.db(), first.subname(), &first.names().owner);
    first.create_roles_on(first.subscriber());
    first.publisher().sql(
        db,
        &format!("SET ROLE {owner}; CREATE TABLE t (id serial PRIMARY KEY, w text); INSERT INTO t (w) VALUES ('a')"),
    );
    set_up(&first);
    let second = Pair::between(first.shared_subscriber(), Cluster::subscriber(18));
    second.moves(first.names());
    second
        .flare(&["prepare", sub, "--yes"])
        .fails_with("other_subscriptions");
    first.flare(&["cutover", sub, "--yes"]).ok();
    let refused = second.flare(&["prepare", sub, "--yes"]);
    refused
        .fails_with("other_migrations")
        .says("flare cleanup with the configuration of that migration");
    second
        .flare(&["status"])
        .ok()
        .prints("not begun")
        .prints("can write to");
    first.flare(&["cleanup", sub, "--yes"]).ok();

    let write = |server: &Cluster, w: &str| {
        server.sql(db, &format!("INSERT INTO t (w) VALUES ('{w}')"));
    };
    write(second.publisher(), "b");
    first.create_roles_on(second.subscriber());
    set_up_by_commands_for(&second, first.names());
    second.flare(&["cutover", sub, "--yes"]).ok();
    write(second.subscriber(), "c");
    second.flare(&["fallback", sub, "--yes"]).ok();
    write(second.publisher(), "d");
    let rows = "SELECT string_agg(w, '' ORDER BY id) FROM t";
    assert_eq!(second.publisher().value(db, rows), "abcd");
    second.flare(&["cutover", sub, "--yes"]).ok();
    assert_eq!(second.subscriber().value(db, rows), "abcd");
    second.flare(&["cleanup", sub, "--yes"]).ok();
    // The first configuration knows both of its servers, and neither is written any more.
    first
        .flare(&["status"])
        .ok()
        .prints("on either server")
        .prints("publisher shut, subscriber shut");
}
