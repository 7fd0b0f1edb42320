//! Everybody else on the two servers, at the worst moment.

use std::thread::JoinHandle;
use std::time::Duration;

use postgres::{Client, NoTls};
use serde_json::Value;

use crate::support::application::{Application, Clients, Sessions, Side};
use crate::support::output::Output;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, wait};

use super::fixture::{
    assert_fenced, assert_moved, assert_settled, assert_undone, await_streaming_from, go_on,
    open_sides, ready, stopped_at, switched_to, ways,
};
use super::state::Before;

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

/// A run that meets something at this step.
#[track_caller]
fn met<T>(pair: &Pair, to: Side, step: &str, meet: impl FnOnce() -> T) -> (Output, Value, T) {
    let run = stopped_at(pair, to, step, &["--max-pause", "3s"]);
    let met = meet();
    go_on(&run);
    let run = run.wait();
    let report = run.json();
    (run, report, met)
}

/// A superuser's session in the middle of a transaction.
fn amid(server: &Cluster, db: &str, statement: &str) -> Client {
    let mut session = server.superuser_session(db);
    session
        .batch_execute(&format!("BEGIN READ WRITE; {statement}"))
        .expect(statement);
    session
}

const UNACKNOWLEDGED: &str = "INSERT INTO app_orders (client, counter, value) VALUES (-1, 1, 1)";

#[test]
fn a_superuser_who_writes_all_the_time_loses_nothing_and_is_stopped() {
    let pair = ready(Pair::new(14, 17).with_accounts(10));
    let application = Application::start(&pair);
    let superuser = Clients {
        user: "postgres",
        password: Passwords::ADMIN,
        sides: &[BACK],
        ..Clients::of(&pair)
    };
    let superuser = superuser.start(&pair);
    application.await_writes_on(BACK, 50);
    superuser.await_writes_on(BACK, 50);
    switched_to(&pair, THERE);
    application.await_writes_on(THERE, 50);
    assert_fenced(&pair, BACK);
    assert!(!superuser.writes_on_within(BACK, 1, Duration::from_millis(500)));
    let (written, by_superuser) = (application.stop(), superuser.stop());
    by_superuser
        .verify(pair.subscriber())
        .verify_arrives(pair.publisher())
        .assert_sides(&[BACK]);
    written
        .verify(pair.subscriber())
        .verify_arrives(pair.publisher())
        .assert_sides(&[BACK, THERE])
        .assert_never_refused();
}

#[test]
fn roles_that_nobody_named_and_clients_without_a_pool_are_shut_out_too() {
    let pair = ready(Pair::new(15, 16).with_accounts(10));
    let app = pair.names().app.clone();
    pair.configure(|config| config["cutover"]["app_users"] = vec![app].into());
    let owner = Clients {
        user: &pair.names().owner,
        password: Passwords::OWNER,
        ..Clients::of(&pair)
    };
    let short = Clients {
        sessions: Sessions::Short,
        ..Clients::of(&pair)
    };
    let applications = [owner.start(&pair), short.start(&pair)];
    for to in [THERE, BACK] {
        for application in &applications {
            application.await_writes_on(to.other(), 30);
        }
        switched_to(&pair, to);
    }
    for application in applications {
        application.await_writes_on(BACK, 30);
        assert_moved(application, &pair, &[BACK, THERE, BACK]);
    }
}

#[test]
#[ignore = "make soak"]
fn a_prepared_transaction_that_appears_undoes_the_pause() {
    let pair = ready(Pair::alone(13, 18).with_accounts(10));
    let db = pair.db();
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    let before = Before::of(&pair, BACK);
    for step in ["revoke", "lock"] {
        let (run, _, ()) = met(&pair, THERE, step, || {
            let prepare =
                format!("BEGIN READ WRITE; {UNACKNOWLEDGED}; PREPARE TRANSACTION 'surprise'");
            pair.publisher().sql(db, &prepare);
        });
        run.code(1).says("prepared");
        assert_undone(&run, "", BACK);
        // Its lock keeps the table's trigger there.
        run.says("keep an open fence, which stops nobody (public.app_orders)");
        assert_eq!(open_sides(&pair), [BACK]);
        pair.publisher().sql(db, "ROLLBACK PREPARED 'surprise'");
        application.await_writes_on(BACK, 20);
        await_streaming_from(&pair, BACK);
        assert_eq!(Before::of(&pair, BACK).without_triggers(), before);
    }
    switched_to(&pair, THERE);
    application.await_writes_on(THERE, 30);
    assert_moved(application, &pair, &[BACK, THERE]);
}

