//! pause_write and resume_write: nothing is lost, and everything is as before, whatever is killed.

mod undone;

use std::time::Duration;

use crate::support::application::{self, Clients, Side};
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, matrix, wait};

/// Who may do what with the database, as a set: what a pause has to give back.
fn privileges(pair: &Pair) -> Vec<Vec<Option<String>>> {
    let of = format!(
        "SELECT a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
           FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
          WHERE d.datname = '{}' ORDER BY 1, 2, 3, 4",
        pair.db()
    );
    pair.publisher().rows("postgres", &of)
}

fn is_shut(pair: &Pair) -> bool {
    let connects = format!(
        "SELECT has_database_privilege('{}', '{}', 'CONNECT')",
        pair.names().app,
        pair.db()
    );
    pair.publisher().value("postgres", &connects) == "f"
}

/// Ready to be paused: replicating, with the status table in the stream.
fn ready(pair: Pair) -> Pair {
    let pair = pair.replicating_with(application::create_tables);
    let (db, app) = (pair.db(), &pair.names().app);
    pair.publisher().sql(
        db,
        &format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {app}"),
    );
    pair.flare(&["create_replication_status_table", db]).ok();
    pair.await_tables_ready();
    pair
}

fn pause<'a>(pair: &'a Pair, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["pause_write", pair.db(), "--allowed-rep-duration", "0s"];
    args.extend(more);
    args
}

fn sessions_of_flare(server: &Cluster) -> String {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'flare/%'";
    server.value("postgres", count)
}

/// Every row of the application's tables, in one short text.
fn content(server: &Cluster, db: &str) -> String {
    server.value(
        db,
        "SELECT md5(string_agg(line, E'\\n' ORDER BY line COLLATE \"C\"))
           FROM (SELECT 'o' || o::text AS line FROM app_orders o UNION ALL SELECT 's' || s::text FROM app_serials s
                 UNION ALL SELECT 'i' || i::text FROM app_identities i) written",
    )
}

/// What has to be true after every pause that was not held: as before, and nothing left over.
fn assert_as_before(pair: &Pair, before: &[Vec<Option<String>>], what: &str) {
    let limit = Duration::from_secs(10);
    let open = || privileges(pair) == before;
    assert!(
        wait::until(limit, open),
        "{what}: {:?} is not {before:?}",
        privileges(pair)
    );
    for server in [pair.publisher(), pair.subscriber()] {
        wait::for_(
            &format!("{what}: flare's sessions to be gone"),
            limit,
            || sessions_of_flare(server) == "0",
        );
    }
    let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock'";
    assert_eq!(pair.publisher().value(pair.db(), locks), "0", "{what}");
}

#[test]
fn nothing_is_lost_and_everything_comes_back() {
    matrix::for_some_pairs(|old, new| {
        let pair = ready(Pair::new(old, new).with_accounts(10));
        let (db, app) = (pair.db(), &pair.names().app);
        let id = &pair.names().id;
        // Grants of several hands, with and without grant option.
        pair.publisher().sql(
            "postgres",
            &format!(
                "CREATE ROLE {id}friend LOGIN; CREATE ROLE {id}guest LOGIN;
                 GRANT CONNECT ON DATABASE {db} TO {app} WITH GRANT OPTION;
                 SET ROLE {app}; GRANT CONNECT ON DATABASE {db} TO {id}friend WITH GRANT OPTION; RESET ROLE;
                 SET ROLE {id}friend; GRANT CONNECT ON DATABASE {db} TO {id}guest; RESET ROLE;
                 REVOKE TEMPORARY ON DATABASE {db} FROM PUBLIC"
            ),
        );
        let before = privileges(&pair);
        pair.flare(&pause(&pair, &["--dry-run"]))
            .ok()
            .prints("nothing was changed");
        assert_eq!(privileges(&pair), before);

        let clients = Clients {
            sides: &[Side::Publisher],
            ..Clients::of(&pair)
        };
        let application = clients.start(&pair);
        application.await_writes_on(Side::Publisher, 50);
        let paused = pair.flare(&pause(&pair, &["--format", "json"])).ok().json();
        assert_eq!(paused["outcome"], "paused", "{paused}");
        assert_eq!(paused["changed"], true);
        assert_eq!(paused["writable"], "none");
        assert!(is_shut(&pair));
        // Read while the door is shut: what is there is all there is, and it is on both sides.
        let written = content(pair.publisher(), db);
        assert_eq!(content(pair.subscriber(), db), written, "{old} to {new}");
        assert_eq!(content(pair.publisher(), db), written);
        let again = pair.flare(&pause(&pair, &["--format", "json"])).ok().json();
        assert_eq!(
            (&again["outcome"], &again["changed"]),
            (&"already".into(), &false.into())
        );

        let resumed = pair
            .flare(&["resume_write", db, "--format", "json"])
            .ok()
            .json();
        assert_eq!(
            (&resumed["changed"], &resumed["writable"]),
            (&true.into(), &"publisher".into())
        );
        assert_eq!(privileges(&pair), before, "{old} to {new}");
        application.await_writes_on(Side::Publisher, 50);
        let written = application.stop();
        written
            .verify(pair.publisher())
            .verify_arrives(pair.subscriber());
        let again = pair
            .flare(&["resume_write", db, "--format", "json"])
            .ok()
            .json();
        assert_eq!(again["changed"], false);
        assert!(
            again["warnings"]
                .to_string()
                .contains("GRANT CONNECT ON DATABASE")
        );
    });
}

