//! What stands around a migration: time zones, and an application that is the databases' owner.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres::Client;

use super::fixture::{
    assert_first_line, assert_moved, assert_settled, assert_undone, await_finished,
    await_streaming_from, go_on, is_open, open_sides, ready, stopped_at, switched_to,
};
use super::state::Before;
use crate::support::application::{Application, Side};
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, process, wait};

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

/// A session of a run is known by its pid and start; as text, the start depends on the zone of whoever asks.
#[test]
#[ignore = "make soak"]
fn time_zones_of_databases_do_not_hide_the_sessions_of_a_run() {
    let pair = ready(Pair::alone(13, 17).with_accounts(10));
    for (server, zone) in [
        (pair.publisher(), "Asia/Kolkata"),
        (pair.subscriber(), "America/St_Johns"),
    ] {
        for db in ["postgres", pair.db()] {
            server.sql(
                "postgres",
                &format!("ALTER DATABASE \"{db}\" SET timezone = '{zone}'"),
            );
        }
        server.sql(
            "postgres",
            "ALTER ROLE postgres SET timezone = 'Pacific/Apia'",
        );
    }
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    let before = Before::of(&pair, BACK);
    // The guard on the server ends the locks of a flare that stands still, long before anybody else looks.
    let run = stopped_at(&pair, THERE, "mark", &["--max-pause", "2s"]);
    for guard in process::children_of(run.pid()) {
        process::signal(guard, libc::SIGKILL);
    }
    application.await_writes_on(BACK, 10);
    assert_eq!(open_sides(&pair), [BACK]);
    run.kill_9();
    let status = pair.flare(&["status"]);
    assert_first_line(status.ok(), BACK);
    await_streaming_from(&pair, BACK);
    assert_eq!(Before::of(&pair, BACK), before);
    switched_to(&pair, THERE);
    assert_moved(application, &pair, &[BACK, THERE]);
}

/// Tries to write all the time; how many rows were acknowledged.
fn writes_as_owner(pair: &Pair, server: &Cluster, over: &AtomicBool) -> usize {
    let mut acknowledged = 0;
    while !over.load(Ordering::Relaxed) {
        let owner = server.connect(pair.db(), &pair.names().owner, Passwords::OWNER);
        let wrote = owner.and_then(|mut owner: Client| {
            owner.execute("INSERT INTO app_orders VALUES (-77, 77, 77)", &[])
        });
        acknowledged += usize::from(wrote.is_ok());
    }
    acknowledged
}

/// Killed past the point of no return, with its guard: the command that finishes it does not let the owner of the tables into
/// the side that was left, for all that it needs the owner's rights there.
#[track_caller]
pub fn finished_by_another_it_keeps_the_owner_out(pair: &Pair, to: Side) {
    let run = stopped_at(pair, to, "open", &["--max-pause", "5s"]);
    let over = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let writes = scope.spawn(|| writes_as_owner(pair, to.other().of(pair), &over));
        for guard in process::children_of(run.pid()) {
            process::signal(guard, libc::SIGKILL);
        }
        run.kill_9();
        let status = pair.flare(&["status"]);
        over.store(true, Ordering::Relaxed);
        assert_first_line(status.ok(), to);
        writes.join().expect("the owner's attempts")
    });
    assert_eq!(acknowledged, 0, "on the side that was left");
    assert_eq!(open_sides(pair), [to]);
    let owner = to
        .of(pair)
        .connect(pair.db(), &pair.names().owner, Passwords::OWNER);
    owner
        .and_then(|mut owner| owner.execute("DELETE FROM app_orders WHERE client = -77", &[]))
        .expect("the owner writes where it belongs");
}

/// Of a subscriber that answers nothing, the command says what is so when *from* is open again, and does not wait for it.
#[test]
#[ignore = "make soak"]
fn a_subscriber_that_freezes_in_the_pause_holds_nobody_up() {
    let pair = ready(Pair::alone(14, 16).with_accounts(10));
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    let run = stopped_at(&pair, THERE, "drain", &["--max-pause", "2s"]);
    pair.subscriber().freeze();
    let since = Instant::now();
    go_on(&run);
    run.until_stderr("the application can write to");
    let said = since.elapsed();
    let run = run.wait();
    let ended = since.elapsed();
    assert!(is_open(&pair, BACK), "{run}");
    pair.subscriber().thaw();
    application.await_writes_on(BACK, 10);
    assert_undone(&run, "drain", BACK);
    // max_pause and a second; five seconds more; the rest is a busy machine's. It was thirty.
    assert!(
        said < wait::BUSY * Duration::from_secs(2 + 1),
        "{said:?}\n{run}"
    );
    assert!(
        ended < wait::BUSY * Duration::from_secs(5),
        "{ended:?}\n{run}"
    );
    assert_first_line(pair.flare(&["status"]).ok(), BACK);
    await_streaming_from(&pair, BACK);
    // When it is open, what comes after is left to the guard as soon as either server falls silent.
    for (to, frozen, step) in [
        (THERE, THERE, "way_back"),
        (BACK, THERE, "close"),
        (THERE, BACK, "retire"),
    ] {
        let run = stopped_at(&pair, to, step, &[]);
        frozen.of(&pair).freeze();
        let since = Instant::now();
        run.until_stderr(&format!(
            "switched: the application can write to {} on the {}",
            pair.db(),
            to.as_str()
        ));
        go_on(&run);
        // Nor does the guard keep whoever reads a pipe to its end.
        run.wait_for_end_of_all();
        let ended = since.elapsed();
        frozen.of(&pair).thaw();
        let run = run.wait();
        run.code(1).says("what comes after is not complete");
        let report = run.json();
        assert_eq!(report["outcome"], "switched", "{run}");
        assert_eq!(report["writable"], to.as_str(), "{run}");
        // Three seconds of silence; one statement alone would have waited for thirty.
        assert!(
            ended < wait::BUSY * Duration::from_secs(5),
            "{ended:?}\n{run}"
        );
        await_finished(&pair, to);
        assert_settled(&pair, to);
        application.await_writes_on(to, 10);
    }
    assert_moved(application, &pair, &[BACK, THERE, BACK, THERE]);
}
