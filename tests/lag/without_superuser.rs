//! An administrator who is no superuser sees the same, whatever it may write down.

use super::{apply_blocked, of_one, says, sql_on_subscriber, write_mb};
use crate::support::{Cluster, Pair, matrix};

#[test]
fn an_administrator_without_superuser_sees_the_same() {
    for &(old, new) in matrix::sample(&[(10, 13), (13, 18), (14, 16)], &[(10, 13)]) {
        let pair = Pair::rds(old, new).with_accounts(10).replicating();
        pair.await_caught_up();
        let one = of_one(&pair, 0, &["--warning", "5s"]);
        assert_eq!(one["tables"]["ready"], 4, "{one}");
        let lock = apply_blocked(&pair);
        write_mb(&pair, 4);
        let one = of_one(&pair, 1, &["--warning", "1MB"]);
        assert_eq!(one["active"], true, "{one}");
        drop(lock);
        pair.await_caught_up();
        let sub = pair.subname();
        sql_on_subscriber(&pair, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
        let one = of_one(&pair, 2, &[]);
        says(&one, "disabled");
    }
}

#[test]
fn what_cannot_be_written_down_is_not_missed() {
    let publisher = Cluster::private_rds(14, &[]);
    let pair = Pair::between(publisher, Cluster::subscriber(18))
        .with_accounts(10)
        .replicating();
    pair.await_caught_up();
    let exists = "SELECT to_regclass('flare.sample') IS NOT NULL";
    of_one(&pair, 0, &["--warning", "5s"]);
    assert_eq!(pair.publisher().value("postgres", exists), "f");
    assert!(!pair.publisher().log().contains("permission denied"));
    let admin = pair.publisher().admin();
    pair.publisher().sql(
        "postgres",
        &format!("GRANT CREATE ON DATABASE postgres TO {admin}"),
    );
    for rows in ["1", "2"] {
        of_one(&pair, 0, &["--warning", "5s"]);
        let count = "SELECT count(*) FROM flare.sample";
        assert_eq!(pair.publisher().value("postgres", count), rows);
    }
}
