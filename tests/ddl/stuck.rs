//! A carried statement that fails on the other side: seen, and decided.

use std::time::Duration;

use crate::cutover::fixture::{switch_to, switched_to};
use crate::support::application::{Application, Side};
use crate::support::{Pair, wait};

use super::carry::{armed, is_refused, owner, runs, settle};
use super::same::assert_same;

#[test]
fn a_statement_that_fails_is_seen_and_retried_skipped_or_replaced() {
    let pair = armed(Pair::new(14, 18), "carry");
    let (db, sub) = (pair.db(), pair.subname());
    let mut client = owner(&pair, Side::Publisher);
    let application = Application::start(&pair);
    // An index is passed over, and apply goes on.
    pair.subscriber()
        .sql(db, "CREATE INDEX there ON app_orders (value)");
    runs(
        &mut client,
        "CREATE INDEX there ON app_orders (value) WHERE value::text <> 'concurrently'",
    );
    wait::for_("the failure", Duration::from_secs(10), || {
        pair.flare(&["status"])
            .stdout()
            .contains("was passed over: CREATE INDEX there")
    });
    pair.flare(&["cutover", sub, "--yes"])
        .code(1)
        .says("was passed over");
    let once = pair.flare(&["monitor", db, sub, "--once"]);
    once.ok()
        .prints("The application writes on the publisher.  Cut over now: no, because statement")
        .prints("was passed over: CREATE INDEX there");
    let lag = pair.flare(&["lag"]);
    lag.code(2).prints("already exists");
    // New tables do not wait for it.
    runs(
        &mut client,
        "CREATE TABLE beside (id int PRIMARY KEY); INSERT INTO beside VALUES (1)",
    );
    wait::for_("the new table", Duration::from_secs(20), || {
        pair.flare(&["status"]);
        let there = "SELECT to_regclass('beside')";
        pair.subscriber().value(db, there) == "beside"
            && pair.subscriber().value(db, "SELECT count(*) FROM beside") == "1"
    });
    // By hand there, as the refusal says.
    let mut by_hand = pair.subscriber().superuser_session(db);
    runs(&mut by_hand, "SET default_transaction_read_only = off");
    let mend = "ALTER TABLE beside ALTER id SET DEFAULT 5";
    is_refused(&mut by_hand, mend, "SET flare.carry = off");
    runs(&mut by_hand, "SET flare.carry = off");
    runs(&mut by_hand, mend);
    runs(&mut by_hand, "ALTER TABLE beside ALTER id DROP DEFAULT");
    pair.subscriber().sql(db, "DROP INDEX there");
    pair.flare(&["ddl", sub, "--retry"])
        .ok()
        .prints("is done now");
    // A column stops it.
    let stop = |client: &mut postgres::Client, column: &str| -> String {
        pair.subscriber().sql(
            db,
            &format!("SET flare.carry = off; ALTER TABLE app_orders ADD {column} text"),
        );
        // A column that comes with it, and rows that have it.
        runs(
            client,
            &format!(
                "BEGIN; ALTER TABLE app_orders ADD {column} int, ADD with_{column} int; UPDATE app_orders SET with_{column} = 1 WHERE counter = 1; COMMIT"
            ),
        );
        wait::for_("the failure", Duration::from_secs(60), || {
            let status = pair.flare(&["status"]);
            status
                .stdout()
                .contains("apply waits for it: ALTER TABLE app_orders ADD")
        });
        pair.publisher().value(db, "SELECT max(id) FROM flare.ddl")
    };
    let id = stop(&mut client, "one");
    pair.flare(&["ddl", sub, "--retry"])
        .code(1)
        .says("still fails")
        .says(&format!("--skip {id}"));
    let lag = pair.flare(&["lag"]);
    lag.code(2).prints("already exists");
    // A column that is on its way is not to be made by hand.
    assert!(!lag.stdout().contains("is sent and is not on"), "{lag}");
    pair.flare(&["cutover", sub, "--yes"])
        .code(1)
        .says("apply waits for it");
    pair.subscriber().sql(
        db,
        "SET flare.carry = off; ALTER TABLE app_orders DROP COLUMN one",
    );
    // Apply tries again every few seconds, and may have been first.
    let retried = pair.flare(&["ddl", sub, "--retry"]);
    let words = retried.ok().stdout();
    assert!(
        words.contains("is done now") || words.contains("no statement waits any more"),
        "{retried}"
    );
    let id = stop(&mut client, "two");
    pair.flare(&[
        "ddl",
        sub,
        "--replace",
        &id,
        "ALTER TABLE app_orders ALTER two TYPE int USING two::int, ADD with_two int",
    ])
    .ok();
    let id = stop(&mut client, "three");
    // The rows that come with what is skipped need its column.
    pair.subscriber().sql(
        db,
        "SET flare.carry = off; ALTER TABLE app_orders ADD with_three int",
    );
    // Whatever dies between decision and apply, the decision stands.
    let run = pair.spawn(&["ddl", sub, "--skip", &id]);
    std::thread::sleep(Duration::from_millis(250));
    run.kill_9();
    run.wait();
    pair.flare(&["ddl", sub, "--skip", &id]);
    wait::for_("the decision", Duration::from_secs(20), || {
        !pair.flare(&["status"]).stdout().contains("apply waits")
    });
    let outcomes = "SELECT string_agg(outcome, ' ' ORDER BY id) FROM flare.ddl WHERE id > 0";
    assert_eq!(
        pair.subscriber().value(db, outcomes),
        "done done done replaced skipped"
    );
    pair.subscriber().sql(
        db,
        "SET flare.carry = off; ALTER TABLE app_orders ALTER three TYPE int USING three::int",
    );
    runs(
        &mut client,
        "CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1); ALTER TABLE app_orders ADD late int DEFAULT 1;
         ALTER TABLE app_orders ADD FOREIGN KEY (late) REFERENCES late",
    );
    application.await_writes_on(Side::Publisher, 50);
    drop(client);
    // The cutover itself has the new table taken, and the foreign key to its rows validated.
    switched_to(&pair, Side::Subscriber);
    application.await_writes_on(Side::Subscriber, 50);
    let mut client = owner(&pair, Side::Subscriber);
    runs(
        &mut client,
        "ALTER TABLE late ADD b int DEFAULT 5; UPDATE late SET b = 6",
    );
    is_refused(
        &mut client,
        "ALTER TABLE late ADD c float DEFAULT random()",
        "three statements",
    );
    settle(&pair, Side::Subscriber);
    let written = application.stop();
    written
        .verify(pair.subscriber())
        .verify_arrives(pair.publisher());
    assert_same(&pair);
}

