//! While a run is under way: what a signal ends and what it does not, and what other commands do meanwhile.

use std::time::Duration;

use crate::support::application::{Application, Side};
use crate::support::{Pair, wait};

use super::fixture::{
    STEPS, assert_first_line, assert_moved, assert_settled, go_on, mandatory, open_sides, ready,
    stopped_at, switch_to,
};

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_signal_while_the_point_of_no_return_is_written_ends_nothing() {
    let pair = ready(Pair::alone(15, 18).with_accounts(10));
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 50);
    let run = stopped_at(&pair, THERE, "switching", &[]);
    // Its commit is done, and waits for a standby that does not exist before it is answered: a cancel does not undo it.
    let standby = |names: &str| {
        let publisher = pair.publisher();
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        publisher.sql("postgres", &set);
        publisher.sql("postgres", "SELECT pg_reload_conf()");
        let now = "SELECT current_setting('synchronous_standby_names')";
        wait::for_("the setting", SOON, || {
            publisher.value("postgres", now) == names
        });
    };
    standby("nobody");
    go_on(&run);
    let waits = "SELECT count(*) FROM pg_stat_activity
                  WHERE application_name = 'flare/cutover' AND wait_event = 'SyncRep'";
    wait::for_("the record to wait for its answer", SOON, || {
        pair.publisher().value("postgres", waits) == "1"
    });
    run.signal(libc::SIGINT);
    standby("");
    let ended = run.wait();
    assert_eq!(ended.ok().json()["outcome"], "switched", "{ended}");
    application.await_writes_on(THERE, 50);
    assert_settled(&pair, THERE);
    assert_moved(application, &pair, &[BACK, THERE]);
}

#[test]
#[ignore = "make soak"]
fn commands_for_other_databases_go_on_beside_a_run_and_status_tells_of_it() {
    let pair = ready(Pair::alone(14, 16).with_accounts(10));
    // Another migration between the same two servers.
    let other = Pair::between(pair.shared_publisher(), pair.shared_subscriber())
        .with_accounts(10)
        .published();
    let run = stopped_at(&pair, THERE, "drain", &["--max-pause", "60s"]);
    let beside = other.flare(&["create_publication", other.db()]);
    beside.ok();
    assert!(!beside.stderr().contains(pair.db()), "{beside}");
    // It keeps nothing of the other's.
    let status = pair.flare(&["status"]);
    let first = status.ok().stdout().lines().next().unwrap_or_default();
    assert!(first.contains("Nobody but superusers"), "{status}");
    assert!(!status.stderr().contains("undone"), "{status}");
    let again = pair.flare(&["cutover", pair.subname(), "--yes"]);
    again.code(1).says("another flare is at work");
    go_on(&run);
    assert_eq!(run.wait().ok().json()["outcome"], "switched");
    assert_first_line(pair.flare(&["status"]).ok(), THERE);
    assert_eq!(open_sides(&pair), [THERE]);
    behind_a_command_that_has_just_ended(&pair);
}

/// Its session may outlive it for a moment on a busy server.
fn behind_a_command_that_has_just_ended(pair: &Pair) {
    let mut ending = pair.subscriber().superuser_session("postgres");
    let lock = format!(
        "SELECT pg_advisory_lock(x'666c6172'::int, hashtext('{}'))",
        pair.db()
    );
    ending.batch_execute(&lock).expect("the lock of a run");
    let fallback = pair.spawn(&switch_to(pair, Side::Publisher, &[]));
    let begun =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'flare/fallback'";
    wait::for_("flare to begin", Duration::from_secs(10), || {
        pair.subscriber().value("postgres", begun) == "t"
    });
    ending.close().expect("end the session");
    fallback.wait().ok();
}

#[test]
fn status_calls_a_switch_that_is_being_completed_neither_broken_nor_done() {
    let pair = ready(Pair::new(15, 17).with_accounts(10));
    let run = stopped_at(&pair, THERE, "way_back", &["--max-pause", "60s"]);
    let status = pair.flare(&["status", "--format", "json"]);
    let report = status.ok().json();
    assert_eq!(report["writable"], "subscriber", "{status}");
    assert_eq!(report["subscriptions"][0]["stage"], "finishing", "{status}");
    // A table that is in use all the time keeps its fence, open.
    let mut reader = pair.subscriber().superuser_session(pair.db());
    reader
        .batch_execute("BEGIN; SELECT FROM app_orders LIMIT 1")
        .expect("read a table");
    go_on(&run);
    let ended = run.wait();
    let warnings = ended.ok().json()["warnings"].to_string();
    assert!(
        warnings.contains("keep an open fence, which stops nobody (public.app_orders)"),
        "{ended}"
    );
    reader.batch_execute("COMMIT").expect("end the reader");
    let status = pair.flare(&["status", "--format", "json"]);
    let report = status.ok().json();
    assert_eq!(report["subscriptions"][0]["stage"], "cut_over", "{status}");
}

#[test]
fn a_dry_run_estimates_the_pause() {
    let pair = ready(Pair::new(13, 17).with_accounts(10));
    let args = ["cutover", pair.subname(), "--dry-run"];
    let report = pair.flare(&[&args[..], &["--format", "json"]].concat());
    let report = report.ok().json();
    let estimate = report["estimated_pause_ms"].as_f64();
    assert!(estimate.is_some_and(|ms| ms > 0.0), "{report:#}");
    assert!(report["pause_ms"].is_null(), "{report:#}");
    // Those of the application's two tables.
    assert_eq!(report["databases"][0]["sequences"], 2, "{report:#}");
    let steps = report["steps"].as_array().expect("steps");
    let names: Vec<&str> = steps.iter().filter_map(|it| it["step"].as_str()).collect();
    let all = STEPS.map(str::to_owned);
    assert_eq!(names, mandatory(&all));
    pair.flare(&args)
        .ok()
        .prints("The pause would take about")
        .prints("lock the published tables");
}
