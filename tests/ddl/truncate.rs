//! A TRUNCATE of a table to which one refers that the subscription does not follow: apply truncates what it follows alone,
//! which the server refuses. And what PostgreSQL 10 neither sends nor takes is carried as a statement.

use std::time::Duration;

use crate::cutover::fixture::switched_to;
use crate::support::application::Side;
use crate::support::{Pair, matrix, wait};

use super::carry::{armed, is_refused, owner, runs, settle};
use super::same::assert_same;

/// Before 11 none is replicated.
fn pairs() -> Vec<(u32, u32)> {
    if std::env::var("PAIRS").is_ok_and(|asked| !asked.is_empty()) {
        let pairs = matrix::pairs();
        return pairs.into_iter().filter(|(old, _)| *old > 10).collect();
    }
    vec![(11, 18)]
}

#[test]
#[ignore = "make soak"]
fn a_truncate_passes_tables_that_are_not_followed() {
    for (old, new) in pairs() {
        let pair = armed(Pair::new(old, new), "carry");
        let rounds = [(Side::Publisher, "there"), (Side::Subscriber, "back")];
        for &(open, round) in matrix::sample(&rounds, &rounds[..1]) {
            if open == Side::Subscriber {
                switched_to(&pair, Side::Subscriber);
            }
            passes(&pair, open, round);
        }
    }
}

