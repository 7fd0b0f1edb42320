//! psql, one process and one connection for each row; and `attack`, whose rule is libpq's.

use std::process::Command;

use super::writer::{Writer, move_there_and_back};
use super::{orders, ready, url};
use crate::support::{Pair, clients, flare};

/// psql again and again.
pub fn psql(pair: &Pair, name: &str, url: &str) -> Writer {
    let insert = format!(
        "seq=0; while true; do seq=$((seq + 1)); \
         port=$(psql -XAtqc \"INSERT INTO moves VALUES ('{name}', $seq) RETURNING inet_server_port()\" \"$0\") \
         && echo ack $seq $port || sleep 0.02; done"
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &insert, url])
        .env("PATH", clients::path(18));
    Writer::start(pair, name, command)
}

#[test]
fn psql_with_both_addresses_moves_there_and_back() {
    let pair = ready(Pair::new(14, 18));
    let [forward, backward] = orders(&pair);
    let random = url(&pair, forward, "&load_balance_hosts=random");
    let writers = vec![
        psql(&pair, "psql_old_new", &url(&pair, forward, "")),
        psql(&pair, "psql_new_old", &url(&pair, backward, "")),
        psql(&pair, "psql_random", &random),
    ];
    move_there_and_back(&pair, writers);
}

/// A session's default decides, not what the server is called: by hand, on two servers that know nothing of each other.
#[test]
fn attack_leaves_a_server_for_a_read_only_session_and_not_for_a_refusal() {
    let pair = Pair::new(15, 17);
    pair.create_roles_on(pair.subscriber());
    pair.create_database_on(pair.subscriber());
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql(pair.db(), crate::attack::TABLES);
    }
    let dsns = [pair.publisher(), pair.subscriber()]
        .map(|server| crate::attack::admin_url(server, pair.db()));
    let attack = |more: &[&str]| {
        let servers = [
            "attack", "--dsn", &dsns[0], "--dsn", &dsns[1], "--format", "json",
        ];
        let args = [&servers[..], &["--duration", "2s"], more].concat();
        flare::Invocation::new(&args).run()
    };
    let rows = |server: &crate::support::Cluster| {
        let count = server.value(pair.db(), "SELECT count(*) FROM items");
        count.parse::<u64>().expect("a number")
    };
    let to_old = |sql: &str| {
        pair.publisher()
            .sql("postgres", &sql.replace("DB", pair.db()));
    };
    to_old("ALTER DATABASE DB SET default_transaction_read_only = on");
    let summary = attack(&[]).ok().json();
    assert_eq!(
        (rows(pair.publisher()), &summary["errors"]),
        (0, &0.into()),
        "{summary}"
    );
    assert!(rows(pair.subscriber()) > 0, "{summary}");

    // 55000 after the login: libpq does not go on, pgjdbc does.
    let at_start = rows(pair.subscriber());
    to_old(
        "ALTER DATABASE DB RESET default_transaction_read_only; ALTER DATABASE DB ALLOW_CONNECTIONS false",
    );
    let stuck = attack(&[]);
    let moved = attack(&["--any-error"]).ok().json();
    to_old("ALTER DATABASE DB ALLOW_CONNECTIONS true");
    let stuck = stuck.ok().json();
    assert_eq!(stuck["acknowledged"], 0, "{stuck}");
    assert!(stuck["sqlstates"]["55000"].as_u64() > Some(0), "{stuck}");
    assert!(moved["acknowledged"].as_u64() > Some(0), "{moved}");
    assert!(rows(pair.subscriber()) > at_start);
}
