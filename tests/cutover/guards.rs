//! flare dies, or is cut off, in the middle of a pause: its guards open the door again, each alone.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::application::{Application, Side};
use crate::support::flare::Running;
use crate::support::proxy::Proxy;
use crate::support::{Pair, matrix, process, wait};

use super::fixture::{
    assert_fenced, assert_first_line, assert_moved, assert_settled, at_failpoint, await_finished,
    await_streaming_from, go_on, of_the_run_in, open_sides, ready, sessions_of_flare_in,
    stopped_at, switch_to, switched_to, ways,
};
use super::state::{Before, privileges};

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

/// On an idle machine some 300 ms; far less than `max_pause` on any.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Held at a step until it is killed.
#[track_caller]
fn held_at(pair: &Pair, to: Side, step: &str, max_pause: &str) -> Running {
    let hold = format!("{step}=hold");
    let run = at_failpoint(pair, to, &hold, &["--max-pause", max_pause]).spawn();
    run.until_stderr(&format!("failpoint reached: {step}"));
    run
}

#[test]
#[ignore = "make soak"]
fn the_guard_process_opens_the_door_long_before_the_deadline() {
    let pair = ready(Pair::new(13, 16).with_accounts(10));
    for &to in ways() {
        let from = to.other();
        let application = Application::start(&pair);
        application.await_writes_on(from, 30);
        let before = Before::of(&pair, from);
        for step in ["lock", "switching"] {
            let run = held_at(&pair, to, step, "60s");
            let since = Instant::now();
            run.kill_9();
            application.await_writes_on(from, 1);
            let took = since.elapsed();
            println!("killed at {step}, towards the {}: {took:?}", to.as_str());
            assert!(took < AT_ONCE, "killed at {step}: {took:?}");
            let status = pair.flare(&["status"]);
            assert_first_line(status.ok(), from);
            await_streaming_from(&pair, from);
            assert_eq!(Before::of(&pair, from), before, "killed at {step}");
        }
        // Past the point of no return it finishes.
        let run = held_at(&pair, to, "open", "60s");
        let since = Instant::now();
        run.kill_9();
        application.await_writes_on(to, 1);
        let took = since.elapsed();
        println!("killed at switched, towards the {}: {took:?}", to.as_str());
        assert!(took < AT_ONCE, "killed at switched: {took:?}");
        let status = pair.flare(&["status"]);
        assert_first_line(status.ok(), to);
        assert_settled(&pair, to);
        assert_moved(application, &pair, &[from, to]);
    }
}

#[test]
fn a_guard_whose_server_was_restarted_says_what_it_has_done_and_nothing_of_the_session_that_it_lost()
 {
    let pair = ready(Pair::alone(12, 16).with_accounts(10));
    let run = stopped_at(&pair, THERE, "lock", &["--max-pause", "60s"]);
    pair.publisher().kill_9();
    pair.publisher().start();
    run.kill_9();
    run.wait_for_end_of_all();
    let said = run.stderr_so_far();
    assert!(said.contains("the guard has undone the pause"), "{said}");
    assert!(!said.contains("trying again"), "{said}");
    assert_eq!(open_sides(&pair), [BACK], "{said}");
}

#[test]
#[ignore = "make soak"]
fn a_machine_that_is_cut_off_leaves_it_to_the_statement_on_the_server() {
    let pair = ready(Pair::new(16, 18).with_accounts(10));
    let proxies = [BACK, THERE].map(|side| Proxy::between(&pair, side));
    for &to in ways() {
        let from = to.other();
        let application = Application::start(&pair);
        application.await_writes_on(from, 30);
        let before = Before::of(&pair, from);
        for step in ["terminate", "mark"] {
            let run = stopped_at(&pair, to, step, &["--max-pause", "2s"]);
            proxies.iter().for_each(Proxy::freeze);
            go_on(&run);
            application.await_writes_on(from, 10);
            // Neither flare nor its guard process has a hand in it.
            for guard in process::children_of(run.pid()) {
                process::signal(guard, libc::SIGKILL);
            }
            run.kill_9();
            proxies.iter().for_each(Proxy::thaw);
            let status = pair.flare(&["status"]);
            assert_first_line(status.ok(), from);
            await_streaming_from(&pair, from);
            assert_eq!(Before::of(&pair, from), before, "cut off at {step}");
        }
        switched_to(&pair, to);
        application.await_writes_on(to, 10);
        assert_moved(application, &pair, &[from, to]);
    }
}

#[test]
#[ignore = "make soak"]
fn a_statement_that_arrives_after_the_end_of_its_run_does_nothing() {
    let pair = ready(Pair::new(14, 17).with_accounts(10));
    let way = Proxy::between(&pair, THERE);
    let before = Before::of(&pair, BACK);
    // DISABLE is on its way until everybody has forgotten it.
    let run = stopped_at(&pair, THERE, "disable", &["--max-pause", "1s"]);
    way.strand();
    go_on(&run);
    run.wait();
    let mut told = String::new();
    wait::until(Duration::from_secs(90), || {
        told = pair.flare(&["status"]).to_string();
        Before::of(&pair, BACK) == before
    });
    assert_eq!(Before::of(&pair, BACK), before, "{told}");
    way.thaw();
    wait::for_("flare's sessions to end", Duration::from_secs(20), || {
        sessions_of_flare_in(pair.subscriber(), pair.db()) == "0"
    });
    assert_eq!(Before::of(&pair, BACK), before);
    switched_to(&pair, THERE);
}