#[test]
#[ignore = "make soak"]
fn who_holds_a_lock_on_a_table_is_ended() {
    let pair = ready(Pair::alone(14, 16).with_accounts(10));
    let db = pair.db();
    let mut at = BACK;
    for (step, statement) in [
        ("revoke", "LOCK TABLE app_orders"),
        ("revoke", UNACKNOWLEDGED),
        ("lock", UNACKNOWLEDGED),
        ("lock", "LOCK TABLE app_serials"),
    ] {
        let (from, to) = (at, at.other());
        let application = Application::start(&pair);
        application.await_writes_on(from, 30);
        let (run, report, mut session) =
            met(&pair, to, step, || amid(from.of(&pair), db, statement));
        run.ok();
        assert_eq!(
            report["outcome"], "switched",
            "{statement} at {step}: {run}"
        );
        assert!(
            session.batch_execute("COMMIT").is_err(),
            "{statement} at {step}"
        );
        application.await_writes_on(to, 30);
        assert_settled(&pair, to);
        assert_moved(application, &pair, &[from, to]);
        let ghosts = "SELECT count(*) FROM app_orders WHERE client = -1";
        assert_eq!(to.of(&pair).value(db, ghosts), "0");
        at = to;
    }
}

#[test]
#[ignore = "make soak"]
fn a_lock_on_the_status_table_ends_well_or_is_undone() {
    let pair = ready(Pair::alone(12, 17).with_accounts(10));
    let db = pair.db();
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    let before = Before::of(&pair, BACK);
    let (run, report, session) = met(&pair, THERE, "drain", || {
        amid(pair.publisher(), db, "LOCK TABLE flare_replication_status")
    });
    drop(session);
    if report["outcome"] == "undone" {
        assert_undone(&run, "drain", BACK);
        application.await_writes_on(BACK, 20);
        await_streaming_from(&pair, BACK);
        assert_eq!(Before::of(&pair, BACK), before);
        switched_to(&pair, THERE);
    } else {
        assert_eq!(report["outcome"], "switched", "{run}");
    }
    application.await_writes_on(THERE, 30);
    assert_moved(application, &pair, &[BACK, THERE]);
}

#[test]
#[ignore = "make soak"]
fn a_table_that_is_created_meanwhile_undoes_the_pause() {
    let pair = ready(Pair::alone(15, 18).with_accounts(10));
    let db = pair.db();
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    let before = Before::of(&pair, BACK);
    for step in ["revoke", "terminate", "lock"] {
        let (run, _, ()) = met(&pair, THERE, step, || {
            let create =
                "BEGIN READ WRITE; CREATE TABLE app_latecomer (id int PRIMARY KEY); COMMIT";
            pair.publisher().sql(db, create);
        });
        run.code(1).says("app_latecomer");
        assert_undone(&run, "", BACK);
        pair.publisher().sql(db, "DROP TABLE app_latecomer");
        application.await_writes_on(BACK, 20);
        await_streaming_from(&pair, BACK);
        assert_eq!(Before::of(&pair, BACK), before);
    }
    switched_to(&pair, THERE);
    let written = application.stop();
    written.assert_never_refused();
}

#[test]
#[ignore = "make soak"]
fn what_was_truncated_or_written_in_bulk_just_before_has_arrived() {
    let pair = ready(Pair::new(12, 14).with_accounts(10));
    let db = pair.db();
    let bulk = "TRUNCATE pgbench_history;
        INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
        SELECT 1, 1, n, 1, now() FROM generate_series(1, 20000) n";
    let count = "SELECT count(*) || ' ' || coalesce(sum(aid), 0) FROM pgbench_history";
    for to in [THERE, BACK] {
        let from = to.other();
        from.of(&pair).sql(db, bulk);
        switched_to(&pair, to);
        assert_eq!(to.of(&pair).value(db, count), "20000 200010000");
        to.of(&pair).sql(db, "TRUNCATE pgbench_history");
        switched_to(&pair, from);
        assert_eq!(from.of(&pair).value(db, count), "0 0");
        switched_to(&pair, to);
    }
}

#[test]
#[ignore = "make soak"]
fn autovacuum_makes_way() {
    let settings = [
        ("autovacuum_naptime", "1s"),
        ("autovacuum_vacuum_cost_delay", "100ms"),
        ("autovacuum_vacuum_cost_limit", "1"),
        ("autovacuum_vacuum_threshold", "1"),
        ("autovacuum_vacuum_scale_factor", "0"),
    ];
    let pair = Pair::between(Cluster::private(13, &settings), Cluster::private(16, &[]));
    let pair = ready(pair.with_accounts(30_000));
    let db = pair.db();
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    pair.publisher()
        .sql(db, "UPDATE pgbench_accounts SET abalance = 1");
    let vacuums = "SELECT count(*) FROM pg_stat_activity
                    WHERE query LIKE 'autovacuum: VACUUM%pgbench_accounts%'";
    wait::for_("autovacuum", Duration::from_secs(60), || {
        pair.publisher().value(db, vacuums) != "0"
    });
    let report = switched_to(&pair, THERE);
    application.await_writes_on(THERE, 30);
    let pause = report["pause_ms"].as_f64().expect("pause_ms");
    assert!(pause < 3_000.0, "{report:#}");
    wait::for_("autovacuum once more", Duration::from_secs(60), || {
        pair.publisher().value(db, vacuums) != "0"
    });
    // The fence comes off the table that it works on, too.
    switched_to(&pair, BACK);
    assert_settled(&pair, BACK);
    assert_moved(application, &pair, &[BACK, THERE, BACK]);
}

