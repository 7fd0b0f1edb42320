//! The library as other programs use it: its features, and the front page's example, compiled there, run here.

mod example;
mod features;

use pg_flare::ErrorKind;

use crate::support::{Pair, flare};

#[test]
fn the_front_pages_example_works() {
    let pair = Pair::new(13, 18).with_accounts(10).replicating();
    pair.flare(&["create_replication_status_table", pair.db()])
        .ok();
    pair.await_tables_ready();
    let compare = |table: &str| {
        let (config, program) = (pair.config_path(), flare::program());
        example::same_on_both_sides(&config, &program, pair.db(), table)
    };
    assert!(compare("pgbench_accounts").expect("both sides are compared"));
    // Even when it fails in between, the application writes on.
    let failed = compare("nonexistent");
    let error = failed.expect_err("a table that is not there");
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (ErrorKind::Server, Some("42P01"))
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("never folded"))
    );
    let app = &pair.names().app;
    let connects = format!(
        "SELECT has_database_privilege('{app}', '{}', 'CONNECT')",
        pair.db()
    );
    assert_eq!(pair.publisher().value("postgres", &connects), "t");
}