#[test]
fn past_the_point_of_no_return_nobody_writes_on_the_side_that_was_left() {
    let pair = ready(Pair::new(14, 18).with_accounts(10));
    // A superuser who says that he writes, whatever the default is.
    let write = "BEGIN READ WRITE; SET LOCAL lock_timeout = '50ms';
                 INSERT INTO app_orders (client) SELECT client FROM app_orders LIMIT 0; COMMIT";
    let fenced = "SELECT count(*) FROM pg_trigger WHERE tgname = 'flare_fence' AND tgrelid = 'app_orders'::regclass";
    for to in [THERE, BACK] {
        let from = to.other();
        let run = stopped_at(&pair, to, "open", &["--max-pause", "3s"]);
        for guard in process::children_of(run.pid()) {
            process::signal(guard, libc::SIGKILL);
        }
        run.kill_9();
        std::thread::scope(|scope| {
            // The locks of the dead flare become a fence by themselves, or sooner when another command finds its run.
            let finished = match to {
                Side::Subscriber => None,
                Side::Publisher => Some(scope.spawn(|| pair.flare(&["status"]))),
            };
            wait::for_("the fence", Duration::from_secs(30), || {
                let answer = from.of(&pair).try_rows(pair.db(), write);
                assert!(answer.is_err(), "towards the {}: {answer:?}", to.as_str());
                from.of(&pair).value(pair.db(), fenced) == "1"
            });
            if let Some(status) = finished {
                status.join().expect("status").ok();
            }
            await_finished(&pair, to);
        });
        assert_settled(&pair, to);
        assert_fenced(&pair, from);
    }
}

#[test]
#[ignore = "make soak"]
fn a_server_that_crashes_past_the_point_of_no_return_comes_back_fenced() {
    let pair = ready(Pair::alone(14, 18).with_accounts(10));
    // So many that the pause could not make a trigger for each.
    add_empty_tables(&pair, 110);
    let ways = [
        (THERE, "open"),
        (BACK, "open"),
        (THERE, "fence"),
        (BACK, "fence"),
    ];
    for &(to, step) in matrix::sample(&ways, &[ways[0], ways[3]]) {
        let from = to.other();
        // A table that is written all the time gets its trigger in the pause.
        let mut busy = from.of(&pair).superuser_session(pair.db());
        busy.batch_execute("BEGIN; LOCK TABLE pgbench_accounts IN ROW EXCLUSIVE MODE")
            .expect("write all the time");
        let run = stopped_at(&pair, to, step, &["--max-pause", "60s"]);
        // The locks go with it, while nobody of flare's can do anything.
        from.of(&pair).kill_9();
        from.of(&pair).start();
        println!("crashed before {step}, towards the {}", to.as_str());
        assert_fenced(&pair, from);
        go_on(&run);
        run.wait();
        await_finished(&pair, to);
        assert_settled(&pair, to);
        assert_fenced(&pair, from);
    }
}

/// Published, and without rows to be copied.
fn add_empty_tables(pair: &Pair, count: usize) {
    let owner = &pair.names().owner;
    let tables = (0..count).map(|at| format!("CREATE TABLE empty_{at} (id int PRIMARY KEY)"));
    let tables: Vec<String> = tables.collect();
    let tables = tables.join("; ");
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql(
            pair.db(),
            &format!("BEGIN READ WRITE; SET LOCAL ROLE {owner}; {tables}; COMMIT"),
        );
    }
    let mut subscriber = pair.subscriber().superuser_session(pair.db());
    for sql in [
        "SET default_transaction_read_only = off".to_owned(),
        format!(
            "ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = false)",
            pair.subname()
        ),
    ] {
        subscriber
            .batch_execute(&sql)
            .expect("publish the empty tables");
    }
}

#[test]
fn an_undo_takes_a_fence_away_that_was_committed_already() {
    let pair = ready(Pair::alone(13, 17).with_accounts(10));
    for &to in ways() {
        let from = to.other();
        let before = Before::of(&pair, from);
        let run = stopped_at(&pair, to, "switching", &["--max-pause", "60s"]);
        // The row is another's until the fences are committed.
        let mut other = from.of(&pair).superuser_session("postgres");
        other
            .batch_execute("BEGIN; SELECT 1 FROM flare.journal WHERE step = 'paused' FOR UPDATE")
            .expect("lock the row");
        go_on(&run);
        let fenced = "SELECT count(*) > 0 FROM pg_trigger WHERE tgname = 'flare_fence'";
        wait::for_("the fence", Duration::from_secs(20), || {
            from.of(&pair).value(pair.db(), fenced) == "t"
        });
        run.kill_9();
        let waits = "SELECT count(*) > 0 FROM pg_stat_activity
                      WHERE application_name = 'flare/guard' AND wait_event_type = 'Lock'";
        wait::for_(
            "the guard to ask for the row",
            Duration::from_secs(20),
            || from.of(&pair).value("postgres", waits) == "t",
        );
        other.batch_execute("ROLLBACK").expect("let the row go");
        let status = pair.flare(&["status"]);
        assert_first_line(status.ok(), from);
        await_streaming_from(&pair, from);
        assert_eq!(Before::of(&pair, from), before, "{status}");
        switched_to(&pair, to);
    }
}

