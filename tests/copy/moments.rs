//! Faults at moments that nobody chose, under writers: the next command says where the migration stands, the one after it goes
//! on, and no row is lost or doubled.

use std::time::Duration;

use super::same;
use super::writers::{SMALL_TABLES, TABLES, Writers};
use crate::cutover::dice::Dice;
use crate::support::flare::Running;
use crate::support::{Pair, matrix, process, wait};

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Flare,
    /// Its holder, with it.
    Holder,
    Subscriber,
    Publisher,
}

impl Fault {
    pub const ALL: [Fault; 4] = [
        Fault::Flare,
        Fault::Holder,
        Fault::Subscriber,
        Fault::Publisher,
    ];

    /// Happens to a command that may have ended by then.
    pub fn strikes(self, pair: &Pair, command: Running) {
        match self {
            Fault::Flare => {
                command.kill_9();
                command.wait();
            }
            Fault::Holder => {
                command.kill_9();
                command.wait();
                pair.publisher().sql(
                    "postgres",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'flare/holder%'",
                );
            }
            Fault::Subscriber => {
                pair.subscriber().kill_9();
                command.wait();
                pair.subscriber().start();
            }
            Fault::Publisher => {
                pair.publisher().kill_9();
                command.wait();
                pair.publisher().start();
            }
        }
    }
}

/// Waits for a moment of the span, or the command's end.
pub fn some_moment(dice: &mut Dice, span: Duration, command: &Running) -> Duration {
    let span = u64::try_from(span.as_millis()).expect("a span");
    let moment = Duration::from_millis(dice.below(span.max(1)));
    let since = std::time::Instant::now();
    while since.elapsed() < moment && !command.has_ended() {
        std::thread::sleep(Duration::from_millis(2));
    }
    since.elapsed()
}

/// One copy after the other, until so many faults have struck.
fn survives(old: u32, new: u32, tables: &str, span: Duration, strikes: usize) {
    let mut dice = Dice::new();
    let pair = Pair::alone(old, new);
    let (db, sub) = (pair.db(), pair.subname());
    pair.create_roles_on(pair.subscriber());
    pair.publisher().sql(db, tables);
    let publication = format!(
        "CREATE PUBLICATION \"{}\" FOR ALL TABLES; ANALYZE",
        pair.names().pubname
    );
    pair.publisher().sql(db, &publication);
    let writers = Writers::start(&pair, 4);
    is_given_up(&pair);
    let mut left = strikes;
    loop {
        left = copies(&pair, &mut dice, span, left);
        pair.await_caught_up();
        pair.await_tables_ready();
        let log = pair.subscriber().log();
        assert!(!log.contains("duplicate key"), "{log}");
        if left == 0 {
            break;
        }
        pair.flare(&["drop_subscription", sub]).ok();
        drop_database(&pair);
    }
    let written = writers.stop();
    pair.await_caught_up();
    same::rows_are_equal(&pair);
    same::nothing_of_the_copy_is_left(&pair);
    println!("{old}-{new} {written} transactions");
}

fn await_session(pair: &Pair, which: &str) {
    let sql = format!(
        "SELECT FROM pg_stat_activity WHERE application_name = 'flare/initial_copy' AND {which}"
    );
    wait::for_(which, Duration::from_secs(30), || {
        let rows = pair.subscriber().try_rows("postgres", &sql);
        rows.is_ok_and(|rows| !rows.is_empty())
    });
}

/// The server goes on with CREATE DATABASE for as long as the session is kept that is returned here, and then ends it.
fn killed_while_it_creates_the_database(pair: &Pair) -> postgres::Client {
    let mut template = pair.subscriber().superuser_session("postgres");
    template
        .batch_execute("BEGIN; COMMENT ON DATABASE template0 IS 'held'")
        .expect("hold the template");
    let copying = pair.spawn(&["initial_copy", pair.subname()]);
    await_session(pair, "query LIKE 'CREATE DATABASE%'");
    Fault::Flare.strikes(pair, copying);
    template
}

fn drop_database(pair: &Pair) {
    let gone = format!("DROP DATABASE \"{}\"", pair.db());
    wait::for_("the database to go", Duration::from_secs(20), || {
        pair.subscriber().try_rows("postgres", &gone).is_ok()
    });
}

/// Until the copy has planned its rows.
fn await_jobs(pair: &Pair) {
    wait::for_("the rows", Duration::from_secs(60), || {
        let jobs = pair
            .subscriber()
            .try_rows(pair.db(), "SELECT FROM flare.copy LIMIT 1");
        jobs.is_ok_and(|rows| !rows.is_empty())
    });
}

