//! `fallback --abandon-target`: the subscriber died after the switch, and the publisher goes on with what it has.

use std::slice;
use std::time::Duration;

use crate::support::application::{Application, Side, create_tables};
use crate::support::output::Output;
use crate::support::{Cluster, Pair, process, wait};

use super::fixture::{
    assert_fenced, assert_first_line, assert_settled, await_streaming_from, is_open, is_open_in,
    open_sides, ready, stopped_at, switch_to, switched_to,
};
use super::several::Second;
use super::state::{Everything, Objects, privileges};

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

fn abandon(pair: &Pair, more: &[&str]) -> Output {
    let args = [&["--abandon-target"], more].concat();
    pair.flare(&switch_to(pair, BACK, &args))
}

/// The publisher as after a migration that never was, with its publication.
#[track_caller]
fn assert_bare(pair: &Pair, publications: &[Vec<Option<String>>]) {
    let left = Objects::of(pair.publisher(), pair.db());
    assert_eq!(left.slot_names(), [] as [&str; 0], "{left:?}");
    assert_eq!(left.subscriptions_enabled(), [], "{left:?}");
    assert!(left.triggers.is_empty(), "{left:?}");
    assert_eq!(left.publications, publications);
}

#[test]
fn a_target_that_died_is_given_up_on_request_alone() {
    let pair = ready(Pair::alone(14, 17).with_accounts(10));
    let open = privileges(pair.publisher(), pair.db());
    let publications = Objects::of(pair.publisher(), pair.db()).publications;
    let refused = abandon(&pair, &[]);
    refused.code(2).says("it answers");
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    switched_to(&pair, THERE);
    application.await_writes_on(THERE, 30);

    let before = Everything::of(&pair, pair.db());
    abandon(&pair, &[]).code(2).says("it answers");
    assert_eq!(Everything::of(&pair, pair.db()), before);
    assert_settled(&pair, THERE);

    pair.subscriber().kill_9();
    let fallback = pair.flare(&switch_to(&pair, BACK, &[]));
    assert_ne!(fallback.status().code(), Some(0), "{fallback}");
    let dry = abandon(&pair, &["--dry-run"]);
    dry.ok().prints("lost:").prints("nothing was changed");
    assert!(!is_open(&pair, BACK), "{dry}");
    assert_fenced(&pair, BACK);

    let run = abandon(&pair, &[]);
    run.ok().prints("lost:");
    assert_first_line(&run, BACK);
    assert_eq!(privileges(pair.publisher(), pair.db()), open, "{run}");
    assert_bare(&pair, &publications);
    application.await_writes_on(BACK, 30);
    assert_first_line(pair.flare(&["status"]).ok(), BACK);
    // There is nothing left to give up, and nothing to cut over to.
    let again = abandon(&pair, &[]);
    assert_ne!(again.status().code(), Some(0), "{again}");
    let cutover = pair.flare(&switch_to(&pair, THERE, &[]));
    assert_ne!(cutover.status().code(), Some(0), "{cutover}");
    application.await_writes_on(BACK, 30);
    let written = application.stop();
    written.assert_sides(&[BACK, THERE, BACK]);

    // It comes back, with its door open: nothing moves there by itself.
    pair.subscriber().start();
    assert_first_line(pair.flare(&["status"]).ok(), BACK);
    let cutover = pair.flare(&switch_to(&pair, THERE, &[]));
    assert_ne!(cutover.status().code(), Some(0), "{cutover}");
    assert!(is_open(&pair, BACK), "{cutover}");
    assert_bare(&pair, &publications);
}

#[test]
fn databases_that_went_together_are_given_up_together() {
    let pair = ready(Pair::alone(13, 16).with_accounts(10));
    let second = Second::beside(&pair);
    let dbs = [pair.db(), &second.db];
    pair.flare(&["cutover", "--all", "--yes"]).ok();
    pair.subscriber().kill_9();
    abandon(&pair, &[]).code(2).says(&second.sub);
    for db in dbs {
        assert!(!is_open_in(&pair, BACK, db), "{db}");
    }
    let all = pair.flare(&["fallback", "--all", "--abandon-target", "--yes"]);
    all.ok();
    for db in dbs {
        assert!(is_open_in(&pair, BACK, db), "{db}");
        all.prints(&format!("{db:?}"));
        let left = Objects::of(pair.publisher(), db);
        assert_eq!(left.slot_names(), [] as [&str; 0], "{left:?}");
        assert_eq!(left.subscriptions_enabled(), [], "{left:?}");
        assert!(left.triggers.is_empty(), "{left:?}");
    }
    assert_first_line(pair.flare(&["status"]).ok(), BACK);
}

