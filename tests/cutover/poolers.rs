//! Real PgBouncers between the application and the servers.

use std::time::Duration;

use crate::support::application::{Application, Clients, Side};
use crate::support::output::Output;
use crate::support::pair::Passwords;
use crate::support::pooler::{Mode, Pooler};
use crate::support::{Pair, wait};

use super::fixture::{
    assert_complete, assert_settled, assert_undone, at_failpoint, await_streaming_from, go_on,
    open_sides, ready, sessions_of_flare, stopped_at, switch_to, switched_to,
};
use super::state::Before;

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

/// An application that knows nothing but this pooler.
fn behind(pooler: &Pooler, pair: &Pair) -> Application {
    let clients = Clients {
        through: Some(pooler),
        // Two such applications leave apply the time to keep up.
        count: 2,
        ..Clients::of(pair)
    };
    clients.start(pair)
}

#[test]
fn clients_of_two_poolers_follow_there_and_back() {
    let pair = ready(Pair::new(14, 18).with_accounts(10));
    let [transaction, session] =
        [Mode::Transaction, Mode::Session].map(|mode| Pooler::start(&pair, mode));
    Pooler::configure(&pair, &[&transaction, &session]);
    let applications = [&transaction, &session].map(|pooler| behind(pooler, &pair));
    let all_write_on = |side: Side| {
        for application in &applications {
            application.await_writes_on(side, 50);
        }
    };
    all_write_on(BACK);
    let turns = [THERE, BACK];
    for to in turns {
        let report = switched_to(&pair, to);
        all_write_on(to);
        assert_complete(&report, &pair, to);
        let steps = report["steps"].to_string();
        for step in ["poolers", "route", "resume"] {
            assert!(steps.contains(&format!("\"{step}\"")), "{step}: {steps}");
        }
        assert_eq!(report["warnings"].to_string(), "[]", "{report:#}");
        assert_settled(&pair, to);
    }
    let [by_transaction, by_session] = applications.map(Application::stop);
    for written in [&by_transaction, &by_session] {
        written
            .verify(pair.publisher())
            .verify_arrives(pair.subscriber())
            .assert_sides(&[BACK, THERE, BACK])
            .assert_never_refused();
    }
    by_transaction.assert_no_error();
    // One for a session that was ended, and none for the next, which waits.
    let errors = by_session.errors_of_each();
    assert!(
        errors.iter().all(|errors| *errors <= turns.len()),
        "{errors:?}"
    );
    println!(
        "session pooling: {errors:?} errors, {:?}",
        by_session.switches()
    );
    println!("transaction pooling: {:?}", by_transaction.switches());
}

#[test]
#[ignore = "make soak"]
fn a_pooler_that_cannot_be_used_is_found_before_anything_is_changed() {
    let pair = ready(Pair::new(13, 16).with_accounts(10));
    let pooler = Pooler::start(&pair, Mode::Transaction);
    let all = || [BACK, THERE].map(|side| Before::of(&pair, side));
    let before = all();
    let refused = |what: &str, hint: &str| {
        let run = pair.flare(&switch_to(&pair, THERE, &[]));
        run.fails_with(what).says(hint);
        assert_eq!(all(), before, "{run}");
        assert!(run.took() < wait::BUSY * Duration::from_secs(5), "{run}");
        run
    };
    let app = pair.names().app.clone();
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let misconfigured: [Case<'_>; 6] = [
        (
            &[("user", "watcher")],
            "admin access needed",
            "add \"watcher\" to admin_users",
        ),
        (
            &[("user", &app), ("password", Passwords::APP)],
            "enter the console",
            "admin_users",
        ),
        (
            &[("password", "wrong")],
            "enter the console",
            "cutover.poolers[0].admin in the configuration",
        ),
        (
            &[("user", "stranger")],
            "enter the console",
            "cutover.poolers[0].admin in the configuration",
        ),
        (&[("port", "1")], "127.0.0.1:1", "check that PgBouncer runs"),
        (
            &[("database", "nobody's")],
            "does not list this database",
            "correct cutover.poolers[0].database",
        ),
    ];
    for (changes, what, hint) in misconfigured {
        Pooler::configure(&pair, &[&pooler]);
        pair.configure(|config| {
            let entry = &mut config["cutover"]["poolers"][0];
            for (key, value) in changes {
                match *key {
                    "database" => entry["database"] = (*value).into(),
                    key => entry["admin"][key] = (*value).into(),
                }
            }
        });
        refused(what, hint).code(1);
    }
    Pooler::configure(&pair, &[&pooler]);
    pooler.ask("PAUSE bench");
    refused("is paused already", "RESUME \"bench\"").code(1);
    assert!(pooler.is_paused(), "somebody else's pause was ended");
    pooler.ask("RESUME bench");
    pooler.freeze();
    refused("enter the console", "check that PgBouncer runs").code(1);
    pooler.kill_9();
    refused("enter the console", "check that PgBouncer runs").code(1);
    pooler.start_again();
    switched_to(&pair, THERE);
}

