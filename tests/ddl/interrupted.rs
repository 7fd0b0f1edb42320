//! flare dies in the middle: the next one finishes the statement, or neither side has it.

use std::time::Duration;

use crate::support::application::Side;
use crate::support::flare::Running;
use crate::support::{Pair, process, wait};

use super::both_sides::deploying;
use super::same::assert_same;
use super::writer::Writer;

/// Killed before this step.
#[track_caller]
fn killed_before(pair: &Pair, step: &str, statement: &str) {
    let run: Running = pair
        .invocation(&["ddl", pair.db(), statement])
        .env("FLARE_FAILPOINT", format!("ddl:{step}=stop"))
        .spawn();
    run.until_stderr(&format!("failpoint reached: {step}"));
    wait::for_("flare to stop", Duration::from_secs(10), || {
        process::is_stopped(run.pid())
    });
    run.kill_9();
    run.wait();
}

#[test]
fn a_kill_at_any_step_is_finished_or_undone() {
    let pair = deploying(Pair::new(13, 17));
    let writer = Writer::start(&pair, Side::Publisher);
    for (round, step) in ["begun", "first", "second", "ended"].iter().enumerate() {
        let names = [["label", "title"], ["title", "label"]][round % 2];
        let [from, to] = names;
        let statement = format!("ALTER TABLE deploy RENAME COLUMN {from} TO {to}");
        killed_before(&pair, step, &statement);
        pair.flare(&["status"])
            .prints("a statement may be on one side only: ALTER TABLE deploy RENAME");
        // Rows are written between the sides.
        std::thread::sleep(Duration::from_millis(300));
        pair.flare(&["cutover", pair.subname(), "--yes"])
            .code(1)
            .says("a statement may be on one side only")
            .says("--retry");
        let retried = pair.flare(&["ddl", pair.db(), "--retry"]);
        retried.ok();
        match *step {
            "begun" | "first" => {
                retried.prints("neither side has it");
                pair.flare(&["ddl", pair.db(), &statement]).ok();
            }
            "second" => drop(retried.prints("the receiving side lacked it, and has it now")),
            _ => drop(retried.prints("both sides have it")),
        }
    }
    // Rows of the new type fit the old one: they wait until it is there.
    let marked = "ALTER TABLE deploy ALTER label TYPE text USING label || '!'";
    for step in ["first", "second"] {
        killed_before(&pair, step, marked);
        std::thread::sleep(Duration::from_millis(500));
        pair.flare(&["ddl", pair.db(), "--retry"]).ok();
    }
    pair.flare(&["ddl", pair.db(), marked]).ok();
    let kept = "SELECT count(*) FROM pg_constraint WHERE conname = 'flare_interrupted'";
    assert_eq!(pair.subscriber().value(pair.db(), kept), "0");
    for step in ["first", "second"] {
        let table = format!("CREATE TABLE made_{step} (id int PRIMARY KEY)");
        killed_before(&pair, step, &table);
        pair.flare(&["ddl", pair.db(), &table]).ok();
    }
    // What a block does is not in its first words.
    for within in [
        "ALTER TABLE deploy RENAME label TO title",
        "ALTER TABLE deploy RENAME title TO label",
        "ALTER TABLE deploy ALTER label TYPE text USING label || '?'",
    ] {
        killed_before(&pair, "second", &format!("DO $$ BEGIN {within}; END $$"));
        std::thread::sleep(Duration::from_millis(300));
        pair.flare(&["ddl", pair.db(), "--retry"])
            .ok()
            .prints("the receiving side lacked it, and has it now");
    }
    let index = "CREATE INDEX CONCURRENTLY made ON deploy (label)";
    killed_before(&pair, "second", index);
    pair.flare(&["ddl", pair.db(), index]).ok();
    // Whoever gives the same statement again has it once.
    pair.flare(&[
        "ddl",
        pair.db(),
        "CREATE TABLE once (id int PRIMARY KEY, n int)",
    ])
    .ok();
    pair.publisher()
        .sql(pair.db(), "INSERT INTO once VALUES (1, 1)");
    let twice = "ALTER TABLE once ALTER n TYPE int USING n * 2";
    for step in ["first", "second", "ended"] {
        killed_before(&pair, step, twice);
        pair.flare(&["ddl", pair.db(), twice]).ok();
    }
    let n = pair.publisher().value(pair.db(), "SELECT n FROM once");
    assert_eq!(n, "8");
    writer.stop();
    assert_same(&pair);
    // One that nobody finishes keeps no row back once the migration is given up.
    killed_before(&pair, "second", marked);
    assert_eq!(pair.subscriber().value(pair.db(), kept), "1");
    pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
    assert_eq!(pair.subscriber().value(pair.db(), kept), "0");
}