#[test]
#[ignore = "make soak"]
fn a_statement_that_fails_as_the_pause_begins_undoes_it() {
    let pair = armed(Pair::new(12, 17), "carry");
    let (db, sub) = (pair.db(), pair.subname());
    for (open, to, index) in [
        (Side::Publisher, Side::Subscriber, "there_i"),
        (Side::Subscriber, Side::Publisher, "back_i"),
    ] {
        let receiving = to.of(&pair);
        let create = format!("CREATE INDEX {index} ON app_orders (value)");
        receiving.sql(db, &format!("SET flare.carry = off; {create}"));
        // What was looked at before is settled; this comes when the application is about to be shut out.
        let args = switch_to(&pair, to, &["--max-pause", "60s", "--format", "json"]);
        let run = pair
            .invocation(&args)
            .env("FLARE_FAILPOINT", "revoke=stop")
            .spawn();
        run.until_stderr("failpoint reached: revoke");
        let mut client = owner(&pair, open);
        runs(&mut client, &create);
        drop(client);
        wait::for_("the failure", Duration::from_secs(10), || {
            receiving.value(
                db,
                "SELECT count(*) FROM flare.ddl WHERE outcome = 'failed'",
            ) == "1"
        });
        run.signal(libc::SIGCONT);
        let ended = run.wait();
        ended
            .code(1)
            .says("(CREATE INDEX) has failed here and was passed over");
        assert_eq!(ended.json()["outcome"], "undone", "{ended}");
        receiving.sql(db, &format!("SET flare.carry = off; DROP INDEX {index}"));
        pair.flare(&["ddl", sub, "--retry"]).ok();
        switched_to(&pair, to);
    }
    assert_same(&pair);
}