#[test]
fn after_a_target_was_given_up_another_migration_can_begin() {
    let pair = ready(Pair::alone(12, 15).with_accounts(10));
    switched_to(&pair, THERE);
    pair.subscriber().kill_9();
    abandon(&pair, &[]).ok();

    let (fresh, db) = (Cluster::private(18, &[]), pair.db());
    pair.create_tables_on(&fresh);
    create_tables(&pair, &fresh);
    pair.configure(|config| {
        let conn = &mut config["hosts"]["subscriber"]["conn"];
        conn["port"] = fresh.port().into();
        conn["system_identifier"] = fresh.system_identifier().into();
    });
    for server in [pair.publisher(), &*fresh] {
        server.sql(db, "ALTER TABLE pgbench_history REPLICA IDENTITY FULL");
    }
    pair.flare(&["create_subscription", pair.subname()]).ok();
    let unready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    wait::for_("every table", Duration::from_secs(60), || {
        fresh.value(db, unready) == "0"
    });
    fresh.sql(db, "ANALYZE");
    for (to, open, shut) in [
        (THERE, &*fresh, pair.publisher()),
        (BACK, pair.publisher(), &*fresh),
    ] {
        switched_to(&pair, to);
        let read_only = format!(
            "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
              WHERE d.datname = '{db}' AND s.setrole = 0 AND 'default_transaction_read_only=on' = ANY (s.setconfig)"
        );
        assert_eq!(open.value("postgres", &read_only), "0");
        assert_eq!(shut.value("postgres", &read_only), "1");
    }
}

#[test]
fn a_target_that_died_before_it_was_opened_takes_nothing_with_it() {
    let pair = ready(Pair::alone(16, 17).with_accounts(10));
    let open = privileges(pair.publisher(), pair.db());
    let publications = Objects::of(pair.publisher(), pair.db()).publications;
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    let run = stopped_at(&pair, THERE, "open", &["--max-pause", "2s"]);
    pair.subscriber().kill_9();
    for guard in process::children_of(run.pid()) {
        process::signal(guard, libc::SIGKILL);
    }
    run.kill_9();
    run.wait();
    let status = pair.flare(&["status"]);
    let first = status.stdout().lines().next().unwrap_or_default();
    assert!(first.contains("Nobody"), "{status}");
    assert!(!is_open(&pair, BACK), "{status}");
    // What the subscriber has of it is not known: the other way to open the publisher is no way.
    let resume = pair.flare(&["resume_write", pair.db()]);
    resume.code(1).says("passed the point of no return");
    assert!(!resume.to_string().contains("GRANT"), "{resume}");
    assert!(!is_open(&pair, BACK), "{resume}");

    let run = abandon(&pair, &[]);
    run.ok();
    assert_first_line(&run, BACK);
    assert_eq!(privileges(pair.publisher(), pair.db()), open, "{run}");
    assert_bare(&pair, &publications);
    application.await_writes_on(BACK, 30);
    let written = application.stop();
    written
        .verify(pair.publisher())
        .assert_sides(slice::from_ref(&BACK))
        .assert_never_refused();
    // Its door was never opened, and stays shut when it comes back.
    pair.subscriber().start();
    assert_first_line(pair.flare(&["status"]).ok(), BACK);
    assert_eq!(open_sides(&pair), [BACK]);
}

#[test]
fn a_publisher_that_died_before_a_fallback_opened_it_is_no_dead_end() {
    let pair = ready(Pair::alone(14, 18).with_accounts(10));
    let open = privileges(pair.subscriber(), pair.db());
    switched_to(&pair, THERE);
    let application = Application::start(&pair);
    application.await_writes_on(THERE, 30);
    pair.publisher().kill_9();
    let refused = abandon(&pair, &[]);
    refused
        .fails_with("abandon the publisher of")
        .says("the application writes on the subscriber already");
    pair.publisher().start();
    await_streaming_from(&pair, THERE);

    let run = stopped_at(&pair, BACK, "open", &["--max-pause", "2s"]);
    pair.publisher().kill_9();
    for guard in process::children_of(run.pid()) {
        process::signal(guard, libc::SIGKILL);
    }
    run.kill_9();
    run.wait();
    let status = pair.flare(&["status"]);
    status
        .ok()
        .prints("Nobody can write")
        .prints("--abandon-target");
    assert!(!is_open(&pair, THERE), "{status}");
    abandon(&pair, &["--dry-run"])
        .ok()
        .prints("nothing was changed");
    assert!(!is_open(&pair, THERE));

    let run = abandon(&pair, &[]);
    run.ok().prints("the publisher was abandoned");
    assert_first_line(&run, THERE);
    assert_eq!(privileges(pair.subscriber(), pair.db()), open, "{run}");
    let left = Objects::of(pair.subscriber(), pair.db());
    assert_eq!(left.slot_names(), [] as [&str; 0], "{left:?}");
    assert_eq!(left.subscriptions_enabled(), [], "{left:?}");
    assert!(left.triggers.is_empty(), "{left:?}");
    application.await_writes_on(THERE, 30);
    let written = application.stop();
    written
        .verify(pair.subscriber())
        .assert_sides(slice::from_ref(&THERE));
    // It was never opened, and stays shut when it comes back.
    pair.publisher().start();
    assert_first_line(pair.flare(&["status"]).ok(), THERE);
    assert_eq!(open_sides(&pair), [THERE]);
}
