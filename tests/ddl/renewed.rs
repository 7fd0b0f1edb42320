//! What is installed and not as this program makes it, of an older flare for one, is replaced while deploys go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cutover::fixture::{switched_to, ways};
use crate::support::application::Side;
use crate::support::{Cluster, Pair, matrix};

use super::carry::{armed, is_refused, owner, runs, settle};
use super::same::assert_same;

/// What makes one side stale: a body, a setting, an argument's name, an event trigger, a trigger of the table.
const STALE: [&str; 5] = [
    "CREATE OR REPLACE FUNCTION flare.ddl_volatility(expression text, depth int) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$SELECT 'i'::text$$",
    "ALTER FUNCTION flare.ddl_apply() RESET search_path",
    "DROP FUNCTION flare.ddl_reads_time(text); CREATE FUNCTION flare.ddl_reads_time(words text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false'",
    "DROP EVENT TRIGGER flare_start_3",
    "DROP TRIGGER a_guard ON flare.ddl",
];

const INSTALLED: &str = "
    SELECT string_agg(it, E'\\n' ORDER BY it)
      FROM (SELECT pg_get_functiondef(p.oid) || coalesce(proacl::text, '') FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'flare' AND proname LIKE 'ddl\\_%'
            UNION ALL SELECT evtname || evtenabled::text || evtfoid::regproc FROM pg_event_trigger
            UNION ALL SELECT tgname || tgenabled::text || pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'flare.ddl'::regclass) s(it)";

/// Every object that they leave is compared again and again.
const BETWEEN_DEPLOYS: Duration = Duration::from_millis(200);

/// When each was made: what is as it should be stays.
const MADE: &str = "SELECT string_agg(oid::text, ' ' ORDER BY oid) FROM pg_event_trigger";

#[test]
#[ignore = "make soak"]
fn what_an_older_flare_has_installed_is_replaced_while_deploys_go_on() {
    let pair = armed(Pair::new(10, 17), "carry");
    let db = pair.db();
    let all = |what| [pair.publisher(), pair.subscriber()].map(|it| it.value(db, what));
    let (installed, made) = (all(INSTALLED), all(MADE));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut client = owner(&pair, Side::Publisher);
    runs(&mut client, "CREATE TABLE busy (id int PRIMARY KEY)");
    settle(&pair, Side::Publisher);
    let deploying = std::thread::spawn(move || {
        let mut deploys = 0;
        while !stopped.load(Ordering::SeqCst) {
            let sql = format!(
                "BEGIN; ALTER TABLE busy ADD c{deploys} int DEFAULT {deploys}; INSERT INTO busy VALUES ({deploys}); COMMIT;
                 ALTER TABLE busy DROP c{deploys}; CREATE VIEW busy_{deploys} AS SELECT id FROM busy"
            );
            runs(&mut client, &sql);
            deploys += 1;
            std::thread::sleep(BETWEEN_DEPLOYS);
        }
        deploys
    });
    let again = ["create_subscription", pair.subname()];
    pair.flare(&again).ok();
    assert_eq!(all(MADE), made);
    for stale in matrix::sample(&STALE, &STALE[2..]) {
        for server in [pair.publisher(), pair.subscriber()] {
            makes_stale(server, db, stale);
        }
        pair.flare(&again).ok();
        assert_eq!(all(INSTALLED), installed, "{stale}");
    }
    stop.store(true, Ordering::SeqCst);
    let deploys = deploying.join().expect("the deploys");
    println!("{deploys} deploys");
    settle(&pair, Side::Publisher);
    assert_same(&pair);
    let recorded = "SELECT count(*) FROM flare.ddl WHERE id > 0";
    let expected = (3 * deploys + 1).to_string();
    assert_eq!(all(recorded), [expected.clone(), expected]);
    is_named_and_put_back(&pair);
    assert_eq!(all(INSTALLED), installed);
    for &open in ways() {
        makes_stale(pair.publisher(), db, STALE[0]);
        makes_stale(pair.subscriber(), db, STALE[3]);
        switched_to(&pair, open);
        assert_eq!(all(INSTALLED), installed);
        is_named_and_put_back(&pair);
        assert_eq!(all(INSTALLED), installed);
        runs(
            &mut owner(&pair, open),
            "ALTER TABLE busy ADD x int DEFAULT 1; ALTER TABLE busy DROP x",
        );
        settle(&pair, open);
        assert_same(&pair);
    }
}

