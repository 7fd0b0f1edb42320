//! What cannot succeed is refused before anything is made, or undone and named.

use super::{count, create, create_and_wait, goes_without_trace, nothing_is_left};
use crate::support::{Cluster, Pair};

#[test]
fn what_would_go_wrong_is_refused_before_anything_is_made() {
    let pair = Pair::new(13, 15).with_accounts(10).published();
    let (db, sub) = (pair.db(), pair.subname());
    let create = || create(&pair);

    let option = |name: &str, value: &str| {
        pair.configure(|c| {
            let mut options = serde_yaml::Mapping::new();
            options.insert(name.into(), value.into());
            c["subscriptions"][sub]["options"] = options.into();
        });
    };
    option("run_as_owner", "true");
    create()
        .code(2)
        .says("PostgreSQL 16 has it, and the subscriber runs 15");
    option("slot_name", "x");
    create().code(2).says("flare sets it itself");
    option("binary", "true");

    pair.subscriber()
        .sql(db, "INSERT INTO pgbench_tellers VALUES (1)");
    create()
        .code(1)
        .says("rows already in public.pgbench_tellers");
    pair.subscriber().sql(db, "DROP TABLE pgbench_tellers");
    create()
        .code(1)
        .says("no table public.pgbench_tellers")
        .says("replicate_schema");
    pair.subscriber()
        .sql(db, "CREATE TABLE pgbench_tellers (LIKE pgbench_branches)");

    let repl = &pair.names().repl;
    pair.publisher()
        .sql(db, &format!("REVOKE ALL ON pgbench_branches FROM {repl}"));
    create()
        .code(1)
        .says("may not read public.pgbench_branches")
        .says("grant_replication");
    pair.publisher()
        .sql(db, &format!("GRANT SELECT ON pgbench_branches TO {repl}"));
    pair.publisher()
        .sql(db, "ALTER TABLE pgbench_branches ENABLE ROW LEVEL SECURITY");
    create()
        .code(1)
        .says("row security")
        .says("grant_replication")
        .says("BYPASSRLS");
    let bypasses = format!("SELECT rolbypassrls FROM pg_roles WHERE rolname = '{repl}'");
    let owner = pair.flare(&["grant_replication", "--use-db-owner", db]);
    owner.ok().prints("BYPASSRLS");
    assert_eq!(pair.publisher().value(db, &bypasses), "f");
    let superuser = pair.flare(&["grant_replication", db]);
    superuser.ok().prints("row security");
    assert_eq!(pair.publisher().value(db, &bypasses), "t");

    pair.flare(&["drop_publication", db]).ok();
    create().code(1).says("flare create_publication");
    nothing_is_left(&pair);
}

#[test]
#[ignore = "make soak"]
fn an_open_transaction_of_another_database_is_named_and_nothing_is_left() {
    for old in [10, 17] {
        let pair = Pair::new(old, 18).with_accounts(10).published();
        let mut blocker = pair.publisher().superuser_session("postgres");
        blocker
            .batch_execute("BEGIN; SELECT txid_current()")
            .expect("begin");
        let pid: i32 = blocker
            .query_one("SELECT pg_backend_pid()", &[])
            .expect("a pid")
            .get(0);
        let run = create(&pair);
        run.code(1)
            .says(&format!("waits for an open transaction: pid {pid}"))
            .says("database \"postgres\"")
            .says(&format!("pg_terminate_backend({pid})"));
        nothing_is_left(&pair);
        blocker.batch_execute("ROLLBACK").expect("roll back");
        create(&pair).ok();
        pair.flare(&["drop_subscription", pair.subname()]).ok();
    }
}

