//! Every changing command twice in a row: the second finds everything as wanted.

use crate::support::{Pair, matrix};

/// The commands of a migration in their order, with what follows them.
fn flow(pair: &Pair) -> Vec<Vec<&str>> {
    let (db, sub) = (pair.db(), pair.subname());
    vec![
        vec!["verify_connectivity"],
        vec!["replicate_roles"],
        vec!["replicate_schema", db],
        vec!["install_extensions", db],
        vec!["grant_create", "--use-db-owner", db],
        vec!["grant_replication", "--use-db-owner", db],
        vec!["create_publication", db],
        vec!["create_replication_status_table", db],
        vec!["create_subscription", "--use-repl-user", "--wait", sub],
        vec!["replicate_sequences", sub],
    ]
}

#[track_caller]
fn changed(pair: &Pair, command: &[&str]) -> bool {
    let run = pair.flare(&[command, &["--format", "json"]].concat());
    let answer = run.ok().json();
    assert_eq!(answer["ok"], true, "{run}");
    answer["changed"].as_bool().expect("whether it changed")
}

#[test]
fn every_command_finds_what_it_did() {
    for &(old, new) in matrix::sample(&[(10, 18), (13, 17), (16, 18)], &[(13, 17)]) {
        let pair = Pair::alone(old, new).with_accounts(100);
        let (db, sub) = (pair.db(), pair.subname());
        let owner = &pair.names().owner;
        pair.publisher().sql(
            db,
            &format!(
                "CREATE EXTENSION pg_trgm; SET ROLE {owner};
                 CREATE SEQUENCE numbers; SELECT nextval('numbers')"
            ),
        );
        for (round, first) in [("first", true), ("second", false)] {
            for command in flow(&pair) {
                if first {
                    changed(&pair, &command);
                }
                assert!(!changed(&pair, &command), "{round} round: {command:?}");
            }
        }
        assert_eq!(
            pair.subscriber()
                .value(db, "SELECT last_value FROM numbers"),
            "1"
        );
        let pause = ["pause_write", "--allowed-rep-duration", "0s", db, sub];
        for command in [
            &pause[..],
            &["resume_write", db],
            &["reset_replication_status", db],
            &["drop_subscription", sub],
            &["drop_publication", db],
        ] {
            let once = changed(&pair, command);
            assert!(
                once || command[0] == "reset_replication_status",
                "{command:?} changed nothing"
            );
            assert!(!changed(&pair, command), "{command:?} twice");
        }
        // And all of it once more, over what is left.
        for command in flow(&pair).into_iter().take(8) {
            changed(&pair, &command);
            assert!(!changed(&pair, &command), "after all: {command:?}");
        }
    }
}