/// What is not at work, by the commands that are asked how things stand.
fn is_named_and_put_back(pair: &Pair) {
    let (db, sub) = (pair.db(), pair.subname());
    let named = |words: &str| {
        pair.flare(&["status"]).ok().prints(words);
        let lag = pair.flare(&["lag", sub, "--format", "json"]).json();
        let lag = &lag["subscriptions"][0];
        let gaps = lag["ddl_gaps"].to_string();
        assert!(gaps.contains(words) && lag["status"] == "critical", "{lag}");
    };
    let retry = ["ddl", db, "--retry"];
    makes_stale(
        pair.publisher(),
        db,
        "ALTER EVENT TRIGGER flare_ddl_2 DISABLE; DROP EVENT TRIGGER flare_drop_1",
    );
    named(
        "event trigger flare_ddl_2 of the publisher is disabled, statements are not carried: flare ddl",
    );
    named("event trigger flare_drop_1 of the publisher is gone, statements are not carried");
    pair.flare(&retry)
        .ok()
        .prints("flare's event triggers and their functions are as they were made again");
    makes_stale(pair.subscriber(), db, STALE[4]);
    named("schema flare of the subscriber is not as it was made");
    pair.flare(&retry).ok();
    let overridden = |what: &str| {
        let sql = format!("ALTER DATABASE {db} {what}");
        pair.publisher().sql("postgres", &sql);
    };
    overridden("SET session_replication_role = replica");
    named("no event trigger fires on the publisher, statements are not carried: ALTER DATABASE ");
    overridden("RESET session_replication_role");
    let lag = pair.flare(&["lag", sub, "--format", "json"]).json();
    assert_eq!(lag["subscriptions"][0]["ddl_gaps"], serde_json::json!([]));
}

fn makes_stale(server: &Cluster, db: &str, sql: &str) {
    let sql = format!("SET default_transaction_read_only = off; SET flare.carry = off; {sql}");
    runs(&mut server.superuser_session(db), &sql);
}

#[test]
#[ignore = "make soak"]
fn what_was_carried_arrives_before_the_mode_is_another() {
    let pair = armed(Pair::new(14, 16), "carry");
    let (db, sub) = (pair.db(), pair.subname());
    let mut client = owner(&pair, Side::Publisher);
    let declared = |mode: &str| pair.configure(|config| config["ddl"] = mode.into());
    let again = || pair.flare(&["create_subscription", sub]);
    runs(&mut client, "CREATE TABLE kept (id int PRIMARY KEY)");
    settle(&pair, Side::Publisher);
    let mut holding = pair.subscriber().superuser_session(db);
    runs(&mut holding, "BEGIN; LOCK TABLE kept");
    runs(&mut client, "ALTER TABLE kept ADD x int DEFAULT 1");
    for mode in ["refuse", "watch"] {
        declared(mode);
        again()
            .code(1)
            .says("has not come to the other side yet: ALTER TABLE kept ADD x");
    }
    // It goes on being carried.
    runs(&mut client, "ALTER TABLE kept ADD y int DEFAULT 2");
    runs(&mut holding, "COMMIT");
    settle(&pair, Side::Publisher);
    declared("refuse");
    again().ok();
    is_refused(
        &mut client,
        "ALTER TABLE kept ADD z int",
        "flare is moving this database",
    );
    runs(&mut client, "INSERT INTO kept VALUES (1)");
    declared("carry");
    again().ok();
    runs(
        &mut client,
        "ALTER TABLE kept ADD z int DEFAULT 3; INSERT INTO kept VALUES (2)",
    );
    declared("watch");
    again().ok();
    runs(&mut client, "INSERT INTO kept VALUES (3)");
    assert_same(&pair);
    for server in [pair.publisher(), pair.subscriber()] {
        let left = "SELECT (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text = 'flare' AND relname = 'ddl')";
        assert_eq!(server.value(db, left), "0");
    }
}
