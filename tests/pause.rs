//! pause_write and resume_write: nothing is lost, and everything is as before, whatever is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, matrix, process, wait};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Who may connect, as a set: what a pause has to give back to the letter.
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
    let pair = pair.replicating();
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

fn journal_step(pair: &Pair) -> String {
    let newest = "SELECT step FROM flare.journal ORDER BY started_at DESC LIMIT 1";
    pair.publisher().value("postgres", newest)
}

fn sessions_of_flare(server: &Cluster) -> String {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'flare/%'";
    server.value("postgres", count)
}

/// Four clients that update and insert until they are told to stop, reconnecting when they are thrown out.
struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Writers {
    fn start(pair: &Pair) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let (port, db, app) = (
            pair.publisher().port(),
            pair.db().to_owned(),
            pair.names().app.clone(),
        );
        let threads = (0..4)
            .map(|client| {
                let (stop, db, app) = (stop.clone(), db.clone(), app.clone());
                std::thread::spawn(move || write_until(&stop, port, &db, &app, client))
            })
            .collect();
        Writers { stop, threads }
    }

    /// How many transactions were acknowledged.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.threads
            .into_iter()
            .map(|thread| thread.join().expect("a writer"))
            .sum()
    }
}

fn write_until(stop: &AtomicBool, port: u16, db: &str, app: &str, client: i32) -> u64 {
    let mut config = postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .dbname(db)
        .user(app)
        .password(Passwords::APP);
    let mut acknowledged = 0;
    while !stop.load(Ordering::SeqCst) {
        let Ok(mut session) = config.connect(postgres::NoTls) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        while !stop.load(Ordering::SeqCst) {
            let insert = format!(
                "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, {client}, 1, now())"
            );
            match session.batch_execute(&insert) {
                Ok(()) => acknowledged += 1,
                Err(_) => break,
            }
        }
    }
    acknowledged
}

fn rows(server: &Cluster, db: &str) -> u64 {
    let count = server.value(db, "SELECT count(*) FROM pgbench_history");
    count.parse().expect("a number")
}