#[test]
fn only_the_sessions_of_the_named_roles_are_ended() {
    let pair = ready(Pair::new(16, 17).with_accounts(10));
    let (db, names) = (pair.db(), pair.names());
    let connect = |user: &str, password: &str| {
        pair.publisher()
            .connect(db, user, password)
            .expect("a session")
    };
    let mut app = connect(&names.app, Passwords::APP);
    let mut owner = connect(&names.owner, Passwords::OWNER);
    let mut blocker = connect(&names.owner, Passwords::OWNER);
    blocker
        .batch_execute("BEGIN; UPDATE pgbench_accounts SET abalance = 7 WHERE aid = 1")
        .expect("a transaction that stands in the way");
    let paused = pair
        .flare(&pause(
            &pair,
            &["--app-user", &names.app, "--format", "json"],
        ))
        .ok()
        .json();
    assert_eq!(paused["terminated_backends"], 2, "{paused}");
    assert!(app.batch_execute("SELECT 1").is_err());
    assert!(blocker.batch_execute("COMMIT").is_err());
    owner
        .batch_execute("SELECT 1")
        .expect("a session that nobody named");
    pair.flare(&["resume_write", db]).ok();
    pair.flare(&pause(&pair, &["--app-user", "nobody_here"]))
        .code(2)
        .says("there is no role nobody_here");
}

#[test]
fn a_pause_that_cannot_succeed_does_not_begin() {
    let pair = ready(Pair::alone(17, 18).with_accounts(10));
    let (db, publisher) = (pair.db(), pair.publisher());
    let before = privileges(&pair);
    let refused = |args: &[&str], code: i32, why: &str| {
        pair.flare(args).code(code).says(why);
        assert_eq!(privileges(&pair), before, "{why}");
    };
    refused(
        &["pause_write", db, "--allowed-rep-duration", "1h"],
        1,
        "replication runs only since",
    );
    refused(&["pause_write", "no_such_db"], 2, "no_such_db");
    refused(&["pause_write", db, "no_such_sub"], 2, "no_such_sub");
    refused(&pause(&pair, &["--max-pause", "soon"]), 2, "--max-pause");

    publisher.sql(
        db,
        "SELECT pg_create_logical_replication_slot('another', 'pgoutput')",
    );
    refused(&pause(&pair, &[]), 1, "2 replication slots");
    publisher.sql(db, "SELECT pg_drop_replication_slot('another')");

    publisher.sql(
        db,
        "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'forgotten'",
    );
    refused(&pause(&pair, &[]), 1, "forgotten");
    publisher.sql(db, "ROLLBACK PREPARED 'forgotten'");

    pair.subscriber().sql(
        db,
        &format!("ALTER SUBSCRIPTION {} DISABLE", pair.subname()),
    );
    wait::for_("the walsender to end", Duration::from_secs(10), || {
        publisher.value(db, "SELECT count(*) FROM pg_stat_replication") == "0"
    });
    refused(&pause(&pair, &[]), 1, "is not active");
    pair.subscriber()
        .sql(db, &format!("ALTER SUBSCRIPTION {} ENABLE", pair.subname()));
    wait::for_(
        "the walsender to come back",
        Duration::from_secs(20),
        || publisher.value(db, "SELECT count(*) FROM pg_stat_replication") == "1",
    );
    pair.flare(&pause(&pair, &[])).ok();
    pair.flare(&["resume_write", db]).ok();
    assert_eq!(privileges(&pair), before);
}

#[test]
fn the_default_privileges_are_the_same_again() {
    let pair = ready(Pair::new(11, 15).with_accounts(10));
    let before = privileges(&pair);
    pair.flare(&pause(&pair, &[])).ok();
    assert_ne!(privileges(&pair), before);
    pair.flare(&["resume_write", pair.db()]).ok();
    assert_eq!(privileges(&pair), before);
}
