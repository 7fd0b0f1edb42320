//! A TRUNCATE of a table to which one refers that the subscription does not follow: apply truncates what it follows alone,
//! which the server refuses.

use std::time::Duration;

use crate::cutover::fixture::switched_to;
use crate::support::application::Side;
use crate::support::{Pair, matrix, wait};

use super::carry::{armed, owner, runs, settle};
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
fn a_truncate_passes_tables_that_are_not_followed() {
    for (old, new) in pairs() {
        let pair = armed(Pair::new(old, new), "carry");
        for (open, round) in [(Side::Publisher, "there"), (Side::Subscriber, "back")] {
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