#[test]
fn nothing_is_lost_and_everything_comes_back_on_every_version() {
    matrix::for_each_pair(|old, new| {
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

        let writers = Writers::start(&pair);
        wait::for_("some writes", Duration::from_secs(20), || {
            rows(pair.publisher(), db) > 50
        });
        let paused = pair.flare(&pause(&pair, &["--format", "json"])).ok().json();
        assert_eq!(paused["outcome"], "paused", "{paused}");
        assert_eq!(paused["changed"], true);
        assert_eq!(paused["writable"], "none");
        assert!(is_shut(&pair));
        // Counted while the door is shut: what is there is all there is, and it is on both sides.
        let written = rows(pair.publisher(), db);
        assert_eq!(rows(pair.subscriber(), db), written, "{old} to {new}");
        assert_eq!(rows(pair.publisher(), db), written);
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
        wait::for_("writes after the pause", Duration::from_secs(20), || {
            rows(pair.publisher(), db) > written
        });
        let acknowledged = writers.stop();
        assert!(rows(pair.publisher(), db) >= acknowledged);
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

/// The guard of a flare that is held at a failpoint.
fn guard_of(flare: u32) -> u32 {
    *process::children_of(flare)
        .first()
        .expect("the guard process")
}

#[test]
fn a_pause_that_does_not_end_is_undone_at_every_step() {
    let pair = ready(Pair::alone(14, 18).with_accounts(10));
    let before = privileges(&pair);
    for step in ["guard", "door", "clear", "wall", "drain", "hold"] {
        let hold = [("FLARE_FAILPOINT", format!("{step}=hold"))];
        let held = |max_pause: &'static str| {
            let run = pair.invocation(&pause(
                &pair,
                &["--max-pause", max_pause, "--format", "json"],
            ));
            let running = run.env(hold[0].0, hold[0].1.as_str()).spawn();
            running.until_stderr("failpoint reached");
            running
        };

        let late = held("700ms").wait();
        late.code(1).says("longer than max_pause");
        assert_eq!(late.json()["outcome"], "undone", "{late}");
        assert_eq!(late.json()["ok"], false);
        assert_as_before(&pair, &before, &format!("{step} was late"));

        for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
            let running = held("20s");
            running.signal(signal);
            running.wait().code(code).says("interrupted");
            assert_as_before(&pair, &before, &format!("{step} was interrupted"));
        }

        let running = held("20s");
        let guard = guard_of(running.pid());
        running.kill_9();
        assert_as_before(&pair, &before, &format!("flare was killed at {step}"));
        wait::for_("the guard to end", Duration::from_secs(10), || {
            !process::is_running(guard)
        });

        let running = held("1s");
        process::signal(guard_of(running.pid()), 9);
        running.kill_9();
        assert_as_before(
            &pair,
            &before,
            &format!("flare and its guard were killed at {step}"),
        );
    }
    pair.flare(&pause(&pair, &[])).ok();
    pair.flare(&["resume_write", pair.db()]).ok();
    assert_as_before(&pair, &before, "after all");
}

#[test]
fn resume_write_ends_a_pause_that_is_under_way() {
    let pair = ready(Pair::alone(13, 16).with_accounts(10));
    let before = privileges(&pair);
    let run = pair.invocation(&pause(&pair, &["--max-pause", "20s"]));
    let running = run.env("FLARE_FAILPOINT", "drain=hold").spawn();
    running.until_stderr("failpoint reached");
    pair.flare(&pause(&pair, &[]))
        .code(1)
        .says("another flare is at work");
    pair.flare(&["resume_write", pair.db()])
        .ok()
        .prints("The application can write");
    assert_eq!(privileges(&pair), before);
    assert_eq!(journal_step(&pair), "resumed");
    running.kill_9();
    assert_as_before(&pair, &before, "resumed from another terminal");
}

#[test]
fn what_dead_guards_left_is_undone_by_the_next_pause() {
    let pair = ready(Pair::alone(15, 17).with_accounts(10));
    let before = privileges(&pair);
    let run = pair.invocation(&pause(&pair, &["--max-pause", "20s"]));
    let running = run.env("FLARE_FAILPOINT", "wall=hold").spawn();
    running.until_stderr("failpoint reached");
    process::signal(guard_of(running.pid()), 9);
    running.kill_9();
    // The guard on the server sleeps for another twenty seconds: it is taken over.
    wait::for_("the dead run's lock to go", Duration::from_secs(10), || {
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        pair.publisher().value("postgres", locks) == "0"
    });
    assert!(is_shut(&pair));
    pair.flare(&pause(&pair, &[]))
        .ok()
        .says("had stopped at \"paused\": it was undone");
    pair.flare(&["resume_write", pair.db()]).ok();
    assert_as_before(&pair, &before, "taken over");
}

#[test]
fn a_frozen_subscriber_delays_nothing_beyond_the_deadline() {
    let pair = ready(Pair::alone(12, 14).with_accounts(10));
    let before = privileges(&pair);
    let run = pair.invocation(&pause(&pair, &["--max-pause", "1500ms"]));
    let running = run.env("FLARE_FAILPOINT", "wall=hold").spawn();
    running.until_stderr("failpoint reached");
    pair.subscriber().freeze();
    let late = running.wait();
    late.code(1);
    assert!(late.took() < Duration::from_secs(8), "{:?}", late.took());
    assert_eq!(privileges(&pair), before);
    // At night this has to work with the subscriber frozen or dead.
    pair.flare(&["resume_write", pair.db()]).ok();
    pair.subscriber().thaw();
    assert_as_before(&pair, &before, "thawed");
    pair.flare(&pause(&pair, &[])).ok();
    pair.subscriber().kill_9();
    pair.flare(&["resume_write", pair.db()])
        .ok()
        .prints("The application can write");
    assert_eq!(privileges(&pair), before);
    pair.subscriber().start();
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
fn the_default_privileges_are_written_as_nothing_again() {
    let pair = ready(Pair::new(11, 15).with_accounts(10));
    let acl = format!(
        "SELECT coalesce(datacl::text, 'NULL') FROM pg_database WHERE datname = '{}'",
        pair.db()
    );
    assert_eq!(pair.publisher().value("postgres", &acl), "NULL");
    pair.flare(&pause(&pair, &[])).ok();
    assert_ne!(pair.publisher().value("postgres", &acl), "NULL");
    pair.flare(&["resume_write", pair.db()]).ok();
    assert_eq!(pair.publisher().value("postgres", &acl), "NULL");
}
