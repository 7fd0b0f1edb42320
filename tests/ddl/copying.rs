//! Deploys while PostgreSQL copies the tables: refused and carried from its beginning.

use std::time::Duration;

use crate::support::application::Side;
use crate::support::{Pair, wait};

use super::carry::{is_refused, owner, runs, settle};
use super::same::assert_same;

#[test]
fn statements_are_carried_while_tables_are_copied() {
    let pair = Pair::new(13, 17).with_accounts(10).published();
    let (db, sub) = (pair.db(), pair.subname());
    pair.configure(|config| config["ddl"] = "carry".into());
    pair.flare(&["create_replication_status_table", db]).ok();
    // The copy of one table waits.
    let mut holding = pair.subscriber().superuser_session(db);
    runs(
        &mut holding,
        "CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN new; END';
         CREATE TRIGGER held BEFORE INSERT ON pgbench_accounts FOR EACH ROW EXECUTE FUNCTION held();
         ALTER TABLE pgbench_accounts ENABLE ALWAYS TRIGGER held; SELECT pg_advisory_lock(4711)",
    );
    let run = pair.spawn(&["create_subscription", "--wait", sub]);
    let publisher = pair.publisher();
    wait::for_("carrying", Duration::from_secs(60), || {
        let mode =
            "SELECT count(*) FROM pg_proc WHERE proname = 'ddl_mode' AND prosrc LIKE '%carry%'";
        let copying =
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE '%\\_sync\\_%'";
        publisher.value(db, mode) == "1" && publisher.value(db, copying) != "0"
    });
    let mut client = owner(&pair, Side::Publisher);
    is_refused(
        &mut client,
        "ALTER TABLE pgbench_branches ADD x int",
        "flare is copying tables to the other server",
    );
    runs(
        &mut client,
        "CREATE TABLE meanwhile (id int PRIMARY KEY); INSERT INTO meanwhile VALUES (1); CREATE VIEW above AS SELECT * FROM meanwhile",
    );
    runs(
        &mut holding,
        "SELECT pg_advisory_unlock(4711); SET flare.carry = off; DROP TRIGGER held ON pgbench_accounts; DROP FUNCTION held()",
    );
    run.wait().ok();
    pair.await_tables_ready();
    runs(
        &mut client,
        "ALTER TABLE pgbench_branches ADD x int DEFAULT 5",
    );
    settle(&pair, Side::Publisher);
    assert_same(&pair);
}