#[test]
#[ignore = "make soak"]
fn a_frozen_guard_is_ended_by_the_next_command() {
    let pair = ready(Pair::alone(15, 17).with_accounts(10));
    let run = stopped_at(&pair, THERE, "open", &["--max-pause", "3s"]);
    // What it is about to do waits for this.
    let mut journal = pair.subscriber().superuser_session("postgres");
    journal
        .batch_execute("BEGIN; LOCK TABLE flare.journal")
        .expect("lock the journal");
    let guards = process::children_of(run.pid());
    run.kill_9();
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity
                  WHERE application_name = 'flare/guard' AND wait_event_type = 'Lock'";
    wait::for_("the guard to be at it", Duration::from_secs(20), || {
        pair.subscriber().value("postgres", waits) == "t"
    });
    for guard in &guards {
        process::signal(*guard, libc::SIGSTOP);
    }
    journal.batch_execute("ROLLBACK").expect("let go");
    let again = pair.flare(&switch_to(&pair, THERE, &[]));
    again.ok().says("its sessions are ended");
    assert_first_line(&again, THERE);
    assert_settled(&pair, THERE);
    // What it finds when it goes on is no business of its own any more.
    for guard in &guards {
        process::signal(*guard, libc::SIGCONT);
    }
    wait::for_("the guard to end", Duration::from_secs(20), || {
        guards.iter().all(|guard| !process::is_running(*guard))
    });
    assert_settled(&pair, THERE);
    assert_fenced(&pair, BACK);
}

#[test]
fn nobody_can_write_is_told_to_programs_too() {
    let pair = ready(Pair::new(14, 17).with_accounts(10));
    let run = at_failpoint(&pair, THERE, "open=fail", &[]).run();
    run.code(1).says("NOBODY CAN WRITE");
    let report = run.json();
    assert_eq!(
        [&report["outcome"], &report["changed"], &report["writable"]],
        [&"unfinished".into(), &true.into(), &Value::from("none")],
        "{run}"
    );
    // It is not over.
    assert!(report["pause_ms"].is_null(), "{run}");
    await_finished(&pair, THERE);
    assert_settled(&pair, THERE);
}

#[test]
fn the_side_that_was_left_answers_though_the_session_was_lost_that_would_have_said_so() {
    let pair = ready(Pair::new(16, 18).with_accounts(10));
    for &to in ways() {
        let from = to.other();
        let before = privileges(from.of(&pair), pair.db());
        let run = stopped_at(&pair, to, "open", &["--max-pause", "20s"]);
        // The one that has waited for the signal of the fence: "fls" in ASCII, and its number.
        let ended = from.of(&pair).value(
            "postgres",
            &format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity session
                  WHERE datname = 'postgres' AND query LIKE '%classid::bigint = {}%' AND state = 'idle'
                    AND application_name IN ('flare/cutover', 'flare/fallback') AND {}",
                0x66_6c_73_09,
                of_the_run_in(pair.db())
            ),
        );
        assert_eq!(ended, "1");
        go_on(&run);
        let run = run.wait();
        let report = run.ok().json();
        assert_eq!(report["writable"], to.as_str(), "{run}");
        assert!(!report["steps"].to_string().contains("answer"), "{run}");
        assert_eq!(privileges(from.of(&pair), pair.db()), before, "{run}");
        assert_settled(&pair, to);
        assert_fenced(&pair, from);
    }
}

#[test]
#[ignore = "make soak"]
fn nobody_is_said_to_be_shut_out_of_a_target_that_has_opened_unheard() {
    let pair = ready(Pair::new(16, 18).with_accounts(10));
    let proxies = ways().iter().map(|&to| (to, Proxy::between(&pair, to)));
    for (to, way) in proxies {
        let from = to.other();
        let application = Application::start(&pair);
        application.await_writes_on(from, 10);
        let run = stopped_at(&pair, to, "open", &["--max-pause", "20s"]);
        way.lose_answers();
        go_on(&run);
        application.await_writes_on(to, 10);
        let run = run.wait();
        run.code(1).says("WHO CAN WRITE IS NOT KNOWN");
        assert!(!run.stderr().contains("NOBODY CAN WRITE"), "{run}");
        let report = run.json();
        assert_eq!(report["outcome"], "unfinished", "{run}");
        assert_eq!(report["changed"], true, "{run}");
        assert!(report["writable"].is_null(), "{run}");
        way.thaw();
        await_finished(&pair, to);
        assert_settled(&pair, to);
        assert_moved(application, &pair, &[from, to]);
    }
}
