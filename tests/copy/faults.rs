//! A copy that is killed, under writers: the same command goes on, and no row is lost or doubled.

use std::time::Duration;

use super::moments::Fault;
use super::same;
use super::writers::{TABLES, Writers};
use crate::support::flare::Running;
use crate::support::{Pair, matrix, wait};

fn begin(pair: &Pair) -> Running {
    // Slow enough for something to happen in the middle.
    pair.spawn(&["initial_copy", "--max-rate", "20MB", pair.subname()])
}

/// Waits until parts of the rows are there, and others are not.
fn some_parts(pair: &Pair, more_than: i64) -> i64 {
    let sql = "SELECT count(done_at) FROM flare.copy";
    let mut parts = 0;
    wait::for_("parts of the copy", Duration::from_secs(90), || {
        let rows = pair.subscriber().try_rows(pair.db(), sql);
        let found = rows.ok().and_then(|mut rows| rows.pop()?.pop()?);
        parts = found.and_then(|it| it.parse().ok()).unwrap_or(0);
        parts > more_than
    });
    parts
}

fn survives(old: u32, new: u32, faults: &[Fault]) {
    let pair = Pair::alone(old, new);
    let (db, sub) = (pair.db(), pair.subname());
    pair.create_roles_on(pair.subscriber());
    pair.publisher().sql(db, TABLES);
    pair.publisher().sql(
        db,
        &format!(
            "CREATE PUBLICATION \"{}\" FOR ALL TABLES; ANALYZE",
            pair.names().pubname
        ),
    );
    let writers = Writers::start(&pair, 4);
    for fault in faults {
        let copying = begin(&pair);
        let parts = some_parts(&pair, 0);
        fault.strikes(&pair, copying);
        println!("{old}-{new} {fault:?} after {parts} parts");
    }
    let status = pair.flare(&["status"]);
    status.ok().prints("subscriber closed");
    pair.flare(&["lag", sub])
        .code(1)
        .prints("its copy is under way or was interrupted");
    pair.flare(&["initial_copy", "--restart", "--dry-run", sub])
        .ok()
        .prints(" of the subscriber would be emptied");
    let run = pair.flare(&["initial_copy", sub, "--format", "json"]);
    let json = run.ok().json();
    assert_eq!(json["resumed"], true, "{run}");
    // Of a table that was not finished nothing is kept once the snapshot is gone.
    if faults
        .iter()
        .all(|it| matches!(it, Fault::Flare | Fault::Subscriber))
    {
        assert!(json["jobs_kept"].as_i64() > Some(0), "{run}");
    }
    let written = writers.stop();
    pair.await_caught_up();
    pair.await_tables_ready();
    same::rows_are_equal(&pair);
    same::nothing_of_the_copy_is_left(&pair);
    let log = pair.subscriber().log();
    assert!(!log.contains("duplicate key"), "{log}");
    println!("{old}-{new} {written} transactions, {run}");
}

#[test]
#[ignore = "make soak"]
fn killed_with_its_servers_a_copy_goes_on() {
    survives(11, 18, &[Fault::Flare, Fault::Subscriber]);
    if matrix::is_all() {
        survives(14, 17, &[Fault::Publisher]);
    }
}

#[test]
#[ignore = "a matrix for make soak"]
fn killed_in_every_way_between_all_versions() {
    matrix::for_each_pair(|old, new| {
        for fault in Fault::ALL {
            survives(old, new, &[fault]);
        }
        survives(old, new, &Fault::ALL);
    });
}