/// What is left grows with no look while bytes of a part arrive; what keeps a snapshot ends with its connection, though flare was
/// killed.
#[test]
fn a_copy_is_seen_to_arrive_and_its_holder_ends_with_the_publisher() {
    let pair = Pair::alone(14, 16).with_accounts(50_000).published();
    let (db, sub) = (pair.db(), pair.subname());
    drop_database(&pair);
    let copying = pair.spawn(&["initial_copy", "--max-rate", "200kB", sub]);
    let named = format!(
        "SELECT application_name FROM pg_stat_activity WHERE datname = '{db}' AND application_name LIKE 'flare/holder%'"
    );
    await_jobs(&pair);
    let seconds_left = || {
        let stands = pair.flare(&["status", "--format", "json"]).ok().json();
        stands["subscriptions"][0]["copy"]["copy"]["seconds_left"].as_i64()
    };
    let arrived = |bytes: u32| {
        let sql = format!("SELECT pg_relation_size('pgbench_accounts') > {bytes}");
        wait::for_("bytes", Duration::from_secs(60), || {
            pair.subscriber().value(db, &sql) == "t"
        });
    };
    arrived(200_000);
    let at_first = seconds_left();
    arrived(1_200_000);
    assert!(
        at_first.is_some() && seconds_left() <= at_first,
        "{at_first:?}"
    );
    let holder = format!("PGAPPNAME={}", pair.publisher().value(db, &named));
    Fault::Flare.strikes(&pair, copying);
    assert!(process::with_setting(&holder) >= 2, "psql, and its parent");
    pair.publisher().kill_9();
    wait::for_("its processes to end", Duration::from_secs(20), || {
        process::with_setting(&holder) == 0
    });
    pair.publisher().start();
}

/// Nothing else may fill the tables of an interrupted copy, and `cleanup` takes all of it away but the tables.
fn is_given_up(pair: &Pair) {
    let (db, sub) = (pair.db(), pair.subname());
    let mut template = killed_while_it_creates_the_database(pair);
    let copying = pair.spawn(&["initial_copy", "--max-rate", "1MB", sub]);
    await_session(pair, "query LIKE '%pg_try_advisory_lock%'");
    template.batch_execute("ROLLBACK").expect("let go");
    await_jobs(pair);
    pair.flare(&["initial_copy", sub])
        .fails_with("another flare is at work on it");
    let stands = pair.flare(&["status", "--format", "json"]).ok().json();
    let copy = &stands["subscriptions"][0]["copy"]["copy"];
    assert_eq!(copy["at_work"], true, "{stands}");
    let largest = &copy["tables"][0];
    assert!(largest["bytes_total"].as_i64() > Some(0), "{stands}");
    Fault::Flare.strikes(pair, copying);
    pair.flare(&["status"])
        .ok()
        .prints("the copy was INTERRUPTED")
        .prints("its snapshot is kept")
        .prints("next: flare initial_copy");
    pair.flare(&["create_subscription", sub])
        .fails_with("go on with it: flare initial_copy");
    pair.flare(&["cleanup", "--dry-run", sub])
        .ok()
        .prints("give up the copy");
    let dropped = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{db}'"
    );
    pair.publisher().sql("postgres", &dropped);
    pair.flare(&["status"])
        .ok()
        .prints("its slot is GONE")
        .prints("next: flare initial_copy --restart");
    pair.flare(&["initial_copy", sub])
        .fails_with("of the publisher is gone")
        .says("begin anew: flare initial_copy --restart");
    pair.flare(&["cleanup", "--yes", sub]).ok();
    let left = format!(
        "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = '{db}')
              + (SELECT count(*) FROM pg_stat_activity WHERE datname = '{db}' AND application_name LIKE 'flare/holder%')"
    );
    assert_eq!(pair.publisher().value("postgres", &left), "0");
    let records = "SELECT to_regnamespace('flare') IS NULL";
    assert_eq!(pair.subscriber().value(db, records), "t");
    drop_database(pair);
    // The publication went, too.
    let publication = format!(
        "CREATE PUBLICATION \"{}\" FOR ALL TABLES",
        pair.names().pubname
    );
    pair.publisher().sql(db, &publication);
}

/// A copy that is struck again and again; how many faults are left when it is done.
fn copies(pair: &Pair, dice: &mut Dice, span: Duration, strikes: usize) -> usize {
    let sub = pair.subname();
    let mut left = strikes;
    let mut had_rows = false;
    while left > 0 {
        let copying = pair.spawn(&["initial_copy", "--max-rate", "30MB", sub]);
        let moment = some_moment(dice, span, &copying);
        if copying.has_ended() {
            copying.wait().ok();
            return left;
        }
        let fault = dice.one_of(&Fault::ALL);
        fault.strikes(pair, copying);
        left -= 1;
        let stands = pair.flare(&["status", "--format", "json"]);
        let stands = &stands.ok().json()["subscriptions"][0];
        println!(
            "{fault:?} after {moment:?}: {} {}",
            stands["stage"], stands["message"]
        );
        // What was on record is so until the subscription is there.
        let rows = stands["copy"]["copy"]["phase"] != "slot" && stands["copy"].is_object();
        assert!(
            rows || !had_rows || stands["subscription"] == true,
            "{stands}"
        );
        had_rows = rows;
        let next = stands["next"].as_str().unwrap_or_default();
        match stands["stage"].as_str() {
            Some("copy_interrupted") => assert!(next.contains("flare initial_copy"), "{next}"),
            Some("not_begun" | "roles" | "schema" | "publication") => {
                assert!(next.contains("flare prepare"), "{next}");
            }
            // The subscription was there.
            _ => assert!(stands["subscription"] == true, "{stands}"),
        }
    }
    pair.flare(&["initial_copy", sub]).ok();
    0
}

#[test]
fn struck_at_any_moment_a_copy_goes_on() {
    survives(13, 16, SMALL_TABLES, Duration::from_secs(3), 3);
}

#[test]
#[ignore = "a matrix for make soak"]
fn struck_twenty_times_at_any_moment_between_all_versions() {
    matrix::for_each_pair(|old, new| survives(old, new, TABLES, Duration::from_secs(8), 20));
}
