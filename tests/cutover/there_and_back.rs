//! The whole way, several times, with an application that never stops.

use crate::support::application::{Application, Side, create_tables};
use crate::support::pair::{Names, Passwords};
use crate::support::{Cluster, Pair, matrix};

use super::fixture::{
    assert_complete, assert_fenced, assert_first_line, assert_moved, assert_settled, at_failpoint,
    command_to, open_sides, ready, switch_to, switched_to,
};
use super::state::{Before, Everything};
use super::surroundings::finished_by_another_it_keeps_the_owner_out;

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

#[test]
fn there_and_back_on_every_version() {
    // And there again, where there is time for it.
    let turns: &[Side] = if matrix::is_all() {
        &[THERE, BACK, THERE, BACK]
    } else {
        &[THERE, BACK]
    };
    matrix::for_some_pairs(|old, new| {
        let pair = ready(Pair::new(old, new).with_accounts(10));
        let application = Application::start(&pair);
        application.await_writes_on(Side::Publisher, 100);
        for &to in turns {
            let report = switched_to(&pair, to);
            application.await_writes_on(to, 50);
            assert_complete(&report, &pair, to);
            assert_settled(&pair, to);
            assert_fenced(&pair, to.other());
            if to == THERE {
                let back = format!("{}_back", pair.subname());
                assert_eq!(report["reverse_subscription"], back, "{report:#}");
            }
        }
        let written = assert_moved(application, &pair, &[&[BACK], turns].concat());
        println!("{old} to {new}: {:?}", written.switches());
    });
}

#[test]
#[ignore = "make soak"]
fn an_administrator_without_superuser_leads_there_and_back() {
    let servers = [16, 18].map(|version| Cluster::private_rds(version, &[]));
    let [publisher, subscriber] = servers;
    let pair = Pair::between(publisher, subscriber).with_accounts(10);
    create_tables(&pair, pair.publisher());
    let Names { app, repl, .. } = pair.names();
    pair.configure(|config| {
        let subscriber = &mut config["hosts"]["subscriber"]["conn"];
        subscriber["repl_user"] = repl.as_str().into();
        subscriber["repl_user_password"] = Passwords::REPL.into();
    });
    for server in [pair.publisher(), pair.subscriber()] {
        let master = server.admin();
        let as_on_rds =
            format!("ALTER ROLE {master} REPLICATION; ALTER DATABASE postgres OWNER TO {master}");
        server.sql("postgres", &as_on_rds);
    }
    // Password hashes cannot be read there: the application gets its password by hand, flare's own roles have theirs.
    let prepare = ["prepare", pair.subname(), "--yes"];
    pair.flare(&prepare).ok();
    let password = Passwords::APP.replace('\'', "''");
    let alter = format!("ALTER ROLE {app} PASSWORD '{password}'");
    pair.subscriber().sql("postgres", &alter);
    // From 16 on who has REPLICATION gives it.
    let replicates = format!("SELECT rolreplication FROM pg_roles WHERE rolname = '{repl}'");
    assert_eq!(pair.subscriber().value("postgres", &replicates), "t");
    pair.flare(&prepare).ok();
    no_way_back_without_the_right(&pair);

    let application = Application::start(&pair);
    application.await_writes_on(BACK, 50);
    let turns = matrix::sample(&[THERE, BACK, THERE], &[THERE]);
    for &to in turns {
        // What has been undone is begun again through the same doors.
        at_failpoint(&pair, to, "mark=fail", &[]).run().code(1);
        application.await_writes_on(to.other(), 20);
        switched_to(&pair, to);
        application.await_writes_on(to, 50);
        assert_fenced(&pair, to.other());
        assert_eq!(open_sides(&pair), [to]);
    }
    finished_by_another_it_keeps_the_owner_out(&pair, BACK);
    application.await_writes_on(BACK, 50);
    assert_moved(application, &pair, &[&[BACK], turns, &[BACK]].concat());
    pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
}

/// Who would create the way back, and may not, is known to the dry run and to `status` alike.
fn no_way_back_without_the_right(pair: &Pair) {
    let by_super = |sql: &str| pair.publisher().sql("postgres", sql);
    by_super("REVOKE pg_create_subscription FROM rds_superuser");
    pair.flare(&["cutover", pair.subname(), "--dry-run"])
        .code(3)
        .says("on the publisher")
        .says("may not create subscriptions")
        .says("GRANT pg_create_subscription TO");
    pair.flare(&["status"])
        .ok()
        .prints("replicating, NOT ready to cut over")
        .prints("may not create subscriptions");
    by_super("GRANT pg_create_subscription TO rds_superuser");
    pair.flare(&["status"])
        .ok()
        .prints("replicating, ready to cut over");
}

