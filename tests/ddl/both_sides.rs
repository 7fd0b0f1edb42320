//! `flare ddl`: statements of every kind, there and back, while clients write.

use std::fs;
use std::time::Duration;

use crate::cutover::fixture::{ready, switched_to};
use crate::support::application::Side;
use crate::support::pair::Passwords;
use crate::support::{Pair, matrix, wait};

use super::carry::runs;
use super::same::assert_same;
use super::writer::Writer;

/// What is not as it is declared, also by what it calls.
pub const SAID_IMMUTABLE: [&str; 2] = [
    "CREATE FUNCTION said() RETURNS float IMMUTABLE LANGUAGE sql AS 'SELECT /* a */ random() /* b */'",
    "CREATE FUNCTION through() RETURNS float IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN said() + 1; END'",
];

/// Every version on either side once, where there is time; else the longest leap.
fn pairs() -> Vec<(u32, u32)> {
    if std::env::var("PAIRS").is_ok_and(|asked| !asked.is_empty()) {
        matrix::pairs()
    } else {
        vec![(10, 18)]
    }
}

const DEPLOY: &str = "CREATE TABLE deploy (id bigserial PRIMARY KEY, label text);
     GRANT SELECT, INSERT, UPDATE ON deploy TO app; GRANT USAGE ON SEQUENCE deploy_id_seq TO app";

/// A pair whose application has a table that is written all the time.
pub fn deploying(pair: Pair) -> Pair {
    let pair = ready(pair.with_accounts(10));
    pair.flare(&["create_subscription", pair.subname()]).ok();
    let file = pair.dir().join("000_deploy.sql");
    fs::write(
        &file,
        DEPLOY.replace("TO app", &format!("TO {}", pair.names().app)),
    )
    .unwrap();
    pair.flare(&["ddl", pair.db(), "--file", file.to_str().unwrap()])
        .ok();
    pair.await_tables_ready();
    pair
}

#[test]
fn statements_of_every_kind_there_and_back() {
    for (old, new) in pairs() {
        let pair = deploying(Pair::new(old, new));
        carried(&pair, Side::Publisher, "there");
        switched_to(&pair, Side::Subscriber);
        carried(&pair, Side::Subscriber, "back");
    }
}

/// Names of the second round differ from those of the first.
fn carried(pair: &Pair, open: Side, round: &str) {
    let writer = Writer::start(pair, open);
    let statement = |text: &str| {
        let text = text.replace("ROUND", round);
        let run = pair.flare(&["ddl", pair.db(), &text, "--format", "json"]);
        let json = run.ok().json();
        assert_eq!(json["statements"][0]["outcome"], "done", "{run}");
    };
    for text in [
        "ALTER TABLE deploy ADD COLUMN \"n'o \"\"te\" int NOT NULL DEFAULT 7",
        "ALTER TABLE deploy RENAME COLUMN label TO title",
        "ALTER TABLE deploy ALTER COLUMN \"n'o \"\"te\" TYPE text USING 'n' || \"n'o \"\"te\"",
        "ALTER TABLE deploy DROP COLUMN \"n'o \"\"te\"",
        "CREATE TYPE ROUND_mood AS ENUM ('sad', 'ok')",
        "ALTER TYPE ROUND_mood ADD VALUE 'happy'",
        "CREATE SCHEMA \"ROUND; --\" CREATE TABLE a (id int PRIMARY KEY, mood public.ROUND_mood) CREATE TABLE b (id int CONSTRAINT ROUND_k PRIMARY KEY)",
        "ALTER TABLE \"ROUND; --\".b RENAME TO ROUND_c",
        "ALTER TABLE \"ROUND; --\".ROUND_c SET SCHEMA public",
        "CREATE TABLE ROUND_part (id int, at date) PARTITION BY RANGE (at)",
        "CREATE TABLE ROUND_part_1 PARTITION OF ROUND_part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "CREATE INDEX ROUND_i ON deploy (title)",
        "CREATE UNIQUE INDEX CONCURRENTLY ROUND_u ON deploy (id, title)",
        "DROP INDEX CONCURRENTLY ROUND_i",
        "CREATE OR REPLACE VIEW ROUND_v AS SELECT count(*) FROM deploy",
        "CREATE FUNCTION ROUND_f() RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2'",
        "COMMENT ON TABLE deploy IS 'ROUND;'",
        "ALTER TABLE deploy RENAME COLUMN title TO label",
        "ALTER TABLE deploy ADD CONSTRAINT ROUND_check CHECK (id > 0) NOT VALID",
        "ALTER TABLE deploy VALIDATE CONSTRAINT ROUND_check",
        "ALTER TABLE deploy RENAME TO ROUND_deploy",
        "ALTER TABLE ROUND_deploy RENAME TO deploy",
        "DROP TABLE \"ROUND; --\".a",
    ] {
        statement(text);
    }
    let (written, longest) = writer.stop();
    println!("{round}: {written} written, longest gap {longest:?}");
    assert!(written > 100, "{written} written");
    assert_same(pair);
    let unfenced = "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384 AND nspname <> 'information_schema' AND c.relname !~ '^flare_'
           AND nspname <> 'flare' AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'flare_fence')";
    let unfenced = open.other().of(pair).rows(pair.db(), unfenced);
    assert!(unfenced.is_empty(), "the closed side is open: {unfenced:?}");
    pair.flare(&[
        "ddl",
        pair.db(),
        &format!("CREATE TYPE {round}_mood AS ENUM ('sad', 'ok')"),
    ])
    .ok()
    .prints("already on both sides");
}

