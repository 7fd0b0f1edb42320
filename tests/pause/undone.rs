//! A pause that does not end: late, interrupted, killed, taken over, or with a subscriber that stands still.

use std::time::Duration;

use super::{assert_as_before, is_shut, pause, privileges, ready};
use crate::support::flare::Running;
use crate::support::{Pair, process, wait};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

fn journal_step(pair: &Pair) -> String {
    let newest = "SELECT step FROM flare.journal ORDER BY started_at DESC LIMIT 1";
    pair.publisher().value("postgres", newest)
}

/// The guard of a flare that is held at a failpoint.
fn guard_of(flare: u32) -> u32 {
    *process::children_of(flare)
        .first()
        .expect("the guard process")
}

/// A pause that goes no further than this step.
fn held(pair: &Pair, step: &str, max_pause: &str) -> Running {
    let run = pair.invocation(&pause(
        pair,
        &["--max-pause", max_pause, "--format", "json"],
    ));
    let running = run.env("FLARE_FAILPOINT", format!("{step}=hold")).spawn();
    running.until_stderr("failpoint reached");
    running
}

#[test]
#[ignore = "make soak"]
fn a_pause_that_does_not_end_is_undone_at_every_step() {
    let pair = ready(Pair::alone(14, 18).with_accounts(10));
    let before = privileges(&pair);
    for step in ["guard", "revoke", "terminate", "lock", "drain", "hold"] {
        let held = |max_pause: &str| held(&pair, step, max_pause);

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
    let running = held(&pair, "drain", "20s");
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
    let running = held(&pair, "lock", "20s");
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
    let running = held(&pair, "lock", "1500ms");
    pair.subscriber().freeze();
    let late = running.wait();
    late.code(1);
    assert!(
        late.took() < wait::BUSY * Duration::from_secs(4),
        "{:?}",
        late.took()
    );
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
