//! "Deploys during a migration", as the README has it: a web application's migration files, before a cutover and after it.

use std::fs;

use crate::cutover::fixture::{ready, switched_to};
use crate::support::application::{Application, Side};
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

use super::carry::{owner, runs, settle};
use super::same::assert_same;

const BEFORE: &str = include_str!("../../fixtures/deploys.sql");
const AFTER: &str = include_str!("../../fixtures/deploys-more.sql");

const ORDERS: &str = "CREATE TABLE orders (id bigserial PRIMARY KEY, total numeric NOT NULL);
     INSERT INTO orders (total) SELECT n FROM generate_series(0, 99) n";

/// How a file is run: by flare, or by the application's own tool, with its statements carried.
fn deploys(pair: &Pair, mode: &str) {
    let pair_file = |name: &str, text: &str| {
        let path = pair.dir().join(name);
        fs::write(&path, text).expect("write a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let run = |name: &str, text: &str, open: Side| match mode {
        "watch" => drop(
            pair.flare(&["ddl", pair.db(), "--file", &pair_file(name, text)])
                .ok(),
        ),
        // In one transaction, as Rails and Django do.
        _ => {
            let mut client = owner(pair, open);
            runs(&mut client, "BEGIN");
            let statements = text.split_inclusive(";\n");
            statements.for_each(|statement| runs(&mut client, statement));
            runs(&mut client, "COMMIT");
        }
    };
    let settled = |open: Side| match mode {
        "watch" => pair.await_tables_ready(),
        _ => settle(pair, open),
    };
    let application = Application::start(pair);
    run("1_orders.sql", ORDERS, Side::Publisher);
    settled(Side::Publisher);
    run("2_items.sql", BEFORE, Side::Publisher);
    settled(Side::Publisher);
    application.await_writes_on(Side::Publisher, 50);
    switched_to(pair, Side::Subscriber);
    run("3_shipments.sql", AFTER, Side::Subscriber);
    if mode == "carry" {
        settle(pair, Side::Subscriber);
    }
    application.await_writes_on(Side::Subscriber, 50);
    switched_to(pair, Side::Publisher);
    application.await_writes_on(Side::Publisher, 50);
    let written = application.stop();
    written
        .verify(pair.publisher())
        .verify_arrives(pair.subscriber());
    assert_same(pair);
    let paid = "SELECT count(*) FROM shipments";
    for server in [pair.publisher(), pair.subscriber()] {
        assert_eq!(server.value(pair.db(), paid), "99");
    }
}

#[test]
fn the_readmes_deploys_by_flare_ddl() {
    let pair = ready(Pair::new(12, 18).with_accounts(10));
    deploys(&pair, "watch");
}

#[test]
fn the_readmes_deploys_carried() {
    let pair = ready(Pair::new(11, 16).with_accounts(10));
    pair.configure(|config| config["ddl"] = "carry".into());
    pair.flare(&["create_subscription", pair.subname()]).ok();
    deploys(&pair, "carry");
}

#[test]
fn flare_ddl_needs_no_superuser() {
    let pair = Pair::between(Cluster::private_rds(16, &[]), Cluster::private_rds(18, &[]))
        .with_accounts(10);
    let (db, owner) = (pair.db(), &pair.names().owner);
    pair.create_roles_on(pair.subscriber());
    // Where the journal is.
    let publisher = pair.publisher();
    publisher.sql(
        "postgres",
        &format!("GRANT CREATE ON DATABASE postgres TO {}", publisher.admin()),
    );
    // It cannot make event triggers, and learns that before anything is made.
    pair.configure(|config| config["ddl"] = "carry".into());
    pair.flare(&["create_subscription", pair.subname()])
        .code(1)
        .says("only superusers make event triggers");
    pair.configure(|config| config["ddl"] = "watch".into());
    pair.flare(&["prepare", pair.subname(), "--yes"]).ok();
    pair.flare(&[
        "ddl",
        db,
        "ALTER TABLE pgbench_accounts ADD COLUMN note text DEFAULT 'x'",
    ])
    .ok();
    pair.flare(&[
        "ddl",
        db,
        "ALTER TABLE pgbench_accounts RENAME note TO memo",
    ])
    .ok();
    pair.flare(&[
        "ddl",
        db,
        "CREATE TABLE made (id int PRIMARY KEY)",
        "--role",
        owner,
    ])
    .ok()
    .prints("replicates from now on: public.made");
    pair.flare(&["ddl", db, "INSERT INTO made VALUES (1)"]).ok();
    pair.flare(&["ddl", db, "CREATE INDEX CONCURRENTLY made_i ON made (id)"])
        .ok();
    pair.await_tables_ready();
    assert_same(&pair);
    let columns = "SELECT count(memo) FROM pgbench_accounts";
    assert_eq!(pair.subscriber().value(db, columns), "10");
    let mut app = pair
        .publisher()
        .connect(db, &pair.names().app, Passwords::APP)
        .expect("a session");
    runs(
        &mut app,
        "UPDATE pgbench_accounts SET memo = 'y' WHERE aid = 1",
    );
    assert_same(&pair);
}
