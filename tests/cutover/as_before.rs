//! A pause that cannot succeed is undone, to the letter, and the next one can.

use std::time::Duration;

use postgres::Client;

use crate::support::application::{Application, Side};
use crate::support::{Pair, matrix, process, wait};

use super::fixture::{
    assert_first_line, assert_moved, assert_settled, assert_undone, at_failpoint,
    await_streaming_from, go_on, open_sides, ready, stopped_at, switch_to, switched_to, ways,
};
use super::state::{Before, privileges};

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

/// What stands in the way of the last rows. Dropped, it is gone.
enum Obstacle {
    /// The status table is locked where the probe has to arrive.
    Lock(Box<Client>),
    /// A process of the server is stopped.
    Stopped(u32),
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        match self {
            Obstacle::Lock(session) => session.batch_execute("ROLLBACK").expect("unlock"),
            Obstacle::Stopped(pid) => process::signal(*pid, libc::SIGCONT),
        }
    }
}

fn lock(pair: &Pair, side: Side, table: &str) -> Obstacle {
    let mut session = side.of(pair).superuser_session(pair.db());
    let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    session.batch_execute(&lock).expect("lock a table");
    Obstacle::Lock(Box::new(session))
}

fn stop(pair: &Pair, side: Side, pid: &str) -> Obstacle {
    let pid = side.of(pair).value(pair.db(), pid);
    let pid = pid.parse().expect("a pid");
    process::signal(pid, libc::SIGSTOP);
    Obstacle::Stopped(pid)
}

const APPLY_WORKER: &str = "SELECT pid FROM pg_stat_subscription WHERE relid IS NULL AND pid IS NOT NULL
    AND subid IN (SELECT oid FROM pg_subscription
                   WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))";
const WALSENDER: &str =
    "SELECT active_pid FROM pg_replication_slots WHERE database = current_database()";

#[test]
#[ignore = "make soak"]
fn rows_that_do_not_arrive_in_time_undo_the_pause() {
    let pair = ready(Pair::alone(14, 17).with_accounts(10));
    let db = pair.db();
    let status = "flare_replication_status";
    for &to in ways() {
        let from = to.other();
        let application = Application::start(&pair);
        application.await_writes_on(from, 50);
        let before = Before::of(&pair, from);
        type Plant<'a> = (&'a str, &'a dyn Fn() -> Obstacle);
        let obstacles: [Plant; 3] = [
            ("a lock on the status table", &|| lock(&pair, to, status)),
            ("a stopped apply worker", &|| stop(&pair, to, APPLY_WORKER)),
            ("a stopped walsender", &|| stop(&pair, from, WALSENDER)),
        ];
        for (what, plant) in obstacles {
            println!("{what}, towards the {}", to.as_str());
            let run = stopped_at(&pair, to, "drain", &["--max-pause", "1500ms"]);
            let obstacle = plant();
            go_on(&run);
            let run = run.wait();
            run.code(1);
            assert!(run.took() < wait::BUSY * Duration::from_secs(5), "{run}");
            assert_undone(&run, "drain", from);
            assert_eq!(open_sides(&pair), [from], "{what}");
            application.await_writes_on(from, 20);
            drop(obstacle);
            await_streaming_from(&pair, from);
            assert_eq!(Before::of(&pair, from), before, "{what}");
        }
        let disable = format!("ALTER SUBSCRIPTION {} DISABLE", stream_to(&pair, to));
        let run = stopped_at(&pair, to, "drain", &["--max-pause", "1500ms"]);
        to.of(&pair).sql(db, &disable);
        go_on(&run);
        let run = run.wait();
        run.code(1);
        assert_undone(&run, "drain", from);
        to.of(&pair).sql(db, &disable.replace("DISABLE", "ENABLE"));
        await_streaming_from(&pair, from);

        switched_to(&pair, to);
        application.await_writes_on(to, 50);
        assert_settled(&pair, to);
        assert_moved(application, &pair, &[from, to]);
    }
}

/// The subscription that feeds this side.
fn stream_to(pair: &Pair, to: Side) -> String {
    match to {
        Side::Subscriber => pair.subname().to_owned(),
        Side::Publisher => format!("{}_back", pair.subname()),
    }
}

