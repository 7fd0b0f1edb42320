//! `vacuum_analyze`: statistics for every table, and a word on those that may not be touched.

use crate::support::Pair;

#[test]
fn every_table_has_statistics_and_what_is_not_permitted_is_named() {
    for version in [11, 18] {
        let pair = Pair::new(10, version).with_accounts(100);
        pair.create_tables_on(pair.subscriber());
        let (subscriber, db) = (pair.subscriber(), pair.db());
        subscriber.sql(
            db,
            "CREATE TABLE \"Odd \"\"name\" (id int); INSERT INTO \"Odd \"\"name\" SELECT generate_series(1, 50);
             CREATE TABLE parent (id int) PARTITION BY RANGE (id);
             CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (100);
             INSERT INTO parent SELECT generate_series(0, 99)",
        );
        let shown = pair
            .flare(&["vacuum_analyze", db, "--dry-run", "--format", "json"])
            .ok()
            .json();
        let tables = shown["tables"].as_u64().expect("a count");
        assert_eq!(
            shown["order"].as_array().map(|order| order.len() as u64),
            Some(tables)
        );
        let done = pair
            .flare(&["vacuum_analyze", db, "--jobs", "3", "--format", "json"])
            .ok()
            .json();
        assert_eq!(
            (done["tables"].as_u64(), &done["changed"]),
            (Some(tables), &true.into())
        );
        let without = "SELECT count(*) FROM pg_class c WHERE relnamespace = 'public'::regnamespace
            AND relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_statistic WHERE starelid = c.oid)
            AND relname IN ('Odd \"name', 'parent', 'child')";
        assert_eq!(subscriber.value(db, without), "0", "{version}");
        assert_eq!(
            subscriber.value(db, "SELECT reltuples FROM pg_class WHERE relname = 'child'"),
            "100"
        );
    }
}

#[test]
fn tables_of_others_in_a_database_of_others_are_a_superusers() {
    let pair = Pair::new(16, 17);
    pair.create_roles_on(pair.subscriber());
    pair.create_database_on(pair.subscriber());
    let (subscriber, db) = (pair.subscriber(), pair.db());
    subscriber.sql(
        "postgres",
        &format!("ALTER DATABASE {db} OWNER TO {}", subscriber.superuser()),
    );
    let owner = &pair.names().owner;
    subscriber.sql(
        db,
        &format!(
            "CREATE TABLE theirs (id int); CREATE TABLE mine (id int); ALTER TABLE mine OWNER TO {owner};
             CREATE SCHEMA shut; CREATE TABLE shut.inner (id int); INSERT INTO shut.inner VALUES (1)"
        ),
    );
    let done = pair
        .flare(&["vacuum_analyze", db, "--format", "json"])
        .ok()
        .json();
    assert_eq!(done["tables"], 3);
    assert_eq!(done["skipped"], serde_json::json!([]));
    let analyzed = "SELECT count(*) FROM pg_statistic WHERE starelid = 'shut.inner'::regclass";
    assert_eq!(subscriber.value(db, analyzed), "1");
    pair.flare(&["vacuum_analyze", "nope"]).code(2);
}
