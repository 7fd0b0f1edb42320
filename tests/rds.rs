//! The README's scenario with Amazon RDS: an administrator on both sides that is no superuser.

use std::time::Duration;

use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, matrix, process, wait};

/// Every version that RDS is emulated on, on each side where it can be.
const PAIRS: [(u32, u32); 6] = [(10, 13), (10, 16), (13, 15), (15, 18), (16, 18), (10, 18)];

fn alone(old: u32, new: u32) -> Pair {
    Pair::between(
        Cluster::private_rds(old, &[]),
        Cluster::private_rds(new, &[]),
    )
}

/// A statement that the customer's administrator runs by hand.
fn by_master(server: &Cluster, db: &str, sql: &str) {
    server.sql(
        db,
        &format!("SET SESSION AUTHORIZATION {}; {sql}", server.admin()),
    );
}

/// Before 16 only a superuser creates subscriptions; Amazon lets rds_superuser, so its member is one for that moment.
fn as_amazon_lets<T>(server: &Cluster, work: impl FnOnce() -> T) -> T {
    let admin = server.admin();
    server.sql("postgres", &format!("ALTER ROLE {admin} SUPERUSER"));
    let done = work();
    server.sql("postgres", &format!("ALTER ROLE {admin} NOSUPERUSER"));
    done
}

fn rows(server: &Cluster, db: &str) -> String {
    server.value(db, "SELECT count(*) FROM pgbench_accounts")
}

fn acl(server: &Cluster, db: &str) -> String {
    server.value(
        "postgres",
        &format!(
            "SELECT string_agg(concat_ws('/', a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable), ' '
                               ORDER BY a.grantor, a.grantee, a.privilege_type)
               FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.datname = '{db}'"
        ),
    )
}

#[test]
fn the_readmes_scenario_passes() {
    let failed: Vec<String> = matrix::sample(&PAIRS, &PAIRS[3..])
        .iter()
        .filter(|(old, new)| std::panic::catch_unwind(|| scenario(*old, *new)).is_err())
        .map(|(old, new)| format!("{old}-{new}"))
        .collect();
    assert!(failed.is_empty(), "failed on {}", failed.join(" "));
}

