//! Rows that are written before a statement and committed after it, where the statement does not lock their table.

use std::time::Duration;

use crate::support::application::Side;
use crate::support::{Pair, wait};

use super::carry::{armed, owner, runs, settle};
use super::same::assert_same;

#[test]
fn rows_on_their_way_come_before_what_they_would_not_survive() {
    let pair = armed(Pair::new(14, 16), "carry");
    let mut writer = owner(&pair, Side::Publisher);
    runs(
        &mut writer,
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE point2 AS (x int, y int); CREATE SCHEMA kept;
         CREATE TABLE parent (x int); CREATE TABLE child () INHERITS (parent); CREATE VIEW seen AS SELECT 1 AS one;
         CREATE TYPE holds AS (children child[]);
         CREATE TABLE kept.moods (id serial PRIMARY KEY, m mood DEFAULT 'sad', all_moods mood[], p point2 DEFAULT '(1,2)', h holds, s seen)",
    );
    settle(&pair, Side::Publisher);
    for (row, statement) in [
        (
            "DEFAULT VALUES",
            "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        ),
        (
            "(all_moods) VALUES ('{blue}')",
            "ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'",
        ),
        ("DEFAULT VALUES", "ALTER TYPE point2 ADD ATTRIBUTE z int"),
        (
            "DEFAULT VALUES",
            "ALTER SCHEMA kept RENAME TO held; ALTER SCHEMA held RENAME TO kept",
        ),
        // The type of another table's rows.
        (
            "(h) VALUES (ROW(ARRAY['(1)'::child]))",
            "ALTER TABLE parent ADD y int",
        ),
        (
            "(s) VALUES ('(1)')",
            "CREATE OR REPLACE VIEW seen AS SELECT 1 AS one, 2 AS two",
        ),
    ] {
        runs(&mut writer, &format!("BEGIN; INSERT INTO kept.moods {row}"));
        let mut deploy = owner(&pair, Side::Publisher);
        std::thread::scope(|scope| {
            scope.spawn(|| runs(&mut deploy, statement));
            let waits = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = relation WHERE relname = 'moods' AND NOT granted";
            wait::for_("the statement to wait", Duration::from_secs(20), || {
                pair.publisher().value(pair.db(), waits) == "1"
            });
            runs(&mut writer, "COMMIT");
        });
        settle(&pair, Side::Publisher);
    }
    // The same by flare, which tries again and again. A walsender would wait for it to read the type of a locked table's rows.
    for (row, statement) in [
        (
            "DEFAULT VALUES",
            "DO $$ BEGIN ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; END $$",
        ),
        (
            "(m, h) VALUES ('blue', ROW(ARRAY['(1,2)'::child]))",
            "ALTER TABLE parent DROP y",
        ),
    ] {
        runs(&mut writer, &format!("BEGIN; INSERT INTO kept.moods {row}"));
        let run = pair.invocation(&["ddl", pair.db(), statement]).spawn();
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flare/ddl' AND wait_event_type = 'Lock'";
        wait::for_("flare to wait", Duration::from_secs(20), || {
            pair.publisher().value(pair.db(), waits) == "1"
        });
        runs(&mut writer, "COMMIT");
        run.wait().ok();
    }
    assert_same(&pair);
}
