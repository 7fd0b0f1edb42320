//! After a cutover the newer server is the one that sends: what is found there is said of it by its name in the configuration.

use super::{assert_found, assert_healthy, look};
use crate::support::Pair;

#[test]
fn findings_on_the_way_back_name_the_server_that_they_are_about() {
    for (old, new) in [(10, 18), (17, 18)] {
        let pair = Pair::alone(old, new).with_accounts(10);
        let (db, sub) = (pair.db(), pair.subname());
        pair.flare(&["prepare", sub, "--yes"]).ok();
        pair.flare(&["cutover", sub, "--yes"]).ok();
        let healthy = ["preflight", db, "--deny-warnings", "--format", "json"];
        assert_healthy(&pair.flare(&healthy), &format!("{old}-{new}, cut over"));
        let from = pair.subscriber();
        let here = [
            "CREATE SEQUENCE lone",
            "CREATE UNLOGGED TABLE scratch_a (id int PRIMARY KEY); INSERT INTO scratch_a VALUES (1)",
            "CREATE UNLOGGED TABLE scratch_b (id int PRIMARY KEY); INSERT INTO scratch_b VALUES (1)",
            "CREATE TABLE later (id int PRIMARY KEY)",
            "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
             CREATE FOREIGN TABLE far (line text) SERVER files OPTIONS (filename '/dev/null')",
            "CREATE DOMAIN small AS int; ALTER DOMAIN small ADD CONSTRAINT tiny CHECK (VALUE < 10) NOT VALID",
            "SELECT pg_create_logical_replication_slot('feed', 'test_decoding')",
        ];
        for statement in here {
            from.sql(db, statement);
        }
        let json = look(&pair);
        let found = [
            (
                "sequence_shape",
                "blocker",
                "the publisher does not have sequences of the subscriber",
            ),
            ("sequence_shape", "blocker", "as it is on the subscriber"),
            (
                "unlogged_tables",
                "blocker",
                r#"ALTER TABLE \"public\".\"scratch_a\" SET LOGGED; ALTER TABLE \"public\".\"scratch_b\" SET LOGGED"#,
            ),
            (
                "subscription_tables",
                "blocker",
                "create them on the publisher where they are missing",
            ),
            (
                "foreign_tables",
                "warning",
                "the publisher needs the same ones at the same paths",
            ),
            (
                "not_valid",
                "warning",
                "on the subscriber, which names the first column",
            ),
            ("other_slots", "warning", "feed (test_decoding"),
        ];
        for (id, severity, words) in found {
            assert_found(&json, id, severity, words);
        }
    }
}
