//! PostgreSQL's own copy, kept going by flare while it waits.

use std::time::{Duration, Instant};

use crate::support::Pair;

#[test]
fn tables_of_an_idle_publisher_do_not_wait_for_its_next_record() {
    let pair = Pair::alone(10, 14).with_accounts(10).published();
    let (db, sub) = (pair.db(), pair.subname());
    for server in [pair.publisher(), pair.subscriber()] {
        let tables: String = (0..12)
            .map(|n| format!("CREATE TABLE idle{n} (a int PRIMARY KEY);"))
            .collect();
        server.sql(db, &tables);
    }
    pair.publisher().sql(
        db,
        &format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
            pair.names().repl
        ),
    );
    pair.flare(&["create_replication_status_table", db]).ok();
    pair.flare(&["create_publication", db]).ok();
    let begun = Instant::now();
    pair.flare(&["create_subscription", "--use-repl-user", "--wait", sub])
        .ok();
    // Sixteen tables, two at a time, each some ten seconds when nobody writes.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}
