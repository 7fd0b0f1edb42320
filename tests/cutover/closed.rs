//! The side that the application does not write on is closed: from the subscription to the cutover, and after it.

use std::time::Duration;

use super::fixture::{
    assert_fenced, assert_moved, go_on, open_sides, ready, stopped_at, switch_to, switched_to,
};
use super::state::Before;
use crate::support::application::{Application, Side};
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;
use crate::support::{Pair, wait};

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

#[track_caller]
fn sides(pair: &Pair) -> (String, String, Vec<String>) {
    let status = pair.flare(&["status", "--format", "json"]);
    let report = status.ok().json();
    let sides = &report["subscriptions"][0]["sides"];
    let word = |side: &str| sides[side].as_str().unwrap_or_default().to_owned();
    let warnings = sides["warnings"].as_array().expect("a list");
    let warnings = warnings.iter().filter_map(|it| it.as_str());
    (
        word("publisher"),
        word("subscriber"),
        warnings.map(str::to_owned).collect(),
    )
}

#[test]
fn clients_of_both_servers_stay_with_a_publisher_that_is_restarted() {
    let pair = ready(Pair::alone(12, 17).with_accounts(10));
    assert_eq!(sides(&pair).0, "open");
    assert_eq!(sides(&pair).1, "closed");
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 50);
    pair.publisher().stop();
    // For as long as it is away nobody gets in, not even those who ask for nothing.
    let (db, app) = (pair.db(), pair.names().app.clone());
    let mut anyone = pair
        .subscriber()
        .connect(db, &app, Passwords::APP)
        .expect("the subscriber answers");
    let refused = anyone
        .batch_execute("INSERT INTO app_orders VALUES (9, 9, 9)")
        .expect_err("a closed side");
    assert_eq!(refused.code().map(|it| it.code()), Some("25006"));
    let refused = anyone
        .batch_execute(
            "SET default_transaction_read_only = off; INSERT INTO app_orders VALUES (9, 9, 9)",
        )
        .expect_err("the fence");
    assert!(refused.to_string().contains("db error"), "{refused}");
    assert_fenced(&pair, THERE);
    pair.publisher().start();
    application.await_writes_on(BACK, 50);
    switched_to(&pair, THERE);
    application.await_writes_on(THERE, 50);
    let (publisher, subscriber, warnings) = sides(&pair);
    assert_eq!(
        (publisher.as_str(), subscriber.as_str(), warnings),
        ("closed", "open", vec![])
    );
    assert_moved(application, &pair, &[BACK, THERE]);
}

#[test]
fn what_is_missing_of_a_closed_side_is_said_and_mended() {
    let pair = ready(Pair::new(10, 18).with_accounts(10));
    let (db, app) = (pair.db(), &pair.names().app);
    let subscriber = pair.subscriber();
    let before = Before::of(&pair, BACK);
    for (harm, words) in [
        (
            "DROP TRIGGER flare_fence ON app_orders".to_owned(),
            "no fence stands on public.app_orders",
        ),
        (
            format!("ALTER DATABASE \"{db}\" RESET default_transaction_read_only"),
            "default_transaction_read_only of the database is not on",
        ),
    ] {
        subscriber.sql(
            db,
            &format!("SET default_transaction_read_only = off; {harm}"),
        );
        let (_, state, warnings) = sides(&pair);
        assert_eq!(state, "partly_closed", "{harm}");
        assert!(warnings.concat().contains(words), "{warnings:?}");
        assert!(
            warnings
                .concat()
                .contains("flare status --repair closes it")
        );
        pair.flare(&["status", "--repair"]).ok();
        assert_eq!(sides(&pair).1, "closed", "{harm}");
    }
    let role = format!("ALTER ROLE {app} SET default_transaction_read_only = f");
    subscriber.sql("postgres", &role);
    assert!(sides(&pair).2.concat().contains(app.as_str()));
    subscriber.sql(
        "postgres",
        &role.replace("SET default_transaction_read_only = f", "RESET ALL"),
    );
    assert!(sides(&pair).2.is_empty());
    let role =
        format!("ALTER ROLE {app} IN DATABASE \"{db}\" SET default_transaction_read_only = off");
    subscriber.sql("postgres", &role);
    assert!(sides(&pair).2.concat().contains(app.as_str()));
    subscriber.sql(
        "postgres",
        &role.replace("SET default_transaction_read_only = off", "RESET ALL"),
    );
    assert_eq!(Before::of(&pair, BACK), before);
    pair.flare(&["drop_subscription", pair.subname()]).ok();
    assert_eq!(sides(&pair).1, "open");
}

