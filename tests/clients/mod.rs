//! Real clients with both addresses and `target_session_attrs=read-write`: they move by themselves, there and back.

mod languages;
mod programs;
mod writer;

use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

/// The clients' table.
const TABLE: &str = "CREATE TABLE moves (client text, seq bigint, PRIMARY KEY (client, seq))";

/// Replicating, with a way back, and the clients' table.
fn ready(pair: Pair) -> Pair {
    let pair = pair.with_accounts(10).published();
    let (app, repl) = (&pair.names().app, &pair.names().repl);
    let table =
        format!("{TABLE}; GRANT SELECT, INSERT ON moves TO {app}; GRANT SELECT ON moves TO {repl}");
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql(pair.db(), &table);
    }
    // By flare, which closes the subscriber: one made by hand leaves it open.
    pair.flare(&[
        "create_subscription",
        "--use-repl-user",
        "--wait",
        pair.subname(),
    ])
    .ok();
    let repl = pair.names().repl.clone();
    pair.configure(|config| {
        let subscriber = &mut config["hosts"]["subscriber"]["conn"];
        subscriber["repl_user"] = repl.into();
        subscriber["repl_user_password"] = Passwords::REPL.into();
    });
    pair.flare(&["create_replication_status_table", pair.db()])
        .ok();
    pair.await_tables_ready();
    pair.await_caught_up();
    pair.subscriber().sql(pair.db(), "ANALYZE");
    pair
}

/// The address of these servers, as all libraries read it.
fn url(pair: &Pair, servers: [&Cluster; 2], more: &str) -> String {
    let [first, second] = servers;
    let alone = first.url(pair.db(), &pair.names().app, Passwords::APP);
    let (before, dbname) = alone.rsplit_once('/').expect("a database");
    let (host, port) = (second.host(), second.port());
    format!("{before},{host}:{port}/{dbname}?target_session_attrs=read-write{more}")
}

/// In both orders.
fn orders(pair: &Pair) -> [[&Cluster; 2]; 2] {
    let (old, new) = (pair.publisher(), pair.subscriber());
    [[old, new], [new, old]]
}