fn scenario(old: u32, new: u32) {
    let pair = alone(old, new).with_accounts(50);
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    let (db, sub, names) = (pair.db(), pair.subname(), pair.names());
    publisher.sql(db, "CREATE EXTENSION pgcrypto");
    // The app user's sessions, as the pause will see them.
    pair.flare(&["verify_connectivity"]).ok();

    let roles = &[
        "replicate_roles",
        "--no-passwords",
        "--strip-options-for-rds",
    ];
    pair.flare(roles).ok().prints("need a new password");
    pair.flare(roles).ok().prints("nothing to change");
    by_master(
        subscriber,
        "postgres",
        &format!(
            "ALTER ROLE {} PASSWORD '{}'",
            names.owner,
            Passwords::OWNER.replace('\'', "''")
        ),
    );
    pair.flare(&["verify_connectivity"]).ok();

    for command in [
        &["grant_create", "--use-db-owner", db][..],
        &["grant_replication", "--use-db-owner", db],
        &["replicate_schema", "--use-db-owner", db],
        &["install_extensions", db],
        &["create_publication", db],
    ] {
        pair.flare(command).ok();
        let again = [command, &["--format", "json"]].concat();
        let again = pair.flare(&again).ok().json();
        assert_eq!(again["changed"], false, "{old}-{new} {command:?}: {again}");
    }
    pair.flare(&["replicate_schema", "--use-db-owner", db])
        .ok()
        .prints("already");
    assert_eq!(
        publisher.value(
            db,
            "SELECT pg_get_userbyid(pubowner) || puballtables FROM pg_publication"
        ),
        format!("{}false", names.owner)
    );

    let subscribe = &["create_subscription", "--use-repl-user", "--wait", sub];
    match new {
        16.. => {
            pair.flare(subscribe).ok();
        }
        _ => {
            pair.flare(subscribe)
                .code(1)
                .says("must be superuser to create subscriptions")
                .says("GRANT rds_superuser TO");
            let slots = "SELECT count(*) FROM pg_replication_slots";
            assert_eq!(publisher.value("postgres", slots), "0");
            as_amazon_lets(subscriber, || pair.flare(subscribe)).ok();
            if new == 15 {
                // 15 asks for the owner's rights on the tables.
                by_master(
                    subscriber,
                    "postgres",
                    &format!("GRANT {} TO {}", names.owner, subscriber.admin()),
                );
            }
        }
    }
    assert_eq!(rows(subscriber, db), "50");
    if new >= 14 {
        let again = pair
            .flare(&[
                "create_subscription",
                "--use-repl-user",
                sub,
                "--format",
                "json",
            ])
            .ok()
            .json();
        assert_eq!(again["changed"], false, "{again}");
    }
    pair.flare(&["monitor", db, sub, "--once"]).ok();
    pair.flare(&["count", db, "pgbench_accounts", "--both"])
        .ok()
        .prints("50");
    pair.flare(&["vacuum_analyze", db]).ok();

    let before = acl(publisher, db);
    let pause = &["pause_write", db, "--allowed-rep-duration", "0s"];
    let with_journal = match old % 2 {
        0 => publisher.admin(),
        _ => &names.owner,
    };
    pair.flare(pause)
        .code(1)
        .says("create the journal")
        .says("GRANT CREATE ON DATABASE postgres TO");
    assert_eq!(acl(publisher, db), before);
    publisher.sql(
        "postgres",
        &format!("GRANT CREATE ON DATABASE postgres TO {with_journal}"),
    );
    let mut app = publisher
        .connect(db, &names.app, Passwords::APP)
        .expect("the application's session");
    pair.flare(pause).ok().prints("nobody can connect");
    assert!(app.batch_execute("SELECT 1").is_err());
    assert!(publisher.connect(db, &names.app, Passwords::APP).is_err());
    pair.flare(&["resume_write", db])
        .ok()
        .prints("The application can write");
    assert_eq!(acl(publisher, db), before);

    let drop = &["drop_subscription", sub];
    match new {
        16.. => pair.flare(drop).ok(),
        // What the superuser that Amazon's master stands for here has made is that superuser's.
        _ => as_amazon_lets(subscriber, || pair.flare(drop)).ok(),
    };
    pair.flare(&["drop_publication", db]).ok();
    for (server, sql) in [
        (publisher, "SELECT count(*) FROM pg_replication_slots"),
        (publisher, "SELECT count(*) FROM pg_publication"),
        (subscriber, "SELECT count(*) FROM pg_subscription"),
    ] {
        assert_eq!(server.value(db, sql), "0", "{old}-{new}: {sql}");
    }
}

/// What is true of a pause that was not held.
fn assert_as_before(pair: &Pair, before: &str, what: &str) {
    let (publisher, db) = (pair.publisher(), pair.db());
    let open = || acl(publisher, db) == before;
    assert!(
        wait::until(Duration::from_secs(10), open),
        "{what}: {} is not {before}",
        acl(publisher, db)
    );
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'flare/%'";
    for server in [publisher, pair.subscriber()] {
        wait::for_(
            &format!("{what}: flare's sessions to be gone"),
            Duration::from_secs(10),
            || server.value("postgres", sessions) == "0",
        );
    }
}