#[test]
fn rows_flow_back_and_a_second_switch_changes_nothing() {
    let pair = ready(Pair::new(13, 16).with_accounts(10));
    let application = Application::start(&pair);
    application.await_writes_on(Side::Publisher, 50);
    for to in [THERE, BACK] {
        let run = pair.flare(&switch_to(&pair, to, &[]));
        run.ok();
        assert_first_line(&run, to);
        assert_first_line(pair.flare(&["status"]).ok(), to);
        application.await_writes_on(to, 50);

        let before = Everything::of(&pair, pair.db());
        let again = pair.flare(&switch_to(&pair, to, &["--format", "json"]));
        let report = again.ok().json();
        assert_eq!(
            (&report["outcome"], &report["changed"], &report["writable"]),
            (&"already".into(), &false.into(), &to.as_str().into()),
            "{again}"
        );
        let again = pair.flare(&switch_to(&pair, to, &[]));
        assert_first_line(again.ok(), to);
        assert_eq!(Everything::of(&pair, pair.db()), before);
        application.await_writes_on(to, 50);
    }
    assert_moved(application, &pair, &[BACK, THERE, BACK]);
}

#[test]
fn a_fallback_before_any_cutover_has_nothing_to_do() {
    let pair = ready(Pair::new(15, 18).with_accounts(10));
    // Other tests make and drop their journals on the same servers.
    let now = || [THERE, BACK].map(|side| Before::of(&pair, side));
    let before = now();
    let run = pair.flare(&switch_to(&pair, BACK, &["--format", "json"]));
    assert_eq!(run.json()["changed"], false, "{run}");
    assert_eq!(now(), before);
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_would_be_done() {
    let pair = ready(Pair::new(12, 15).with_accounts(10));
    let (db, sub) = (pair.db(), pair.subname());
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 20);
    for to in [THERE, BACK] {
        let before = Everything::of(&pair, db);
        let dry = [command_to(to), sub, "--dry-run"];
        pair.flare(&dry).ok();
        let run = pair.flare(&[&dry[..], &["--format", "json"]].concat());
        let report = run.ok().json();
        assert_eq!(
            (&report["outcome"], &report["changed"], &report["writable"]),
            (
                &"dry_run".into(),
                &false.into(),
                &to.other().as_str().into()
            ),
            "{run}"
        );
        // Without a terminal nobody can be asked.
        pair.flare(&[command_to(to), sub]).code(2).says("--yes");
        pair.flare(&[command_to(to)]).code(2);
        pair.flare(&[command_to(to), "no_such_sub", "--yes"])
            .code(2)
            .says("no_such_sub");
        assert_eq!(Everything::of(&pair, db), before, "{}", command_to(to));
        if to == THERE {
            switched_to(&pair, THERE);
            application.await_writes_on(THERE, 20);
        }
    }
    let written = application.stop();
    written
        .assert_sides(&[BACK, THERE])
        .verify(pair.subscriber());
}

#[test]
fn without_reverse_nothing_leads_back() {
    let pair = ready(Pair::new(14, 17).with_accounts(10));
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 50);
    let run = pair.flare(&switch_to(
        &pair,
        THERE,
        &["--no-reverse", "--format", "json"],
    ));
    let report = run.ok().json();
    assert_eq!(report["outcome"], "switched", "{run}");
    assert_eq!(report["reverse_subscription"], serde_json::Value::Null);
    application.await_writes_on(THERE, 50);
    assert_eq!(open_sides(&pair), [THERE]);
    for side in [THERE, BACK] {
        let objects = super::state::Objects::of(side.of(&pair), pair.db());
        assert_eq!(objects.slot_names(), [] as [&str; 0], "{objects:?}");
        assert_eq!(objects.subscriptions_enabled(), [], "{objects:?}");
    }
    assert_fenced(&pair, BACK);
    let written = application.stop();
    written
        .verify(pair.subscriber())
        .assert_sides(&[BACK, THERE])
        .assert_never_refused();
    pair.flare(&switch_to(&pair, BACK, &[])).code(1);
    assert_eq!(open_sides(&pair), [THERE]);
}

#[test]
fn cleanup_leaves_the_tables_and_their_rows_and_nothing_of_flare() {
    let pair = ready(Pair::alone(16, 18).with_accounts(10));
    let (db, sub) = (pair.db(), pair.subname());
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 50);
    switched_to(&pair, THERE);
    application.await_writes_on(THERE, 50);
    // Lists first, and asks.
    pair.flare(&["cleanup", sub]).code(2).says("--yes");
    pair.flare(&["cleanup", sub, "--yes"]).ok();
    application.await_writes_on(THERE, 50);
    for side in [THERE, BACK] {
        let objects = super::state::Objects::of(side.of(&pair), db);
        let nothing: super::state::Rows = Vec::new();
        assert_eq!(
            [
                &objects.slots,
                &objects.publications,
                &objects.subscriptions,
                &objects.triggers
            ],
            [&nothing; 4],
            "{}",
            side.as_str()
        );
        let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'flare'";
        for database in [db, "postgres"] {
            assert_eq!(
                side.of(&pair).value(database, left),
                "0",
                "{}",
                side.as_str()
            );
        }
        let status = "SELECT count(*) FROM pg_class WHERE relname = 'flare_replication_status'";
        assert_eq!(side.of(&pair).value(db, status), "0", "{}", side.as_str());
    }
    let written = application.stop();
    written
        .verify(pair.subscriber())
        .assert_sides(&[BACK, THERE])
        .assert_never_refused();
    let kept = "SELECT count(*) > 0 FROM app_orders";
    assert_eq!(pair.publisher().value(db, kept), "t");
    // Run again: already.
    let again = pair.flare(&["cleanup", sub, "--yes", "--format", "json"]);
    assert_eq!(again.ok().json()["changed"], false, "{again}");
}