fn passes(pair: &Pair, open: Side, round: &str) {
    let (db, sub) = (pair.db(), pair.subname());
    let receiving = open.other().of(pair);
    let mut client = owner(pair, open);
    let mut run = |sql: &str| runs(&mut client, &sql.replace("ROUND", round));
    run("CREATE TABLE ROUND_top (id int PRIMARY KEY); INSERT INTO ROUND_top VALUES (1), (2)");
    settle(pair, open);
    run("CREATE TABLE ROUND_low (id int PRIMARY KEY, top int CONSTRAINT \"ROUND k\" REFERENCES ROUND_top ON DELETE CASCADE);
         INSERT INTO ROUND_low VALUES (1, 1)");
    run("TRUNCATE ROUND_top CASCADE");
    run(
        "CREATE TABLE ROUND_after (id int PRIMARY KEY); INSERT INTO ROUND_top VALUES (5); INSERT INTO ROUND_low VALUES (5, 5)",
    );
    let rows = format!("SELECT string_agg(id::text, ' ') FROM {round}_top");
    wait::for_("the TRUNCATE", Duration::from_secs(60), || {
        pair.flare(&["lag"]);
        receiving.value(db, &rows) == "5"
    });
    settle(pair, open);
    assert_same(pair);
    // A deploy goes on while foreign keys of the new table are set aside.
    run("CREATE TABLE ROUND_new (id int PRIMARY KEY, top int CONSTRAINT ROUND_gone REFERENCES ROUND_top,
           also int CONSTRAINT ROUND_kept REFERENCES ROUND_top DEFERRABLE INITIALLY DEFERRED); INSERT INTO ROUND_new VALUES (1, 5, 5)");
    let keys = format!(
        "SELECT count(*) FROM pg_constraint WHERE conname IN ('{round}_gone', '{round}_kept')"
    );
    wait::for_("the table", Duration::from_secs(60), || {
        receiving.value(db, &keys) == "2"
    });
    pair.flare(&["lag"]);
    assert_eq!(receiving.value(db, &keys), "0");
    let unready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    wait::for_("the rows", Duration::from_secs(60), || {
        receiving.value(db, unready) == "0"
    });
    run("ALTER TABLE ROUND_new DROP CONSTRAINT ROUND_gone; ALTER TABLE ROUND_new RENAME also TO other; ALTER TABLE ROUND_new RENAME TO ROUND_newer;
         ALTER TABLE ROUND_newer RENAME CONSTRAINT ROUND_kept TO ROUND_named; DROP TABLE ROUND_after");
    settle(pair, open);
    assert_same(pair);
    // A partitioned table is not followed, its partitions are.
    run("CREATE TABLE ROUND_part (id int, top int REFERENCES ROUND_top, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE ROUND_part1 PARTITION OF ROUND_part FOR VALUES FROM (0) TO (100)");
    settle(pair, open);
    run(
        "INSERT INTO ROUND_part VALUES (1, 5); TRUNCATE ROUND_top CASCADE; INSERT INTO ROUND_top VALUES (7); INSERT INTO ROUND_part VALUES (7, 7)",
    );
    wait::for_("the reason", Duration::from_secs(60), || {
        let status = pair.flare(&["status"]);
        status
            .stdout()
            .contains("_top is refused because of foreign key")
    });
    pair.flare(&["ddl", sub, "--retry"]).ok();
    assert_eq!(receiving.value(db, &rows), "7");
    settle(pair, open);
    assert_same(pair);
}

const ON_A_10: [&str; 7] = [
    "TRUNCATE ROUND_top CASCADE; INSERT INTO ROUND_top VALUES (5); INSERT INTO ROUND_low VALUES (5, 5)",
    "BEGIN; SAVEPOINT a; TRUNCATE ROUND_low; ROLLBACK TO a; INSERT INTO ROUND_low VALUES (6, 5); COMMIT",
    // Its rows are copied after the first TRUNCATE, which must not empty it then.
    "CREATE TABLE ROUND_new AS SELECT 1 AS id; TRUNCATE ROUND_new; INSERT INTO ROUND_new VALUES (2)",
    "CREATE TABLE \"ROUND ; \"\"new\" (id int PRIMARY KEY); INSERT INTO \"ROUND ; \"\"new\" VALUES (1); CREATE TABLE ROUND_more (id int PRIMARY KEY)",
    "ALTER TABLE ROUND_new REPLICA IDENTITY FULL",
    "BEGIN; INSERT INTO ROUND_p VALUES (2, '2026-01-06'); TRUNCATE ROUND_p; INSERT INTO ROUND_p VALUES (3, '2026-01-07'); COMMIT",
    "DO $$ BEGIN TRUNCATE ROUND_low, ROUND_top RESTART IDENTITY; END $$; INSERT INTO ROUND_top VALUES (7)",
];

#[test]
#[ignore = "make soak"]
fn a_truncate_that_a_10_neither_sends_nor_takes_is_carried() {
    let pair = armed(Pair::new(10, 18), "carry");
    // A thousand defaults: the catalogs of both sides are compared in a moment all the same.
    let columns: Vec<String> = (0..1000).map(|n| format!("c{n} int DEFAULT {n}")).collect();
    let wide = format!(
        "CREATE TABLE wide (id int PRIMARY KEY, {})",
        columns.join(", ")
    );
    runs(&mut owner(&pair, Side::Publisher), &wide);
    settle(&pair, Side::Publisher);
    let status = pair.flare(&["status"]);
    assert!(!status.stdout().contains("no answer"), "{status}");
    runs(&mut owner(&pair, Side::Publisher), "DROP TABLE wide");
    for (open, round) in [(Side::Publisher, "there"), (Side::Subscriber, "back")] {
        if open == Side::Subscriber {
            switched_to(&pair, Side::Subscriber);
        }
        let mut client = owner(&pair, open);
        let mut run = |sql: &str| runs(&mut client, &sql.replace("ROUND", round));
        run("CREATE TABLE ROUND_top (id int PRIMARY KEY); CREATE TABLE ROUND_low (id int PRIMARY KEY, top int REFERENCES ROUND_top);
             CREATE TABLE ROUND_p (id int, at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE ROUND_p1 PARTITION OF ROUND_p FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
             ALTER TABLE ROUND_p1 ADD PRIMARY KEY (id); INSERT INTO ROUND_p VALUES (1, '2026-01-05'); INSERT INTO ROUND_top VALUES (1); INSERT INTO ROUND_low VALUES (1, 1)");
        settle(&pair, open);
        for sql in ON_A_10 {
            run(sql);
        }
        settle(&pair, open);
        assert_same(&pair);
        run("TRUNCATE ROUND_new, \"ROUND ; \"\"new\"; INSERT INTO ROUND_new VALUES (3)");
        settle(&pair, open);
        assert_same(&pair);
        let compared = pair.flare(&["verify_schema", pair.subname()]);
        for other in ["flare_truncate", "_p1"] {
            assert!(!compared.stdout().contains(other), "{other}: {compared}");
        }
        let rows = format!(
            "SELECT (SELECT string_agg(id::text, ' ') FROM {round}_new) || (SELECT count(*) FROM {round}_low)"
        );
        assert_eq!(open.other().of(&pair).value(pair.db(), &rows), "30");
    }
    pair.configure(|config| config["ddl"] = "refuse".into());
    pair.flare(&["fallback", pair.subname(), "--yes"]).ok();
    pair.flare(&["create_subscription", pair.subname()]).ok();
    let mut client = owner(&pair, Side::Publisher);
    is_refused(
        &mut client,
        "TRUNCATE there_new",
        "TRUNCATE of public.there_new is refused",
    );
    pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
    for server in [pair.publisher(), pair.subscriber()] {
        let left = "SELECT count(*) FROM pg_trigger WHERE tgname ~ '^flare'";
        assert_eq!(server.value(pair.db(), left), "0");
    }
}
