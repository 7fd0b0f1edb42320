//! What the subscriber's version refuses is known before anything is loaded.

use crate::support::{Pair, matrix};

use super::{assert_found, look, of};

/// On a 10: what 11 to 15 have taken away, and words of the same spelling that are the user's own.
const OLD: &str = r#"
    CREATE VIEW factorials AS SELECT 5! AS f; CREATE MATERIALIZED VIEW within AS SELECT point '(1,1)' @ box '((0,0),(2,2))' AS yes;
    CREATE TABLE "Time""s" (id int PRIMARY KEY, at timestamptz DEFAULT timenow()::timestamptz, CONSTRAINT positive CHECK ((id!) > 0));
    CREATE INDEX backing ON "Time""s" ((!! id)); CREATE DOMAIN dated AS timestamptz DEFAULT timenow()::timestamptz;
    CREATE VIEW running AS SELECT pg_is_in_backup() AS yes; CREATE FUNCTION anything() RETURNS opaque LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE VIEW catalogs AS SELECT c.relhasoids, d.adsrc FROM pg_class c LEFT JOIN pg_attrdef d ON d.adrelid = c.oid;
    CREATE TABLE proisagg (proisagg int PRIMARY KEY, adsrc text, at tsquery); CREATE VIEW own AS SELECT proisagg, adsrc, @ proisagg AS a, 'x' ~ 'y' AS b FROM proisagg;
    CREATE VIEW tables AS SELECT relname, relkind, 'a b' ~ relname::text AS c FROM pg_class;
    CREATE EXTENSION hstore; CREATE EXTENSION cube; CREATE EXTENSION intarray; CREATE EXTENSION seg; CREATE EXTENSION pg_stat_statements;
    CREATE TABLE kept (id int PRIMARY KEY, c cube, h hstore, a int[], s seg CONSTRAINT sized CHECK (s ~ '1..2'));
    CREATE VIEW boxes AS SELECT id FROM kept WHERE c @ '(1,2)'; CREATE INDEX listed ON kept (id) WHERE a @ '{1}';
    CREATE POLICY seen ON kept USING (h ~ 'a=>1'); CREATE VIEW slow AS SELECT query, total_time FROM pg_stat_statements;
    CREATE VIEW slower AS SELECT s.query FROM pg_stat_statements(true) s; CREATE VIEW calls AS SELECT query, calls FROM pg_stat_statements;
    CREATE VIEW held AS SELECT id FROM kept WHERE h @> 'a=>1';
    CREATE VIEW checkpoint AS SELECT c.redo_lsn FROM pg_control_checkpoint() c; CREATE VIEW named AS SELECT (pg_control_checkpoint()).redo_lsn, s.pid FROM pg_stat_activity s;
    CREATE VIEW settled AS SELECT f.name, x.word FROM pg_show_all_settings() f, pg_get_keywords() x; CREATE VIEW plain AS SELECT name FROM pg_show_all_settings();
    CREATE FUNCTION warned() RETURNS int LANGUAGE sql SET operator_precedence_warning = off SET work_mem = '4MB' AS 'SELECT 1'"#;

/// On an 11: what 12 refuses.
const SHORT_LIVED: &str = "CREATE TABLE t (id int PRIMARY KEY, x int); CREATE INDEX old_option ON t (x) WITH (recheck_on_update = off)";

/// On a 15: what 16, 17 and 18 refuse.
const RECENT: &str = "
    CREATE TABLE up (a int, b int); CREATE TABLE down (b int GENERATED ALWAYS AS (a * 2) STORED) INHERITS (up);
    CREATE TABLE fine_up (a int, b int GENERATED ALWAYS AS (a * 2) STORED); CREATE TABLE fine_down () INHERITS (fine_up);
    CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE folded (a text COLLATE blind PRIMARY KEY, b text COLLATE blind REFERENCES folded); CREATE TABLE folds (a text CONSTRAINT across REFERENCES folded);
    CREATE VIEW checkpoints AS SELECT pg_stat_get_bgwriter_timed_checkpoints() AS n; CREATE VIEW cached AS SELECT attcacheoff FROM pg_attribute;
    CREATE VIEW walled AS SELECT wal_records FROM pg_stat_get_wal(); CREATE FUNCTION atomic() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT wal_records FROM pg_stat_get_wal(); END;
    CREATE VIEW abbreviated AS SELECT abbrev FROM pg_timezone_abbrevs()";

const IDS: [&str; 5] = [
    "gone_objects",
    "moved_results",
    "gone_columns",
    "gone_members",
    "function_settings",
];

/// Old and new version, what is planted on the old, and what is said of it: the check and words.
type Plant<'a> = (u32, u32, &'a str, &'a [(&'a str, &'a str)]);

