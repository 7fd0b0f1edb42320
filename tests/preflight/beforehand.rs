//! What the subscriber's database holds already is known before `prepare` has changed anything.

use super::{assert_found, look, of};
use crate::support::Pair;

#[test]
fn what_the_subscriber_holds_already_blocks_and_prepare_changes_nothing() {
    let pair = Pair::new(14, 18).with_accounts(10);
    let (db, subscriber) = (pair.db(), pair.subscriber());
    pair.create_tables_on(subscriber);
    let json = look(&pair);
    assert_found(&json, "schema_drift", "pass", "the same");
    assert_found(&json, "subscriber_rows", "pass", "empty");

    subscriber.sql(
        db,
        "INSERT INTO pgbench_branches VALUES (1, 0); ALTER TABLE pgbench_history ADD COLUMN \"Über\" int",
    );
    let json = look(&pair);
    let rows = "TRUNCATE \\\"public\\\".\\\"pgbench_branches\\\" on the subscriber";
    assert_found(&json, "subscriber_rows", "blocker", rows);
    assert_eq!(of(&json, "subscriber_rows").len(), 1, "{json}");
    assert_found(&json, "schema_drift", "blocker", "Über");
    let refused = pair.flare(&["prepare", pair.subname(), "--yes"]);
    refused.fails_with("subscriber_rows");
    let published = "SELECT count(*) FROM pg_publication";
    assert_eq!(pair.publisher().value(db, published), "0", "{refused}");

    // A subscription that copies no rows meets none; a table that is empty again, of some size, is in nobody's way.
    pair.configure(|config| {
        config["subscriptions"][pair.subname()]["options"]["copy_data"] = "off".into();
    });
    assert_found(&look(&pair), "subscriber_rows", "pass", "empty");
    pair.configure(|config| {
        config["subscriptions"][pair.subname()]["options"]["copy_data"] = true.into();
    });
    subscriber.sql(
        db,
        "DELETE FROM pgbench_branches; ALTER TABLE pgbench_history DROP COLUMN \"Über\"",
    );
    let json = look(&pair);
    assert_found(&json, "subscriber_rows", "pass", "empty");
    assert_found(&json, "schema_drift", "pass", "the same");
}