#[test]
#[ignore = "make soak"]
fn an_undo_gives_back_what_others_have_granted() {
    let pair = ready(Pair::new(11, 16).with_accounts(10));
    let (db, id) = (pair.db(), &pair.names().id);
    let app = &pair.names().app;
    for side in [BACK, THERE] {
        // Grants of several hands, with and without grant option.
        side.of(&pair).sql(
            "postgres",
            &format!(
                "CREATE ROLE {id}friend LOGIN; CREATE ROLE {id}guest LOGIN;
                 GRANT CONNECT ON DATABASE {db} TO {app} WITH GRANT OPTION;
                 SET ROLE {app}; GRANT CONNECT ON DATABASE {db} TO {id}friend WITH GRANT OPTION; RESET ROLE;
                 SET ROLE {id}friend; GRANT CONNECT ON DATABASE {db} TO {id}guest; RESET ROLE;
                 REVOKE TEMPORARY ON DATABASE {db} FROM PUBLIC"
            ),
        );
    }
    let granted = [BACK, THERE].map(|side| privileges(side.of(&pair), db));
    for &to in ways() {
        let from = to.other();
        let before = Before::of(&pair, from);
        for step in ["terminate", "drain", "mark", "switching"] {
            let run = at_failpoint(&pair, to, &format!("{step}=fail"), &[]).run();
            run.code(1);
            assert_undone(&run, step, from);
            await_streaming_from(&pair, from);
            assert_eq!(Before::of(&pair, from), before, "failed at {step}");
        }
        switched_to(&pair, to);
        let here = granted[to as usize].clone();
        assert_eq!(privileges(to.of(&pair), db), here, "{}", to.as_str());
    }
}

#[test]
fn privileges_that_were_never_written_mean_the_same_afterwards() {
    let pair = ready(Pair::new(10, 13).with_accounts(10));
    let of = |side: Side| privileges(side.of(&pair), pair.db());
    let before = [of(BACK), of(THERE)];
    at_failpoint(&pair, THERE, "mark=fail", &[]).run().code(1);
    assert_eq!([of(BACK), of(THERE)], before);
    switched_to(&pair, THERE);
    assert_eq!([of(BACK), of(THERE)], before);
}

#[test]
fn a_signal_undoes_the_pause_and_exits_as_a_signal_does() {
    let pair = ready(Pair::new(15, 17).with_accounts(10));
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 50);
    let before = Before::of(&pair, BACK);
    let steps = ["drain", "mark", "revoke"];
    for (signal, code, few) in [
        (libc::SIGINT, 130, &steps[..1]),
        (libc::SIGTERM, 143, &steps[1..2]),
    ] {
        for step in matrix::sample(&steps, few) {
            let run = at_failpoint(&pair, THERE, &format!("{step}=hold"), &[]).spawn();
            run.until_stderr(&format!("failpoint reached: {step}"));
            run.signal(signal);
            let run = run.wait();
            run.code(code);
            assert_undone(&run, "", BACK);
            application.await_writes_on(BACK, 20);
            await_streaming_from(&pair, BACK);
            assert_eq!(Before::of(&pair, BACK), before, "{code} at {step}");
        }
    }
    // While it waits for apply, before the pause.
    let stopped = stop(&pair, THERE, APPLY_WORKER);
    let run = pair.spawn(&switch_to(&pair, THERE, &[]));
    run.until_stderr("carrying the sequences");
    run.signal(libc::SIGINT);
    let run = run.wait();
    run.code(130).says("interrupted by SIGINT");
    drop(stopped);
    await_streaming_from(&pair, BACK);
    assert_eq!(Before::of(&pair, BACK), before);
    // For a person, in the first line.
    let hold = [("FLARE_FAILPOINT", "drain=hold")];
    let args = ["cutover", pair.subname(), "--yes", "--max-pause", "700ms"];
    let late = pair.flare_env(&hold, &args);
    late.code(1).says("max_pause");
    assert_first_line(&late, BACK);
    // After the point of no return a signal ends nothing.
    let run = at_failpoint(&pair, THERE, "open=stop", &[]).spawn();
    run.until_stderr("failpoint reached");
    wait::for_("flare to stop", Duration::from_secs(10), || {
        process::is_stopped(run.pid())
    });
    run.signal(libc::SIGINT);
    go_on(&run);
    run.wait();
    application.await_writes_on(THERE, 20);
    assert_eq!(open_sides(&pair), [THERE]);
    assert_moved(application, &pair, &[BACK, THERE]);
}