#[test]
#[ignore = "make soak"]
fn a_prepared_transaction_is_named_and_odd_names_are_kept() {
    let publisher = Cluster::private(12, &[("max_prepared_transactions", "5")]);
    let pair = Pair::between(publisher, Cluster::subscriber(18))
        .with_accounts(10)
        .published();
    let odd = format!("{}It's \"Odd\"-1", pair.names().id);
    pair.configure(|c| {
        let declared = c["subscriptions"][pair.subname()].clone();
        let mut subscriptions = serde_yaml::Mapping::new();
        subscriptions.insert(odd.as_str().into(), declared);
        c["subscriptions"] = subscriptions.into();
    });
    pair.publisher().sql(
        "postgres",
        "BEGIN; CREATE TABLE p (a int); PREPARE TRANSACTION 'it''s forgotten'",
    );
    pair.flare(&["create_subscription", "--use-repl-user", &odd])
        .code(1)
        .says("\"it's forgotten\"")
        .says("ROLLBACK PREPARED 'it''s forgotten'");
    nothing_is_left(&pair);
    pair.publisher()
        .sql("postgres", "ROLLBACK PREPARED 'it''s forgotten'");
    pair.flare(&["create_subscription", "--use-repl-user", "--wait", &odd])
        .ok();
    assert_eq!(count(pair.subscriber(), &pair), "10");
    pair.flare(&["drop_subscription", &odd]).ok();
    nothing_is_left(&pair);
}

#[test]
fn a_connection_that_leads_elsewhere_copies_nothing() {
    let other = Cluster::private(17, &[]);
    let pair = Pair::new(17, 18).with_accounts(10).published();
    let (db, names) = (pair.db(), pair.names());
    // The same roles, database, tables and publication, with rows of its own.
    pair.create_tables_on(&other);
    other.sql(
        db,
        &format!(
            "INSERT INTO pgbench_accounts (aid) VALUES (-1);
             CREATE TABLE flare_replication_status (system_identifier text PRIMARY KEY, uuid text, created_at text);
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO {};
             CREATE PUBLICATION \"{}\" FOR ALL TABLES",
            names.repl, names.pubname
        ),
    );
    pair.configure(|c| {
        let conn = &mut c["hosts"]["publisher"]["conn"];
        conn["host_via_subscriber"] = other.host().into();
        conn["port_via_subscriber"] = u64::from(other.port()).into();
    });
    let run = create(&pair);
    run.code(1)
        .says("leads to another server")
        .says("host_via_subscriber");
    nothing_is_left(&pair);
    assert_eq!(count(pair.subscriber(), &pair), "0");

    // One of the same name that follows that server is another migration's.
    pair.configure(|c| {
        let conn = &mut c["hosts"]["publisher"]["conn"];
        conn["host_via_subscriber"] = pair.publisher().host().into();
        conn["port_via_subscriber"] = u64::from(pair.publisher().port()).into();
    });
    let sub = pair.subname();
    pair.subscriber().sql(
        db,
        &format!(
            "CREATE SUBSCRIPTION {sub} CONNECTION 'host={} port={}' PUBLICATION \"{}\" WITH (connect = false)",
            other.host(),
            other.port(),
            names.pubname
        ),
    );
    for command in [&["cleanup", sub, "--yes"][..], &["drop_subscription", sub]] {
        pair.flare(command).code(1).says("another migration's");
    }
    // Nobody is told to drop it, or to empty its tables.
    let run = pair.flare(&["preflight", db]);
    run.prints("it is another migration's");
    assert!(!run.stdout().contains("empty its tables"), "{run}");
    for command in [
        &["lag", sub][..],
        &["status"],
        &["monitor", db, sub, "--once"],
    ] {
        let run = pair.flare(command);
        run.prints("it is another migration's");
        assert!(!run.stdout().contains("drop_subscription"), "{run}");
    }
    let there = format!("SELECT count(*) FROM pg_subscription WHERE subname = '{sub}'");
    assert_eq!(pair.subscriber().value(db, &there), "1");
    pair.flare(&["drop_subscription", sub, "--force"]).ok();
    assert_eq!(pair.subscriber().value(db, &there), "0");
}

#[test]
fn a_copy_that_cannot_succeed_is_noticed() {
    for new in [13, 15] {
        let pair = Pair::new(13, new).with_accounts(10).published();
        pair.subscriber().sql(
            pair.db(),
            "ALTER TABLE pgbench_accounts ADD CHECK (aid < 5)",
        );
        let run = create_and_wait(&pair);
        run.code(1)
            .says("of public.pgbench_accounts holds on the subscriber (CHECK ((aid < 5)))")
            .says("DROP CONSTRAINT \"pgbench_accounts_aid_check\"");
        goes_without_trace(&pair);
    }
}