#[test]
fn a_file_goes_on_where_it_stopped_and_a_refused_statement_is_on_neither_side() {
    let pair = deploying(Pair::new(14, 15));
    let (db, dir) = (pair.db(), pair.dir().to_owned());
    let file = dir.join("1_more.sql");
    let args = ["ddl", db, "--file", file.to_str().unwrap()];
    let text = "-- up\nSET search_path = app, public;\nCREATE SCHEMA app;\nCREATE TABLE kinds (id int PRIMARY KEY, name text);\nINSERT INTO kinds VALUES (1, 'a;');\n";
    let wrong = "ALTER TABLE deploy ADD COLUMN kind int NOT NULL;\nUPDATE deploy SET label = 'x' WHERE id = 1;\nALTER TABLE deploy ADD FOREIGN KEY (kind) REFERENCES kinds;\n";
    fs::write(&file, format!("{text}{wrong}")).unwrap();
    pair.publisher()
        .sql(db, "INSERT INTO deploy (label) VALUES ('old')");
    pair.flare(&args)
        .code(1)
        .says("line 6, statement 5 of 7")
        .says("contains null values");
    let right = wrong.replace(" NOT NULL", " DEFAULT 1");
    fs::write(&file, format!("{text}{right}")).unwrap();
    pair.flare(&[&args[..], &["--dry-run"]].concat())
        .ok()
        .prints("would run on both sides: ALTER TABLE deploy");
    pair.flare(&args)
        .ok()
        .prints("already on both sides: CREATE SCHEMA app")
        .prints("replication carries it")
        .prints("on both sides");
    pair.flare(&args).ok().prints("already");
    assert_same(&pair);
    assert_eq!(
        pair.subscriber().value(db, "SELECT name FROM app.kinds"),
        "a;"
    );
    fs::write(&file, format!("{}{right}", text.replace("'a;'", "'b'"))).unwrap();
    pair.flare(&args)
        .code(1)
        .says("an earlier run of the file did");
    for (statement, says) in [
        ("BEGIN", "a transaction of its own"),
        ("DROP TABLE a; DROP TABLE b", "these are 2"),
        ("CREATE ROLE x", "whole server"),
        ("SELECT 1", "defines nothing"),
        ("DROP TABLE flare_replication_status", "flare's own"),
        ("VACUUM deploy", "defines nothing"),
    ] {
        pair.flare(&["ddl", db, statement]).code(2).says(says);
    }
    // A file's own lock_timeout would have everybody queue behind it: here a reader lets go once somebody else has got in.
    let patient = dir.join("2_patient.sql");
    fs::write(
        &patient,
        "SET lock_timeout = 0;\nALTER TABLE kinds_of ADD n int;\n",
    )
    .unwrap();
    pair.flare(&["ddl", db, "CREATE TABLE kinds_of (id int PRIMARY KEY)"])
        .ok();
    let (app, password) = (&pair.names().owner, Passwords::OWNER);
    let session = || pair.publisher().connect(db, app, password).unwrap();
    let (mut reader, mut other) = (session(), session());
    runs(&mut reader, "BEGIN; SELECT FROM kinds_of");
    let run = pair
        .invocation(&["ddl", db, "--file", patient.to_str().unwrap()])
        .spawn();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flare/ddl' AND wait_event_type = 'Lock'";
    wait::for_("flare to wait", Duration::from_secs(20), || {
        pair.publisher().value(db, waits) == "1"
    });
    runs(
        &mut other,
        "SET lock_timeout = '20s'; INSERT INTO kinds_of VALUES (1)",
    );
    runs(&mut reader, "COMMIT");
    run.wait().ok();
    // Outside of transactions, too, what fails leaves nothing to be finished.
    for (statement, says) in [
        (
            "CREATE INDEX CONCURRENTLY i ON nowhere (id)",
            "does not exist",
        ),
        (
            "CREATE INDEX CONCURRENTLY i ON deploy (nothing)",
            "does not exist",
        ),
        ("DROP INDEX CONCURRENTLY nothing", "does not exist"),
        (
            "CREATE INDEX CONCURRENTLY deploy_pkey ON deploy (id)",
            "already exists",
        ),
        (
            "CREATE INDEX CONCURRENTLY i ON deploy (id) WHERE",
            "syntax error",
        ),
    ] {
        pair.flare(&["ddl", db, statement]).code(1).says(says);
    }
    let dice = "CREATE DOMAIN dice AS float DEFAULT random()";
    pair.flare(&["ddl", db, dice]).ok();
    for function in SAID_IMMUTABLE {
        pair.flare(&["ddl", db, function]).ok();
    }
    for (statement, says) in [
        (
            "ALTER TABLE deploy ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
            "ALTER COLUMN \"at\" SET DEFAULT clock_timestamp()",
        ),
        (
            "ALTER TABLE deploy ADD COLUMN at timestamptz DEFAULT now()",
            "would get other values",
        ),
        (
            "ALTER TABLE deploy DROP COLUMN label, ADD COLUMN label timestamptz DEFAULT now()",
            "would get other values",
        ),
        (
            "ALTER TABLE deploy ADD COLUMN n serial",
            "would get other values",
        ),
        (
            "ALTER TABLE deploy ALTER COLUMN label TYPE text USING random()::text",
            "random() is volatile",
        ),
        (
            "ALTER TABLE deploy ALTER COLUMN label TYPE text USING CURRENT_TIMESTAMP::text",
            "CURRENT_TIMESTAMP is another one there",
        ),
        (
            "ALTER TABLE deploy ADD COLUMN at date DEFAULT 'today'",
            "a word for a time",
        ),
        (
            "ALTER TABLE deploy ADD COLUMN d dice",
            "would get other values",
        ),
        (
            "ALTER TABLE deploy ADD COLUMN d float DEFAULT through()",
            "would get other values",
        ),
        (
            "ALTER TABLE deploy ALTER COLUMN label TYPE text USING label || through()",
            "said() is declared IMMUTABLE and is not",
        ),
        (
            "ALTER TABLE deploy ADD COLUMN d float GENERATED ALWAYS AS (through()) STORED",
            "computed by said, which is declared IMMUTABLE",
        ),
        (
            "DO $$ BEGIN EXECUTE 'ALTER TABLE deploy ALTER COLUMN label TYPE text USING random()'; END $$",
            "random() is volatile",
        ),
        ("ALTER TABLE nowhere ADD COLUMN n int", "does not exist"),
    ] {
        pair.flare(&["ddl", db, statement]).code(1).says(says);
    }
    // Columns that keep their values, and the word USING elsewhere.
    for statement in [
        "ALTER TABLE deploy ADD COLUMN at timestamptz",
        "ALTER TABLE deploy ALTER COLUMN at SET DEFAULT now()",
        "ALTER TABLE deploy RENAME COLUMN at TO at_last",
        "CREATE FUNCTION joins() RETURNS bigint LANGUAGE sql AS 'SELECT count(random()) FROM deploy a JOIN deploy b USING (id)'",
        "CREATE VIEW timely AS SELECT now() FROM deploy a JOIN deploy b USING (id)",
        "CREATE POLICY mine ON deploy USING (id::text = current_setting('app.id', true))",
    ] {
        pair.flare(&["ddl", db, statement]).ok();
    }
    pair.flare(&["ddl", db, "DROP VIEW timely"]).ok();
    pair.subscriber()
        .sql(db, "CREATE VIEW only_here AS SELECT label FROM deploy");
    pair.flare(&[
        "ddl",
        db,
        "ALTER TABLE deploy ALTER COLUMN label TYPE varchar(99)",
    ])
    .code(1)
    .says("run it on the receiving side")
    .says("used by a view");
    pair.subscriber().sql(db, "DROP VIEW only_here");
    assert_same(&pair);
    // What only the default changes keeps its rows; a table of a query gets them by its copy.
    for statement in [
        "ALTER TABLE deploy ALTER COLUMN label SET DEFAULT now()::text",
        "CREATE TABLE copied AS SELECT * FROM deploy",
    ] {
        pair.flare(&["ddl", db, statement]).ok();
    }
    pair.await_tables_ready();
    assert_same(&pair);
}