#[test]
fn a_side_that_is_left_shut_lets_nobody_in() {
    let pair = ready(Pair::new(13, 15).with_accounts(10));
    pair.configure(|config| config["cutover"]["left"] = "shut".into());
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    for to in [THERE, BACK] {
        switched_to(&pair, to);
        application.await_writes_on(to, 30);
        let left = to.other().of(&pair);
        let app = &pair.names().app;
        let refused = left
            .connect(pair.db(), app, Passwords::APP)
            .err()
            .expect("a shut side");
        assert_eq!(refused.code().map(|it| it.code()), Some("42501"));
    }
    assert_moved(application, &pair, &[BACK, THERE, BACK]);
}

#[test]
#[ignore = "make soak"]
fn a_way_back_that_cannot_start_is_no_dead_end() {
    let pair = ready(Pair::new(14, 16).with_accounts(10));
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 30);
    let run = stopped_at(&pair, THERE, "way_back", &[]);
    let repl = &pair.names().repl;
    pair.subscriber()
        .sql("postgres", &format!("ALTER ROLE {repl} PASSWORD 'another'"));
    go_on(&run);
    let run = run.wait();
    let report = run.ok().json();
    assert_eq!(report["outcome"], "switched", "{run}");
    assert_eq!(
        report["reverse_subscription"],
        serde_json::Value::Null,
        "{run}"
    );
    assert!(
        report["warnings"]
            .to_string()
            .contains("WAY BACK DOES NOT RUN"),
        "{run}"
    );
    application.await_writes_on(THERE, 30);
    assert_eq!(open_sides(&pair), [THERE]);
    pair.flare(&["status"]).ok();
    pair.flare(&switch_to(&pair, BACK, &[]))
        .code(1)
        .says("does not follow");
    assert_eq!(open_sides(&pair), [THERE]);
    drop(application);
    pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
    assert_eq!(open_sides(&pair), [THERE]);
}

#[test]
fn a_switch_of_ones_own_opens_the_subscriber_with_drop_subscription() {
    let pair = ready(Pair::new(11, 16).with_accounts(10));
    let (db, sub) = (pair.db(), pair.subname());
    pair.flare(&["pause_write", db, sub, "--allowed-rep-duration", "0s"])
        .ok();
    pair.flare(&["replicate_sequences", sub]).ok();
    pair.flare(&["drop_subscription", sub]).ok();
    assert_eq!(open_sides(&pair), [THERE]);
    let app = &pair.names().app;
    let mut session = pair
        .subscriber()
        .connect(db, app, Passwords::APP)
        .expect("an open side");
    session
        .batch_execute("INSERT INTO app_orders VALUES (9, 9, 9)")
        .expect("a write");
}

#[test]
fn left_open_nothing_is_closed() {
    let pair = Pair::new(12, 14).with_accounts(10).published();
    pair.flare(&["create_subscription", "--leave-open", pair.subname()])
        .ok()
        .prints("stays open");
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname = 'flare_fence'";
    assert_eq!(pair.subscriber().value(pair.db(), triggers), "0");
    wait::for_("the warning", Duration::from_secs(20), || {
        let run: Invocation = pair.invocation(&["status"]);
        run.run().to_string().contains("is NOT closed")
    });
}
