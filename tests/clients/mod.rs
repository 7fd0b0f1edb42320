//! Real clients with both addresses and `target_session_attrs=read-write`: they move by themselves, there and back.

mod faults;
mod installed;
mod languages;
mod programs;
pub mod writer;

use crate::support::pair::{Names, Passwords};
use crate::support::{Cluster, Pair};

/// Which server's rows come after which, in the order of the moments at which they were made: both run on one machine.
pub const EPOCHS: &str = "
    WITH made AS (SELECT port, at, port IS DISTINCT FROM lag(port) OVER (ORDER BY at) AS is_first FROM moves),
         epochs AS (SELECT port, at, count(*) FILTER (WHERE is_first) OVER (ORDER BY at) AS epoch FROM made)
    SELECT port, min(at), max(at), count(*) FROM epochs GROUP BY epoch, port ORDER BY epoch";

/// Makes the clients' table. A row knows which server made it, and when.
pub fn create_table(pair: &Pair, server: &Cluster) {
    let Names { app, repl, .. } = pair.names();
    server.sql(
        pair.db(),
        &format!(
            "CREATE TABLE moves (client text, seq bigint, port int DEFAULT inet_server_port(),
                 at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (client, seq));
             GRANT SELECT, INSERT ON moves TO {app}; GRANT SELECT ON moves TO {repl}"
        ),
    );
}

/// Replicating, with a way back, and the clients' table.
fn ready(pair: Pair) -> Pair {
    let pair = pair.with_accounts(10).published();
    for server in [pair.publisher(), pair.subscriber()] {
        create_table(&pair, server);
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