#[test]
fn what_no_newer_version_takes_is_named() {
    let plants: [Plant; 3] = [
        (
            11,
            12,
            SHORT_LIVED,
            &[(
                "gone_objects",
                "index public.old_option (its option recheck_on_update is gone)",
            )],
        ),
        (
            10,
            17,
            OLD,
            &[
                (
                    "gone_objects",
                    "view public.factorials (operator !(bigint,NONE) is gone)",
                ),
                (
                    "gone_objects",
                    "materialized view public.within (operator @(point,box) is gone)",
                ),
                (
                    "gone_objects",
                    r#"default of public.\"Time\"\"s\".at (function timenow() is gone)"#,
                ),
                (
                    "gone_objects",
                    r#"constraint positive of public.\"Time\"\"s\" (operator !(bigint,NONE) is gone)"#,
                ),
                (
                    "gone_objects",
                    "index public.backing (operator !!(NONE,bigint) is gone)",
                ),
                (
                    "gone_objects",
                    "default of public.dated (function timenow() is gone)",
                ),
                (
                    "gone_objects",
                    "view public.running (function pg_is_in_backup() is gone)",
                ),
                (
                    "gone_objects",
                    "function public.anything() (type opaque is gone)",
                ),
                (
                    "gone_columns",
                    "public.catalogs (reads pg_class.relhasoids)",
                ),
                ("gone_columns", "public.catalogs (reads pg_attrdef.adsrc)"),
                (
                    "gone_members",
                    "constraint sized on table public.kept (seg: operator ~)",
                ),
                (
                    "function_settings",
                    "public.warned() (operator_precedence_warning)",
                ),
                (
                    "moved_results",
                    "view public.checkpoint (reads pg_control_checkpoint())",
                ),
                (
                    "moved_results",
                    "view public.settled (reads pg_get_keywords())",
                ),
                ("gone_members", "view public.boxes (cube: operator @)"),
                ("gone_members", "index public.listed (intarray: operator @)"),
                (
                    "gone_members",
                    "policy seen on table public.kept (hstore: operator ~)",
                ),
                (
                    "gone_members",
                    "view public.slow (pg_stat_statements: column total_time)",
                ),
                (
                    "gone_members",
                    "view public.slower (pg_stat_statements: result of pg_stat_statements(boolean))",
                ),
            ],
        ),
        (
            15,
            18,
            RECENT,
            &[
                (
                    "gone_objects",
                    "column public.down.b (it is generated, that of its parent public.up is not)",
                ),
                (
                    "gone_objects",
                    "constraint across of public.folds (its two sides have collations",
                ),
                (
                    "gone_objects",
                    "view public.checkpoints (function pg_stat_get_bgwriter_timed_checkpoints() is gone)",
                ),
                (
                    "gone_columns",
                    "public.cached (reads pg_attribute.attcacheoff)",
                ),
                (
                    "gone_objects",
                    "view public.abbreviated (function pg_timezone_abbrevs() is gone)",
                ),
                (
                    "moved_results",
                    "view public.walled (reads pg_stat_get_wal())",
                ),
                (
                    "moved_results",
                    "function public.atomic() (reads pg_stat_get_wal())",
                ),
            ],
        ),
    ];
    for (old, new, planted, named) in plants {
        let pair = Pair::new(old, new).with_accounts(1);
        pair.publisher().sql(pair.db(), planted);
        let json = look(&pair);
        for (id, words) in named {
            assert_found(&json, id, "blocker", words);
        }
        let count = |id: &str| -> usize {
            let found = of(&json, id);
            let objects = found
                .iter()
                .map(|it| it["objects"].as_array().map_or(0, Vec::len));
            objects.sum()
        };
        assert_eq!(
            IDS.map(count).iter().sum::<usize>(),
            named.len(),
            "{old}-{new}: {json}"
        );
        // The command that would fail says it, too, and makes nothing.
        pair.flare(&["replicate_schema", pair.db()])
            .code(1)
            .says("these cannot be made on the subscriber");
        let there = format!(
            "SELECT count(*) FROM pg_database WHERE datname = '{}'",
            pair.db()
        );
        assert_eq!(pair.subscriber().value("postgres", &there), "0");
    }
}

/// A collation of the system's that only the publisher's machine has, in every place that names one.
#[test]
fn collations_that_the_subscriber_lacks_are_named_wherever_they_are() {
    let pair = Pair::new(14, 17).with_accounts(1);
    pair.publisher().sql(
        pair.db(),
        r#"CREATE COLLATION pg_catalog.klingon (locale = 'C');
           CREATE TABLE t (id int PRIMARY KEY, a text, b text COLLATE klingon, CONSTRAINT c CHECK (a COLLATE klingon > 'x')); CREATE INDEX i ON t ((lower(a COLLATE "klingon")));
           CREATE VIEW v AS SELECT id FROM t ORDER BY a COLLATE klingon; CREATE TYPE both_ends AS (a text COLLATE klingon);
           CREATE TYPE words AS RANGE (subtype = text, collation = klingon); CREATE TABLE p (a text) PARTITION BY RANGE (a COLLATE klingon);
           CREATE POLICY seen ON t USING (a COLLATE klingon > 'b'); CREATE FUNCTION f(a text) RETURNS bool LANGUAGE sql BEGIN ATOMIC SELECT a < 'x' COLLATE klingon; END;
           CREATE COLLATION mine (locale = 'C'); CREATE VIEW own AS SELECT a COLLATE mine AS a, b COLLATE "C" AS b FROM t"#,
    );
    let json = look(&pair);
    let objects = [
        "column public.t.b",
        "column public.both_ends.a",
        "constraint c of public.t",
        "function public.f(text)",
        "index public.i",
        "partition key of public.p",
        "policy seen of public.t",
        "range public.words",
        "view public.v",
    ];
    for object in objects {
        let words = format!("{object} (klingon)");
        assert_found(&json, "collations", "blocker", &words);
    }
    let named = of(&json, "collations")[0]["objects"]
        .as_array()
        .map(Vec::len);
    assert_eq!(named, Some(objects.len()), "{json}");
}

/// Each version takes the same of its own.
#[test]
fn what_the_same_version_takes_is_not_named() {
    for &(version, planted) in matrix::sample(&[(10, OLD), (15, RECENT)], &[(10, OLD)]) {
        let pair = Pair::new(version, version).with_accounts(1);
        pair.publisher().sql(pair.db(), planted);
        let json = look(&pair);
        for id in IDS {
            let found = of(&json, id);
            assert!(found.iter().all(|it| it["severity"] == "pass"), "{found:?}");
        }
    }
}