#[test]
fn clients_notice_nothing_of_an_undone_pause() {
    let pair = ready(Pair::new(14, 17).with_accounts(10));
    let pooler = Pooler::start(&pair, Mode::Transaction);
    Pooler::configure(&pair, &[&pooler]);
    let application = behind(&pooler, &pair);
    application.await_writes_on(BACK, 50);
    let before = Before::of(&pair, BACK);
    let goes_on = |run: &Output, step: &str| {
        assert_undone(run, step, BACK);
        application.await_writes_on(BACK, 20);
        assert!(!pooler.is_paused(), "{run}");
        // Nor is it led elsewhere by whoever reloads it next.
        pooler.ask("RELOAD");
        assert_eq!(pooler.leads_to(), Some(pair.publisher().port()), "{run}");
        assert_eq!(run.json()["warnings"].to_string(), "[]", "{run}");
        await_streaming_from(&pair, BACK);
        assert_eq!(Before::of(&pair, BACK), before, "{run}");
    };
    for step in ["revoke", "switching"] {
        let run = at_failpoint(&pair, THERE, &format!("{step}=fail"), &[]).run();
        goes_on(&run, step);
    }
    // Led to the other server by a hook that fails afterwards, and the pooler has already read it.
    pair.configure(|config| {
        let script = &mut config["cutover"]["hooks"]["switch"][2];
        *script = format!("{}; exit 3", script.as_str().expect("a script")).into();
    });
    let run = at_failpoint(&pair, THERE, "", &[]).run();
    goes_on(&run, "switch");
    let written = application.stop();
    written
        .verify(pair.publisher())
        .assert_sides(&[BACK])
        .assert_never_refused();
    written.assert_no_error();
}

#[test]
#[ignore = "make soak"]
fn a_pooler_is_resumed_when_flare_is_killed() {
    let pair = ready(Pair::new(15, 18).with_accounts(10));
    let pooler = Pooler::start(&pair, Mode::Transaction);
    Pooler::configure(&pair, &[&pooler]);
    let application = behind(&pooler, &pair);
    application.await_writes_on(BACK, 50);
    // Before the point of no return, and after it.
    for (step, side) in [("drain", BACK), ("open", THERE)] {
        let run = stopped_at(&pair, THERE, step, &[]);
        assert!(pooler.is_paused(), "at {step}");
        run.kill_9();
        application.await_writes_on(side, 50);
        assert!(!pooler.is_paused(), "after {step}");
        assert_eq!(pooler.leads_to(), Some(side.of(&pair).port()));
        drop(run);
    }
    wait::for_("the guard to finish", Duration::from_secs(30), || {
        open_sides(&pair) == [THERE] && sessions_of_flare(pair.publisher()) == "0"
    });
    pair.flare(&["status"]).ok();
    let written = application.stop();
    written
        .verify(pair.subscriber())
        .assert_sides(&[BACK, THERE])
        .assert_never_refused();
    written.assert_no_error();
}

#[test]
fn a_pooler_is_resumed_when_the_server_it_leads_to_comes_back() {
    let pair = ready(Pair::alone(14, 18).with_accounts(10));
    let pooler = Pooler::start(&pair, Mode::Transaction);
    Pooler::configure(&pair, &[&pooler]);
    let application = behind(&pooler, &pair);
    application.await_writes_on(BACK, 50);
    let run = stopped_at(&pair, THERE, "drain", &[]);
    pair.publisher().kill_9();
    go_on(&run);
    run.wait().code(1).says("STILL SHUT OUT");
    pair.publisher().start();
    application.await_writes_on(BACK, 50);
    assert!(!pooler.is_paused());
    let written = application.stop();
    written
        .verify(pair.publisher())
        .assert_sides(&[BACK])
        .assert_never_refused();
}

