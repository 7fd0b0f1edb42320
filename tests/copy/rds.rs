//! The copy by an administrator that is no superuser on either side, and a snapshot that nobody keeps any more.

use std::time::{Duration, Instant};

use super::same;

use crate::support::{Cluster, Pair, wait};

const TABLES: &str = "
    CREATE TABLE ra (id int PRIMARY KEY, v int, pad text); INSERT INTO ra SELECT g, 0, repeat('x', 200) FROM generate_series(1, 30000) g;
    CREATE TABLE rb (id bigserial PRIMARY KEY, ra int REFERENCES ra); INSERT INTO rb (ra) SELECT g FROM generate_series(1, 5000) g;
    CREATE INDEX ON rb (ra); CREATE TABLE pgbench_history (k int); CREATE TABLE loose (id int PRIMARY KEY, k int REFERENCES ra);
    RESET ROLE; SET session_replication_role = replica; INSERT INTO loose VALUES (1, -9)";

fn holders(pair: &Pair) -> String {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE 'flare/holder%'",
        pair.db()
    );
    pair.publisher().value("postgres", &sql)
}

/// Begins to copy, and kills it while rows travel.
fn killed(pair: &Pair, args: &[&str]) {
    let copying = pair.spawn(args);
    wait::for_("the rows", Duration::from_secs(60), || {
        copying.has_ended()
            || pair
                .subscriber()
                .try_rows(pair.db(), "SELECT FROM flare.copy LIMIT 1")
                .is_ok_and(|rows| !rows.is_empty())
    });
    copying.kill_9();
    let run = copying.wait();
    assert_eq!(run.signal(), Some(9), "{run}");
}

fn copies_without_superuser(old: u32, new: u32) {
    let pair = Pair::between(
        Cluster::private_rds(old, &[]),
        Cluster::private_rds(new, &[]),
    );
    let (db, sub, names) = (pair.db(), pair.subname(), pair.names());
    pair.create_roles_on(pair.subscriber());
    pair.publisher()
        .sql(db, &format!("SET ROLE {}; {TABLES}", names.owner));
    for command in [
        &["grant_create", "--use-db-owner", db][..],
        &["create_publication", db],
        &["grant_replication", "--use-db-owner", db],
    ] {
        pair.flare(command).ok();
    }
    // The snapshot outlives flare no longer than it was told to.
    let slowly = [
        "initial_copy",
        "--use-repl-user",
        "--max-rate",
        "100kB",
        "--max-hold",
        "20s",
        sub,
    ];
    killed(&pair, &slowly);
    assert_eq!(holders(&pair), "1");
    let since = Instant::now();
    wait::for_("the holder to end", Duration::from_secs(30), || {
        holders(&pair) == "0"
    });
    println!("{old}-{new} ended after {:?}", since.elapsed());
    pair.flare(&["status"])
        .ok()
        .prints("its snapshot is gone")
        .prints("next: flare initial_copy");
    pair.flare(&["initial_copy", "--use-repl-user", sub])
        .fails_with("only a superuser of the subscriber can go on")
        .says("flare initial_copy --restart");
    // Whom the subscription connects as is on record.
    let run = pair.flare(&["initial_copy", "--restart", sub]);
    run.ok().says("starting over: emptying").prints(
        "loose_k_fkey in schema public is NOT VALID on the subscriber, since rows violate it",
    );
    pair.publisher().sql(
        db,
        "UPDATE ra SET v = 1 WHERE id = 7; INSERT INTO ra VALUES (-9); INSERT INTO pgbench_history VALUES (1)",
    );
    wait::for_("the rows of the stream", Duration::from_secs(20), || {
        pair.subscriber()
            .value(db, "SELECT count(*) FROM pgbench_history")
            == "1"
    });
    let validate = "ALTER TABLE public.loose VALIDATE CONSTRAINT loose_k_fkey";
    pair.flare(&["status"]).ok().prints(validate);
    let writing = format!("BEGIN READ WRITE; {validate}; COMMIT");
    pair.subscriber().sql(db, &writing);
    same::rows_are_equal(&pair);
    same::nothing_of_the_copy_is_left(&pair);
    let indexes = "SELECT count(*) FROM pg_indexes WHERE tablename IN ('ra', 'rb')";
    assert_eq!(pair.subscriber().value(db, indexes), "3");
}

#[test]
#[ignore = "make soak"]
fn an_administrator_without_superuser_copies_and_starts_over() {
    copies_without_superuser(13, 16);
}

#[test]
#[ignore = "a matrix for make soak"]
fn administrators_without_superuser_copy_between_more_versions() {
    for (old, new) in [(10, 16), (10, 18), (14, 17), (16, 18), (18, 18)] {
        copies_without_superuser(old, new);
    }
}
