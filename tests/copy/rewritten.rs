//! Statements that change tables while `initial_copy` is at it.

use std::time::Duration;

use super::same;
use crate::support::{Pair, wait};

/// The large one is read first, and slowly.
const TABLES: &str = "
    CREATE TABLE large (id int PRIMARY KEY, pad text); INSERT INTO large SELECT n, repeat(md5(n::text), 40) FROM generate_series(1, 12000) n;
    CREATE TABLE typed (id int PRIMARY KEY, v int); INSERT INTO typed SELECT n, n FROM generate_series(1, 500) n;
    CREATE TABLE emptied (id int PRIMARY KEY); INSERT INTO emptied SELECT generate_series(1, 500);
    CREATE TABLE packed (id int PRIMARY KEY); INSERT INTO packed SELECT generate_series(1, 500);
    CREATE TABLE dropped (id int PRIMARY KEY); INSERT INTO dropped SELECT generate_series(1, 500);
    CREATE TABLE kept (id int PRIMARY KEY); CREATE TABLE loose (id int PRIMARY KEY, k int REFERENCES kept);
    CREATE TABLE \"Late\" (id int PRIMARY KEY); INSERT INTO \"Late\" SELECT generate_series(1, 500);
    CREATE FUNCTION inner_one(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 7';
    CREATE FUNCTION outer_one(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_one($1); END';
    CREATE INDEX ON typed (outer_one(id))";

/// Its rows are younger than the snapshot then: none of them would come, and nothing would say so.
#[test]
fn a_table_that_is_rewritten_during_the_copy_is_not_left_empty() {
    let pair = Pair::new(11, 18);
    let (db, sub) = (pair.db(), pair.subname());
    pair.create_roles_on(pair.subscriber());
    let owner = &pair.names().owner;
    let publisher = pair.publisher();
    publisher.sql(db, &format!("SET ROLE {owner}; {TABLES}"));
    publisher.sql(
        db,
        "SET session_replication_role = replica; INSERT INTO loose VALUES (1, 9)",
    );
    publisher.sql(
        db,
        &format!(
            "CREATE PUBLICATION \"{}\" FOR ALL TABLES; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
            pair.names().pubname,
            pair.names().repl
        ),
    );
    pair.flare(&["create_replication_status_table", db]).ok();
    let copy = ["initial_copy", "--jobs", "1", "--max-rate", "4MB", sub];
    let reads = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{db}' AND query LIKE 'COPY%large%' AND state = 'active'"
    );
    let begun = |args: &[&str]| {
        let run = pair.spawn(args);
        wait::for_(
            "the rows of the large table",
            Duration::from_secs(60),
            || publisher.value(db, &reads) != "0",
        );
        run
    };
    let run = begun(&copy);
    publisher.sql(
        db,
        "TRUNCATE emptied; INSERT INTO emptied VALUES (7); CLUSTER packed USING packed_pkey; ALTER TABLE typed ALTER v TYPE bigint",
    );
    run.wait()
        .code(1)
        .says("public.typed has been rewritten by an ALTER TABLE since the copy began")
        .says("--restart");
    pair.subscriber()
        .sql(db, "ALTER TABLE typed ALTER v TYPE bigint");
    let run = begun(&[&copy[..], &["--restart"]].concat());
    publisher.sql(db, "DROP TABLE dropped");
    run.wait()
        .code(1)
        .says("relation \"public.dropped\" does not exist")
        .says("do the same to it on the subscriber");
    // It stays on the subscriber. The rows come, and an index does not.
    pair.flare(&["initial_copy", "--restart", sub])
        .code(1)
        .says("function inner_one(integer) does not exist")
        .says("SET search_path");
    pair.flare(&["status"])
        .ok()
        .prints("what follows are not all");
    for server in [publisher, pair.subscriber()] {
        server.sql(
            db,
            "ALTER FUNCTION outer_one(int) SET search_path = public, pg_temp",
        );
    }
    publisher.sql(db, "DROP TABLE \"Late\"");
    pair.flare(&["initial_copy", sub])
        .ok()
        .prints("8 of 8 parts finished before")
        .prints(
            "loose_k_fkey in schema public is NOT VALID on the subscriber, since rows violate it",
        )
        .prints("Key (k)=(9) is not present in table \"kept\"")
        .prints("table public.Late is only on the subscriber and may hold rows")
        .prints("table public.dropped is only on the subscriber and is empty")
        .prints("run on the subscriber, after BEGIN READ WRITE: DROP TABLE \"public\".\"dropped\"");
    pair.subscriber()
        .sql(db, "DROP TABLE \"public\".\"dropped\"; DROP TABLE \"Late\"");
    // What is mended on the publisher comes with the stream, and the schemas differ until the key is checked.
    publisher.sql(db, "INSERT INTO kept VALUES (9)");
    pair.await_caught_up();
    let validate = "ALTER TABLE public.loose VALIDATE CONSTRAINT loose_k_fkey";
    pair.flare(&["status"]).ok().prints(validate);
    pair.subscriber().sql(db, validate);
    same::rows_are_equal(&pair);
    for (table, rows) in [("typed", "500"), ("emptied", "1"), ("packed", "500")] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(pair.subscriber().value(db, &count), rows, "{table}");
    }
}