#[test]
#[ignore = "make soak"]
fn a_lock_on_a_table_of_the_target_is_waited_for_or_does_not_matter() {
    let pair = ready(Pair::alone(13, 17).with_accounts(10));
    let db = pair.db();
    let lock = "LOCK TABLE app_orders IN ACCESS EXCLUSIVE MODE";
    for &to in ways() {
        let from = to.other();
        let application = Application::start(&pair);
        application.await_writes_on(from, 30);
        let before = Before::of(&pair, from);
        // What was written last does not arrive.
        let run = stopped_at(&pair, to, "terminate", &["--max-pause", "1500ms"]);
        let session = amid(to.of(&pair), db, lock);
        application.await_writes_on(from, 30);
        go_on(&run);
        let run = run.wait();
        run.code(1);
        assert_undone(&run, "drain", from);
        assert_eq!(open_sides(&pair), [from]);
        drop(session);
        application.await_writes_on(from, 20);
        await_streaming_from(&pair, from);
        assert_eq!(Before::of(&pair, from), before);

        let (run, report, session) = met(&pair, to, "switching", || amid(to.of(&pair), db, lock));
        run.ok();
        assert_eq!(report["outcome"], "switched", "{run}");
        assert_eq!(open_sides(&pair), [to]);
        drop(session);
        application.await_writes_on(to, 30);
        assert_fenced(&pair, from);
        assert_moved(application, &pair, &[from, to]);
        assert_settled(&pair, to);
    }
}

/// A session that was let in before the door was shut, and is not listed yet: the server waits at just that moment.
fn slowly_connecting(
    server: &Cluster,
    pair: &Pair,
    counter: u32,
) -> JoinHandle<Result<(), postgres::Error>> {
    let mut config = postgres::Config::new();
    config
        .host(server.host())
        .port(server.port())
        .dbname(pair.db())
        .user(&pair.names().app)
        .password(Passwords::APP)
        .options("-c post_auth_delay=10");
    std::thread::spawn(move || {
        let mut session = config.connect(NoTls)?;
        session.batch_execute(&format!(
            "INSERT INTO app_orders (client, counter, value) VALUES (-1, {counter}, 1)"
        ))
    })
}

#[test]
#[ignore = "make soak"]
fn who_is_just_connecting_writes_where_it_counts_or_not_at_all() {
    let pair = ready(Pair::new(11, 18).with_accounts(10));
    let db = pair.db();
    let admitted = format!(
        "SELECT count(*) FROM pg_locks
          WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND mode = 'RowExclusiveLock'
            AND objid = (SELECT oid FROM pg_database WHERE datname = '{db}')"
    );
    let mut acknowledged = Vec::new();
    for (round, to) in [THERE, BACK, THERE, BACK].into_iter().enumerate() {
        let from = to.other();
        let run = stopped_at(&pair, to, "revoke", &["--max-pause", "8s"]);
        let first = u32::try_from(10 * round).expect("a small number");
        let connecting = |counter| (counter, slowly_connecting(from.of(&pair), &pair, counter));
        let clients: Vec<_> = (first..first + 4).map(connecting).collect();
        wait::for_("clients to be let in", Duration::from_secs(5), || {
            from.of(&pair).value("postgres", &admitted) == "4"
        });
        go_on(&run);
        // They are not waited for.
        let run = run.wait();
        assert_eq!(run.ok().json()["outcome"], "switched", "{run}");
        for (counter, client) in clients {
            if client.join().expect("a client").is_ok() {
                acknowledged.push(counter);
            }
        }
        let found = to.of(&pair).rows(
            db,
            "SELECT counter FROM app_orders WHERE client = -1 ORDER BY 1",
        );
        let found: Vec<u32> = found
            .iter()
            .map(|row| {
                row[0]
                    .as_deref()
                    .unwrap_or_default()
                    .parse()
                    .expect("a number")
            })
            .collect();
        for counter in &acknowledged {
            assert!(
                found.contains(counter),
                "{counter} was acknowledged: {found:?}"
            );
        }
    }
}