#[test]
#[ignore = "make soak"]
fn a_pause_by_the_owner_ends_as_it_must() {
    let pairs = [(10, 14), (14, 16), (16, 18), (15, 17)];
    for &(old, new) in matrix::sample(&pairs, &[(10, 14), (16, 18)]) {
        let pair = alone(old, new).with_accounts(10).replicating();
        let (publisher, db, names) = (pair.publisher(), pair.db(), pair.names());
        publisher.sql(
            "postgres",
            &format!("GRANT CREATE ON DATABASE postgres TO {}", publisher.admin()),
        );
        // The subscription is a superuser's.
        pair.flare(&["create_replication_status_table", db])
            .code(1)
            .says("must be owner of subscription");
        publisher.sql(
            db,
            &format!("GRANT SELECT ON flare_replication_status TO {}", names.repl),
        );
        by_super(&pair, "ALTER SUBSCRIPTION {sub} REFRESH PUBLICATION");
        pair.await_tables_ready();
        // A grant of another's hand: by somebody who is neither the administrator nor the owner.
        publisher.sql(
            "postgres",
            &format!(
                "CREATE ROLE friend LOGIN; GRANT CONNECT ON DATABASE {db} TO {app} WITH GRANT OPTION;
                 SET ROLE {app}; GRANT CONNECT ON DATABASE {db} TO friend",
                app = names.app
            ),
        );
        let before = acl(publisher, db);
        let pause = |more: &[&'static str]| -> Vec<String> {
            let args = ["pause_write", db, "--allowed-rep-duration", "0s"];
            args.iter().chain(more).map(|a| (*a).to_owned()).collect()
        };
        let run = |args: &[String]| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            pair.invocation(&args)
        };
        run(&pause(&[]))
            .run()
            .code(1)
            .says(&format!("it was granted by {}", names.app))
            .says(&format!("GRANT {} TO", names.app));
        assert_eq!(acl(publisher, db), before);
        publisher.sql(
            "postgres",
            &format!("GRANT {} TO {}", names.app, names.owner),
        );

        let mut app = publisher
            .connect(db, &names.app, Passwords::APP)
            .expect("the application's session");
        app.batch_execute("BEGIN; UPDATE pgbench_accounts SET abalance = 1 WHERE aid = 1")
            .expect("a transaction in the way");
        let paused = run(&pause(&["--format", "json"])).run().ok().json();
        assert_eq!(paused["outcome"], "paused", "{paused}");
        assert!(app.batch_execute("COMMIT").is_err());
        assert!(publisher.connect(db, &names.app, Passwords::APP).is_err());
        assert!(
            publisher
                .connect(db, &names.owner, Passwords::OWNER)
                .is_err()
        );
        pair.flare(&["resume_write", db]).ok();
        assert_as_before(&pair, &before, "resumed");

        publisher.sql("postgres", "REVOKE pg_signal_backend FROM rds_superuser");
        run(&pause(&[]))
            .run()
            .code(1)
            .says("no member of pg_signal_backend")
            .says("GRANT pg_signal_backend TO");
        publisher.sql("postgres", "GRANT pg_signal_backend TO rds_superuser");

        // A superuser's session may not be ended: it is waited for.
        let mut blocker = publisher.superuser_session(db);
        blocker
            .batch_execute("BEGIN; LOCK TABLE pgbench_tellers IN ROW EXCLUSIVE MODE")
            .expect("a lock");
        let pid = publisher.value(
            "postgres",
            "SELECT pid FROM pg_locks WHERE mode = 'RowExclusiveLock' AND locktype = 'relation' AND granted AND pid <> pg_backend_pid() LIMIT 1",
        );
        let late = run(&pause(&["--max-pause", "1s"])).run();
        late.code(1)
            .says(&format!("sessions {pid} stood in the way"));
        assert_as_before(&pair, &before, "blocked");
        drop(blocker);

        let steps = ["guard", "revoke", "terminate", "lock", "drain", "hold"];
        for step in matrix::sample(&steps, &["guard", "terminate", "hold"]) {
            let held = |max_pause: &'static str| {
                let running = run(&pause(&["--max-pause", max_pause]))
                    .env("FLARE_FAILPOINT", format!("{step}=hold"))
                    .spawn();
                running.until_stderr("failpoint reached");
                running
            };
            held("700ms").wait().code(1).says("longer than max_pause");
            assert_as_before(&pair, &before, &format!("{old}-{new} {step} was late"));

            held("20s").kill_9();
            assert_as_before(&pair, &before, &format!("{old}-{new} killed at {step}"));

            let running = held("1s");
            let guard = process::children_of(running.pid())[0];
            process::signal(guard, 9);
            running.kill_9();
            assert_as_before(
                &pair,
                &before,
                &format!("{old}-{new} killed with its guard at {step}"),
            );
        }
    }
}

fn by_super(pair: &Pair, sql: &str) {
    let sql = sql.replace("{sub}", pair.subname());
    pair.subscriber().sql(pair.db(), &sql);
}