#[test]
fn a_pooler_that_was_started_anew_in_an_undone_pause_is_led_back() {
    let pair = ready(Pair::new(16, 17).with_accounts(10));
    let pooler = Pooler::start(&pair, Mode::Transaction);
    Pooler::configure(&pair, &[&pooler]);
    let run = at_failpoint(&pair, THERE, "switching=hold", &["--max-pause", "60s"]).spawn();
    run.until_stderr("failpoint reached: switching");
    pooler.kill_9();
    pooler.start_again();
    assert_eq!(pooler.leads_to(), Some(pair.subscriber().port()));
    run.signal(libc::SIGINT);
    let run = run.wait();
    assert_undone(&run, "switching", BACK);
    assert_eq!(pooler.leads_to(), Some(pair.publisher().port()), "{run}");
    assert_eq!(run.json()["warnings"].to_string(), "[]", "{run}");
}

/// Two poolers, of which one fails while flare stands at a step.
struct Two {
    pair: Pair,
    sound: Pooler,
    failing: Pooler,
}

impl Two {
    fn between(old: u32, new: u32) -> Self {
        let pair = ready(Pair::new(old, new).with_accounts(10));
        let [sound, failing] = [(); 2].map(|()| Pooler::start(&pair, Mode::Transaction));
        Pooler::configure(&pair, &[&sound, &failing]);
        Self {
            pair,
            sound,
            failing,
        }
    }

    /// The run's end, within limits, and no error for the clients of the other pooler.
    fn fails_at(&self, step: &str, fail: fn(&Pooler), ends_on: Side) -> Output {
        let application = behind(&self.sound, &self.pair);
        application.await_writes_on(BACK, 30);
        let run = stopped_at(&self.pair, THERE, step, &[]);
        fail(&self.failing);
        go_on(&run);
        // The other one does not wait for it.
        application.await_writes_on(ends_on, 30);
        let run = run.wait();
        assert!(run.took() < wait::BUSY * Duration::from_secs(6), "{run}");
        let report = run.json();
        assert_eq!(report["writable"], ends_on.as_str(), "{run}");
        let warnings = report["warnings"].to_string();
        assert!(
            warnings.contains(&format!(":{}", self.failing.port())) && warnings.contains("RESUME"),
            "{run}"
        );
        assert!(!self.sound.is_paused());
        let written = application.stop();
        written
            .verify(ends_on.of(&self.pair))
            .assert_never_refused();
        written.assert_no_error();
        run
    }
}

#[test]
#[ignore = "make soak"]
fn a_pooler_that_dies_in_the_pause_holds_nobody_up() {
    let two = Two::between(13, 17);
    let run = two.fails_at("poolers", Pooler::kill_9, BACK);
    assert_undone(&run, "poolers", BACK);
    two.failing.start_again();

    let run = two.fails_at("route", Pooler::kill_9, THERE);
    assert_eq!(run.json()["outcome"], "switched", "{run}");
    two.failing.start_again();
    assert_eq!(two.failing.leads_to(), Some(two.pair.subscriber().port()));
}

#[test]
#[ignore = "it waits until a frozen pooler is given up: make soak"]
fn a_pooler_that_freezes_in_the_pause_holds_nobody_up() {
    let two = Two::between(13, 17);
    // Its own clients wait until it thaws, and see no error.
    let waiting = behind(&two.failing, &two.pair);
    waiting.await_writes_on(BACK, 30);
    let run = two.fails_at("drain", Pooler::freeze, THERE);
    assert_eq!(run.json()["outcome"], "switched", "{run}");
    two.failing.thaw();
    waiting.await_writes_on(THERE, 30);
    let written = waiting.stop();
    written
        .verify(two.pair.subscriber())
        .assert_sides(&[BACK, THERE])
        .assert_never_refused();
    written.assert_no_error();
}

#[test]
#[ignore = "make soak"]
fn a_pooler_that_freezes_before_its_pause_is_not_left_paused() {
    let two = Two::between(16, 18);
    let waiting = behind(&two.failing, &two.pair);
    waiting.await_writes_on(BACK, 30);
    let run = two.fails_at("poolers", Pooler::freeze, BACK);
    assert_undone(&run, "poolers", BACK);
    // What it was told and has not read comes into effect now.
    two.failing.thaw();
    waiting.await_writes_on(BACK, 30);
    assert!(!two.failing.is_paused());
    let written = waiting.stop();
    written
        .verify(two.pair.publisher())
        .assert_sides(&[BACK])
        .assert_never_refused();
    written.assert_no_error();
}
