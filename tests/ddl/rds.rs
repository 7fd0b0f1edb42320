//! An administrator that is no superuser, and may make event triggers: what Amazon's rds_superuser is.

use std::time::Duration;

use crate::support::application::Side;
use crate::support::{Cluster, Pair, wait};

use super::carry::{is_refused, owner, runs, settle};
use super::same::assert_same;

#[test]
fn statements_are_carried_without_superuser() {
    let pair = Pair::between(Cluster::private_rds(15, &[]), Cluster::private_rds(17, &[]))
        .with_accounts(10);
    let (db, sub) = (pair.db(), pair.subname());
    pair.configure(|config| config["ddl"] = "carry".into());
    let servers = [pair.publisher(), pair.subscriber()];
    let owner_role = &pair.names().owner;
    pair.create_roles_on(pair.subscriber());
    for server in servers {
        let admin = server.admin();
        // Amazon lets rds_superuser make event triggers, and set this.
        server.sql(
            "postgres",
            &format!(
                "ALTER ROLE {admin} SUPERUSER; GRANT SET ON PARAMETER session_replication_role TO {admin};
                 GRANT {owner_role} TO {admin}; GRANT CREATE ON DATABASE postgres TO {admin}"
            ),
        );
    }
    let mut client = owner(&pair, Side::Publisher);
    // Without partitions it is neither followed nor fenced.
    runs(
        &mut client,
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
    );
    pair.flare(&["prepare", "--yes", sub]).ok();
    for server in servers {
        let admin = server.admin();
        // Whoever makes a role has it without these from 16 on.
        let options = match server.version() {
            16.. => "WITH INHERIT TRUE, SET TRUE",
            _ => "",
        };
        server.sql(
            "postgres",
            &format!("ALTER ROLE {admin} NOSUPERUSER; GRANT {owner_role} TO {admin} {options}"),
        );
        // What is installed is what such an administrator can have.
        server.sql(
            db,
            "BEGIN READ WRITE; SET LOCAL session_replication_role = replica;
             ALTER FUNCTION flare.ddl_note() RESET lc_messages; ALTER FUNCTION flare.ddl_start() RESET lc_messages; COMMIT",
        );
    }
    runs(
        &mut client,
        "CREATE TABLE part (id int PRIMARY KEY); ALTER TABLE parts ATTACH PARTITION part FOR VALUES FROM (0) TO (9);
         CREATE TABLE one (id int PRIMARY KEY); INSERT INTO one VALUES (1); ALTER TABLE one ADD t text DEFAULT 'a'; CREATE INDEX one_t ON one (t)",
    );
    settle(&pair, Side::Publisher);
    assert_same(&pair);
    let fenced = "SELECT count(*) FROM pg_trigger WHERE tgname = 'flare_fence' AND tgrelid::regclass::text IN ('parts', 'part')";
    assert_eq!(pair.subscriber().value(db, fenced), "2");
    // One that fails there.
    pair.subscriber().sql(
        db,
        "BEGIN READ WRITE; SET LOCAL flare.carry = off; CREATE TABLE two (id int); COMMIT",
    );
    runs(&mut client, "CREATE TABLE two (id int PRIMARY KEY)");
    wait::for_("the failure", Duration::from_secs(30), || {
        let status = pair.flare(&["status"]);
        status.stdout().contains("already exists")
    });
    pair.subscriber().sql(
        db,
        "BEGIN READ WRITE; SET LOCAL flare.carry = off; DROP TABLE two; COMMIT",
    );
    pair.flare(&["ddl", sub, "--retry"]).ok();
    settle(&pair, Side::Publisher);
    assert_same(&pair);
    // Rows that the copy would leave out: its owner can let it see them.
    runs(
        &mut client,
        "CREATE TABLE secret (id int PRIMARY KEY, who text); ALTER TABLE secret ENABLE ROW LEVEL SECURITY; INSERT INTO secret VALUES (1, 'me');
         CREATE POLICY own ON secret USING (who = current_user); CREATE TABLE beside (id int PRIMARY KEY)",
    );
    let repl = &pair.names().repl;
    let policy = format!(
        "CREATE POLICY flare_copy ON \"public\".\"secret\" FOR SELECT TO \"{repl}\" USING (true)"
    );
    wait::for_("the table that is hidden", Duration::from_secs(30), || {
        let retried = pair.flare(&["ddl", sub, "--retry"]);
        retried.stderr().contains("row security hides") && retried.stderr().contains(&policy)
    });
    runs(&mut client, &policy);
    pair.flare(&["ddl", sub, "--retry"]).ok();
    settle(&pair, Side::Publisher);
    assert_same(&pair);
    assert_eq!(
        pair.subscriber().value(db, "SELECT count(*) FROM secret"),
        "1"
    );
    let mut closed = owner(&pair, Side::Subscriber);
    runs(&mut closed, "SET default_transaction_read_only = off");
    is_refused(
        &mut closed,
        "ALTER TABLE one ADD x int",
        "receives from the other server",
    );
}
