//! `ddl: refuse` and `ddl: carry`: what the application's own deploys do, on the oldest and newest versions, both ways.

use std::time::Duration;

use postgres::Client;

use crate::cutover::fixture::{ready, switched_to};
use crate::support::application::Side;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, matrix, wait};

use super::same::assert_same;

/// A pair whose statements are refused or carried.
pub fn armed(pair: Pair, mode: &str) -> Pair {
    let pair = ready(pair.with_accounts(10));
    pair.configure(|config| config["ddl"] = mode.into());
    pair.flare(&["create_subscription", pair.subname()]).ok();
    pair
}

/// The owner's own session on a side.
pub fn owner(pair: &Pair, side: Side) -> Client {
    side.of(pair)
        .connect(pair.db(), &pair.names().owner, Passwords::OWNER)
        .expect("the owner's session")
}

#[track_caller]
pub fn runs(client: &mut Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql) {
        panic!("{sql}: {}", words(&error));
    }
}

pub fn words(error: &postgres::Error) -> String {
    error.as_db_error().map_or(error.to_string(), |error| {
        format!("{} {}", error.message(), error.hint().unwrap_or_default())
    })
}

#[track_caller]
pub fn is_refused(client: &mut Client, sql: &str, says: &str) {
    match client.batch_execute(sql) {
        Ok(()) => panic!("{sql}: was not refused"),
        Err(error) => {
            let words = words(&error);
            assert!(words.contains(says), "{sql}: {words}");
        }
    }
    client.batch_execute("ROLLBACK").ok();
}

/// Waits until every statement has been run on the other side, and new tables are followed.
#[track_caller]
pub fn settle(pair: &Pair, open: Side) {
    let ids =
        "SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM flare.ddl WHERE id > 0";
    // However long it takes on a busy machine, as long as they come.
    let on = |side: Side| side.of(pair).value(pair.db(), ids);
    let mut before = None;
    let same = loop {
        let mut come = on(open.other());
        let moved = wait::until(Duration::from_secs(60), || {
            come = on(open.other());
            come == on(open) || before.as_ref() != Some(&come)
        });
        if come == on(open) || !moved {
            break come == on(open);
        }
        before = Some(come);
    };
    if !same {
        let log = open.other().of(pair).log();
        let last: Vec<&str> = log.lines().rev().take(12).collect();
        panic!("not all statements have come: {last:#?}");
    }
    let failed = open.other().of(pair).rows(
        pair.db(),
        "SELECT id, text, error FROM flare.ddl WHERE outcome = 'failed'",
    );
    assert!(failed.is_empty(), "{failed:?}");
    pair.flare(&["ddl", pair.db(), "--retry"]).ok();
    let unready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    wait::for_("every table to be ready", Duration::from_secs(60), || {
        open.other().of(pair).value(pair.db(), unready) == "0"
    });
}

/// The page's table of kinds, through the habits of programs. ROUND makes names anew.
const HABITS: [&str; 65] = [
    // psql: one at a time
    "CREATE TABLE ROUND_t (id int PRIMARY KEY, a text, b int)",
    "INSERT INTO ROUND_t SELECT n, 'a' || n, n FROM generate_series(1, 100) n",
    "ALTER TABLE ROUND_t ADD COLUMN c int DEFAULT 7",
    // Rails, Django: a transaction with rows and statements
    "BEGIN; ALTER TABLE ROUND_t ADD COLUMN d text; UPDATE ROUND_t SET d = 'x;' || id; ALTER TABLE ROUND_t RENAME COLUMN a TO name; INSERT INTO ROUND_t (id, name) VALUES (1000, 'ü'); COMMIT",
    // Flyway: a file as one string
    "/* V2 */ CREATE SCHEMA ROUND_s; -- ; nothing\nCREATE TABLE ROUND_s.a (id int PRIMARY KEY DEFAULT (1), t text DEFAULT ';');\nCREATE INDEX ON ROUND_s.a (t);\nINSERT INTO ROUND_s.a (id) VALUES (1); ALTER TABLE ROUND_s.a ADD e int; UPDATE ROUND_s.a SET e = 5",
    "DO $$ BEGIN CREATE TYPE ROUND_e AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    "DO $do$ DECLARE n text := 'ROUND_dyn'; BEGIN FOR i IN 1..2 LOOP EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY)', n || i); END LOOP; END $do$",
    "CREATE TABLE IF NOT EXISTS ROUND_t (id int)",
    "CREATE TABLE IF NOT EXISTS ROUND_t2 (id int PRIMARY KEY, \"we\"\"ird ;\" text)",
    "DROP TABLE IF EXISTS no_such_table",
    "ALTER TABLE ROUND_t ALTER COLUMN b TYPE text USING b::text || 'u'",
    "CREATE TABLE ROUND_p (id int, at date) PARTITION BY RANGE (at)",
    "CREATE TABLE ROUND_p1 PARTITION OF ROUND_p FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
    "CREATE TABLE ROUND_p2 (id int, at date)",
    "ALTER TABLE ROUND_p ATTACH PARTITION ROUND_p2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
    "INSERT INTO ROUND_p VALUES (1, '2026-01-05'), (2, '2026-02-05')",
    "CREATE TABLE ROUND_ctas AS SELECT id, name FROM ROUND_t",
    "CREATE TABLE ROUND_ctas2 AS SELECT id FROM ROUND_t WITH NO DATA",
    "CREATE TEMP TABLE scratch AS SELECT 1 AS a; CREATE TEMP TABLE more (a int); DROP TABLE scratch, more",
    "CREATE INDEX CONCURRENTLY ROUND_i ON ROUND_t (name)",
    "CREATE VIEW ROUND_v AS SELECT id, 'a;b' AS x FROM ROUND_t",
    "CREATE FUNCTION ROUND_f() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN new.name := 'set; ' || new.name; RETURN new; /* no ROLLBACK */ END $f$",
    "CREATE TRIGGER ROUND_tr BEFORE UPDATE ON ROUND_t FOR EACH ROW EXECUTE PROCEDURE ROUND_f()",
    "UPDATE ROUND_t SET c = 9 WHERE id < 5",
    "COMMENT ON TABLE ROUND_t IS 'it''s; --'; GRANT SELECT ON ROUND_t TO APP",
    "ALTER TABLE ROUND_t ENABLE ROW LEVEL SECURITY; CREATE POLICY ROUND_po ON ROUND_t USING (id > 0)",
    "CREATE SEQUENCE ROUND_q; CREATE DOMAIN ROUND_d AS text CHECK (value <> '')",
    "BEGIN",
    "SAVEPOINT a",
    "CREATE TABLE ROUND_gone (id int)",
    "ROLLBACK TO a",
    "CREATE TABLE ROUND_stays (id int PRIMARY KEY)",
    "COMMIT",
    "SET search_path = ROUND_s, public; CREATE TABLE found_by_path (id int PRIMARY KEY); RESET search_path",
    "ALTER INDEX ROUND_t RENAME TO ROUND_t8; ALTER TABLE ROUND_t8 RENAME TO ROUND_t9; ALTER TABLE ROUND_t2 SET SCHEMA ROUND_s",
    "DROP TABLE ROUND_dyn1",
    // Files of one string: what is not there, several transactions.
    "BEGIN; CREATE TABLE ROUND_b1 (id int PRIMARY KEY); COMMIT; CREATE TABLE ROUND_b2 (id int PRIMARY KEY); BEGIN; DROP TABLE IF EXISTS nope; DROP TABLE IF EXISTS ROUND_b1; COMMIT",
    "DROP TRIGGER IF EXISTS nope ON ROUND_t; DROP TABLE IF EXISTS nope1; CREATE TABLE ROUND_c1 (id int PRIMARY KEY); CREATE TABLE ROUND_c2 (id int PRIMARY KEY); DROP TABLE IF EXISTS nope2; DROP TABLE IF EXISTS ROUND_c1; DROP TABLE IF EXISTS nope3; ALTER TABLE ROUND_c2 DROP COLUMN IF EXISTS nope; ALTER TABLE ROUND_c2 ADD COLUMN IF NOT EXISTS x int; ALTER TABLE ROUND_c2 ADD COLUMN IF NOT EXISTS x int",
    "CREATE TABLE ROUND_two (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE ROUND_of (id int PRIMARY KEY, a int, b int, FOREIGN KEY (a, b) REFERENCES ROUND_two); ALTER TABLE ROUND_of ADD FOREIGN KEY (b, a) REFERENCES ROUND_two",
    "CREATE TABLE ROUND_x (id int PRIMARY KEY); CREATE TABLE ROUND_y (id int PRIMARY KEY)",
    "DO $$ BEGIN DROP TABLE IF EXISTS nope; DROP TABLE IF EXISTS ROUND_y; EXECUTE 'CREATE TABLE ROUND_z (id int PRIMARY KEY); DROP TABLE IF EXISTS nope; DROP TABLE IF EXISTS ROUND_x'; END $$; CREATE INDEX ON ROUND_z (id)",
    // Rows written since a column came with a constant keep their values, whatever its default is later.
    "CREATE TABLE ROUND_old (id int PRIMARY KEY); INSERT INTO ROUND_old VALUES (1), (2); ALTER TABLE ROUND_old ADD at timestamptz DEFAULT '2020-01-01'; INSERT INTO ROUND_old VALUES (3, '2021-01-01'); UPDATE ROUND_old SET at = '2022-01-01' WHERE id = 1",
    "ALTER TABLE ROUND_old ALTER COLUMN at SET DEFAULT now(); ALTER TABLE ROUND_old ALTER COLUMN at SET NOT NULL, ADD add_at int",
    "CREATE TABLE ROUND_above (id int, at date, t text) PARTITION BY RANGE (at); CREATE TABLE ROUND_below PARTITION OF ROUND_above FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); ALTER TABLE ROUND_below ADD PRIMARY KEY (id, at); INSERT INTO ROUND_above VALUES (1, '2026-01-05'); ALTER TABLE ROUND_above ADD n float; ALTER TABLE ROUND_above ALTER n SET DEFAULT random(), ALTER at SET DEFAULT now()",
    // Its rows are copied later than the foreign key comes.
    "CREATE TABLE ROUND_kind (id int PRIMARY KEY); INSERT INTO ROUND_kind VALUES (1), (2); ALTER TABLE ROUND_t9 ADD kind int DEFAULT 1; ALTER TABLE ROUND_t9 ADD CONSTRAINT \"ROUND_k, fk\" FOREIGN KEY (kind) REFERENCES ROUND_kind (id) ON DELETE CASCADE, ADD CHECK (kind > 0) -- kinds",
    "CREATE TABLE ROUND_grade (id int PRIMARY KEY); INSERT INTO ROUND_grade VALUES (1); -- Grades refer to what is new.\n ALTER TABLE ROUND_t9 /* two, */ ADD COLUMN \"gra de\" int DEFAULT '1' CONSTRAINT \"ROUND g, fk\" REFERENCES ROUND_grade ON DELETE SET NULL DEFERRABLE NOT NULL, ADD grade int DEFAULT 1 REFERENCES public.ROUND_grade (id)",
    // A maker of partitions, as pg_partman is one.
    "CREATE FUNCTION ROUND_maker(months int) RETURNS int LANGUAGE plpgsql AS $f$ DECLARE at date; made text; BEGIN FOR n IN 1..months LOOP at := '2027-01-01'::date + (n || ' months')::interval; made := 'ROUND_p_' || to_char(at, 'YYYYMM'); EXECUTE format('CREATE TABLE IF NOT EXISTS %I (LIKE ROUND_p INCLUDING ALL)', made); EXECUTE format('ALTER TABLE ROUND_p ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', made, at, at + interval '1 month'); EXECUTE format('ALTER TABLE %I REPLICA IDENTITY FULL', made); END LOOP; RETURN months; END $f$",
    "SELECT ROUND_maker(3); INSERT INTO ROUND_p VALUES (3, '2027-02-10'); UPDATE ROUND_p SET id = 4 WHERE at = '2027-02-10'; ALTER TABLE ROUND_p DETACH PARTITION ROUND_p_202703; DROP TABLE ROUND_p_202703",
    // Comments in comments, and what looks like a comment, a constant, a word or the end of a statement.
    "CREATE TABLE ROUND_lex (id int PRIMARY KEY, t text); INSERT INTO ROUND_lex VALUES (1, 'a')",
    "/* a /* b; */ c */ ALTER TABLE ROUND_lex ADD n1 int; -- x /* y\nALTER /* p /* q */ ; ' */ TABLE ROUND_lex ADD n2 text DEFAULT $a$ ; $b$ /* $a$; /**/ALTER TABLE ROUND_lex ADD n3 int DEFAULT 3; /*/ */ ALTER TABLE ROUND_lex ADD n4 int; /*/**/*/ ALTER TABLE ROUND_lex ADD n5 text DEFAULT '--'; ALTER TABLE ROUND_lex ADD n6 text DEFAULT '/*'",
    "/* x /* y */ z */ALTER/* t */TABLE ROUND_lex ADD n7 int DEFAULT 7",
    "ALTER TABLE ROUND_lex ADD e1 text DEFAULT E'it\\'s; '; ALTER TABLE ROUND_lex ADD e2 text DEFAULT 'a''b;'; ALTER TABLE ROUND_lex ADD e3 text DEFAULT e'\\\\'; ALTER TABLE ROUND_lex ADD U&\"d\\0061t;a\" text DEFAULT U&'\\0061;'; ALTER TABLE ROUND_lex ADD U&\"d!0061t;b\" UESCAPE '!' int",
    "CREATE TABLE ROUND_a$b$ (id int PRIMARY KEY); INSERT INTO ROUND_a$b$ VALUES (1); CREATE TABLE ROUND_c$b$ (id int PRIMARY KEY)",
    "COMMENT ON TABLE ROUND_lex IS 'is on database x'; GRANT CONNECT ON DATABASE DB TO APP; COMMENT ON TABLE ROUND_lex IS 'second, on role y'; CREATE SCHEMA ROUND_r; SET search_path = ROUND_r, public; CREATE TABLE role (id int PRIMARY KEY); GRANT SELECT ON role TO APP; COMMENT ON TABLE role IS 'r'; GRANT SELECT ON ROUND_lex TO APP; RESET search_path",
    "CREATE TABLE ROUND_jobs (id int PRIMARY KEY, \"concurrently\" text DEFAULT 'concurrently'); ALTER TABLE ROUND_jobs ADD mode text DEFAULT 'concurrently'; INSERT INTO ROUND_jobs VALUES (1)",
    "/* concurrently */ CREATE /* x */ INDEX CONCURRENTLY \"ROUND concurrently\" ON ROUND_jobs (\"concurrently\") WHERE mode = 'concurrently'",
    "CREATE /* x */ TEMP TABLE scratch AS SELECT 1 AS a; CREATE TABLE ROUND_ctas3 AS SELECT 1 AS a WITH /* all /* of */ it */ DATA -- here",
    "CREATE TABLE ROUND_ctas4 AS SELECT 'with data' AS \"with data\" -- with data",
    "--liquibase formatted sql\n--changeset a:1\nCREATE TABLE ROUND_liq (id int PRIMARY KEY);\n--rollback DROP TABLE ROUND_liq;\n--changeset a:2\nALTER TABLE ROUND_liq ADD y int DEFAULT 2;\n--rollback ALTER TABLE ROUND_liq DROP y;",
    "CREATE MATERIALIZED VIEW ROUND_mv AS SELECT id FROM ROUND_lex; CREATE UNIQUE INDEX ROUND_mvi ON ROUND_mv (id); REFRESH MATERIALIZED VIEW CONCURRENTLY ROUND_mv",
    // Its rows are copied past its policies; FORCE is of no matter to who owns nothing.
    "CREATE TABLE ROUND_secret (id int PRIMARY KEY); ALTER TABLE ROUND_secret ENABLE ROW LEVEL SECURITY; INSERT INTO ROUND_secret VALUES (1), (2)",
    // What 14 and later print in SQL's own syntax.
    "CREATE TABLE ROUND_sql (id int PRIMARY KEY, at timestamp, name text); CREATE INDEX ROUND_sqli ON ROUND_sql (SUBSTRING(name FROM 1 FOR 3), (OVERLAY(name PLACING 'y' FROM 1 FOR 2))) WHERE TRIM(LEADING '0' FROM name) <> '' AND POSITION('x' IN name) > 0; CREATE VIEW ROUND_sqlv AS SELECT id, at AT TIME ZONE 'Europe/Berlin' AS local, (at, at) OVERLAPS (at AT TIME ZONE 'utc' AT TIME ZONE 'utc', at) AS over, TRIM(name) AS name FROM ROUND_sql; INSERT INTO ROUND_sql VALUES (1)",
    // 14 and later give it a multirange type, which keeps the name that it was made with.
    "CREATE TYPE ROUND_floatrange AS RANGE (subtype = float8); ALTER TYPE ROUND_floatrange RENAME TO ROUND_span; CREATE TYPE ROUND_r.ROUND_range AS RANGE (subtype = float4); ALTER TYPE ROUND_r.ROUND_range SET SCHEMA ROUND_s; CREATE TABLE ROUND_spans (id int PRIMARY KEY, s ROUND_span); INSERT INTO ROUND_spans VALUES (1, '[1.5,2]')",
    // A cutover wants every table to have an identity.
    "ALTER TABLE ROUND_ctas3 REPLICA IDENTITY FULL; ALTER TABLE ROUND_ctas4 REPLICA IDENTITY FULL",
    "ALTER TABLE ROUND_ctas REPLICA IDENTITY FULL; ALTER TABLE ROUND_ctas2 REPLICA IDENTITY FULL; ALTER TABLE ROUND_p1 REPLICA IDENTITY FULL; ALTER TABLE ROUND_p2 REPLICA IDENTITY FULL",
];

/// Its script creates functions, too.
const EXTENSION: &str = "
    CREATE EXTENSION IF NOT EXISTS pgcrypto; CREATE TABLE ROUND_xt (id int PRIMARY KEY);
    CREATE FUNCTION ROUND_xf() RETURNS int LANGUAGE sql AS 'SELECT 1;';
    CREATE EXTENSION IF NOT EXISTS pgcrypto; DROP EXTENSION pgcrypto; DROP EXTENSION IF EXISTS pgcrypto; DROP TABLE ROUND_xt";

fn pairs() -> Vec<(u32, u32)> {
    if std::env::var("PAIRS").is_ok_and(|asked| !asked.is_empty()) {
        matrix::pairs()
    } else {
        vec![(10, 18)]
    }
}

#[test]
fn deploys_are_carried_there_and_back() {
    for (old, new) in pairs() {
        let pair = armed(Pair::new(old, new), "carry");
        for (open, round) in [(Side::Publisher, "there"), (Side::Subscriber, "back")] {
            if open == Side::Subscriber {
                switched_to(&pair, Side::Subscriber);
            }
            let mut client = owner(&pair, open);
            for habit in HABITS {
                let sql = habit
                    .replace("ROUND", round)
                    .replace("APP", &pair.names().app)
                    .replace("DATABASE DB", &format!("DATABASE {}", pair.db()));
                runs(&mut client, &sql);
            }
            // Before 13 only superusers make extensions.
            let mut superuser = open.of(&pair).superuser_session(pair.db());
            runs(&mut superuser, &EXTENSION.replace("ROUND", round));
            settle(&pair, open);
            assert_same(&pair);
            if open == Side::Subscriber {
                continue;
            }
            let mut closed = owner(&pair, open.other());
            runs(&mut closed, "SET default_transaction_read_only = off");
            let sql = "ALTER TABLE app_orders ADD x int";
            is_refused(&mut closed, sql, "receives from the other server");
        }
        pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
        for server in [pair.publisher(), pair.subscriber()] {
            let left = "SELECT (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'flare')";
            assert_eq!(server.value(pair.db(), left), "0");
        }
    }
}

/// What versions before 14 do not know.
const SINCE_14: [&str; 6] = [
    "CREATE TABLE measured (id int, at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
     CREATE TABLE measured_2 PARTITION OF measured FOR VALUES FROM ('2026-02-01') TO ('2026-03-01'); CREATE TABLE \"measured concurrently\" PARTITION OF measured FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
     INSERT INTO measured VALUES (1, '2026-01-05'), (2, '2026-02-05'), (3, '2026-03-05')",
    // It leaves a CHECK in place of the bounds.
    "ALTER TABLE measured DETACH PARTITION measured_1 CONCURRENTLY",
    "ALTER TABLE public . measured DETACH /* finalize */ PARTITION \"measured concurrently\" concurrently -- now",
    "INSERT INTO measured VALUES (2, '2026-02-06'); INSERT INTO measured_1 VALUES (4, '2026-01-06')",
    "CREATE FUNCTION atomic() RETURNS int BEGIN /* x */ ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END; CREATE TABLE after_atomic (id int PRIMARY KEY)",
    "CREATE PROCEDURE makes(n int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP EXECUTE 'CREATE TABLE made_' || i || ' (id int PRIMARY KEY)'; COMMIT; END LOOP; END $$",
];

#[test]
fn streamed_transactions_are_carried_and_data_is_equal() {
    let small = [("logical_decoding_work_mem", "64kB")];
    let pair = Pair::between(Cluster::private(14, &small), Cluster::private(17, &[]));
    pair.configure(|config| {
        let streaming: serde_yaml::Value = serde_yaml::from_str("{streaming: on}").expect("YAML");
        config["subscriptions"][pair.subname()]["options"] = streaming;
    });
    let pair = armed(pair, "carry");
    let set = format!("ALTER SUBSCRIPTION {} SET (streaming = on)", pair.subname());
    pair.subscriber().sql(pair.db(), &set);
    let mut client = owner(&pair, Side::Publisher);
    for statement in [
        "BEGIN",
        "INSERT INTO app_serials (client, counter) SELECT 9, n FROM generate_series(1, 5000) n",
        "ALTER TABLE app_serials ADD COLUMN big text",
        "UPDATE app_serials SET big = repeat('x', 100) WHERE client = 9",
        "CREATE TABLE within (id int PRIMARY KEY)",
        "INSERT INTO within VALUES (1)",
        "ALTER TABLE app_serials RENAME COLUMN big TO large",
        "INSERT INTO app_serials (client, counter, large) SELECT 9, n, 'y' FROM generate_series(5001, 9000) n",
        "COMMIT",
    ] {
        runs(&mut client, statement);
    }
    for statement in SINCE_14 {
        runs(&mut client, statement);
    }
    settle(&pair, Side::Publisher);
    assert_same(&pair);
    pair.flare(&["verify_data", pair.subname()]).ok();
    costs_little(&pair);
}

/// What a statement costs its server process, beside the same without carrying; the clock would tell what else runs.
fn costs_little(pair: &Pair) {
    let mut client = pair.publisher().superuser_session(pair.db());
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .expect("the process")
        .get(0);
    let schedule = format!("/proc/{pid}/schedstat");
    let used = || -> Option<u64> {
        let words = std::fs::read_to_string(&schedule).ok()?;
        words.split_whitespace().next()?.parse().ok()
    };
    if used().is_none() {
        return;
    }
    // What it costs more than beside it.
    let costs = |client: &mut postgres::Client, statement: &str, undo: &str| -> u64 {
        let mut took = [Vec::new(), Vec::new()];
        for round in 0..100 {
            let off = round % 2;
            runs(
                client,
                ["SET flare.carry = ''", "SET flare.carry = off"][off],
            );
            let before = used();
            runs(client, statement);
            took[off].push(used().unwrap_or_default() - before.unwrap_or_default());
            runs(client, undo);
        }
        let [carried, beside] = took.map(median);
        println!("{statement}: {carried} us carried, {beside} us beside it");
        carried.saturating_sub(beside)
    };
    runs(&mut client, "CREATE TABLE priced (id int PRIMARY KEY)");
    let drops = "ALTER TABLE priced DROP cost";
    let plain = costs(&mut client, "ALTER TABLE priced ADD cost int", drops);
    assert!(plain < 1000, "{plain} us");
    // What looks into values, too: none of it reads a catalog from end to end.
    let default = costs(
        &mut client,
        "ALTER TABLE priced ADD cost int NOT NULL DEFAULT 5",
        drops,
    );
    // Of its own: a rewrite writes each dropped column anew.
    let again = "DROP TABLE priced; CREATE TABLE priced (id int PRIMARY KEY, cost int)";
    runs(&mut client, again);
    let using = costs(
        &mut client,
        "ALTER TABLE priced ALTER cost TYPE bigint USING cost::bigint",
        "ALTER TABLE priced ALTER cost TYPE int",
    );
    runs(&mut client, "DROP TABLE priced");
    assert!(
        default + using < 5 * plain,
        "{default} us and {using} us beside {plain} us"
    );
}

fn median(mut nanoseconds: Vec<u64>) -> u64 {
    nanoseconds.sort_unstable();
    nanoseconds[nanoseconds.len() / 2] / 1000
}

/// What the first statement of a session costs: carried, with an event trigger in PL/pgSQL that does nothing, with none.
#[test]
#[ignore = "a measurement"]
fn the_first_statement_of_a_session() {
    let pair = armed(Pair::new(14, 17), "carry");
    let server = pair.publisher();
    let own = "SELECT string_agg(format('ALTER EVENT TRIGGER %I WORD', evtname), ';') FROM pg_event_trigger WHERE evtname LIKE 'flare%'";
    let own = server.value(pair.db(), own);
    server.sql(
        pair.db(),
        "CREATE FUNCTION nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    );
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..60 {
        let way = round % 3;
        server.sql(
            pair.db(),
            &own.replace("WORD", if way == 0 { "ENABLE" } else { "DISABLE" }),
        );
        if way == 1 {
            server.sql(
                pair.db(),
                "CREATE EVENT TRIGGER nothing ON ddl_command_end EXECUTE PROCEDURE nothing()",
            );
        }
        let mut client = server.superuser_session(pair.db());
        let pid: i32 = client
            .query_one("SELECT pg_backend_pid()", &[])
            .expect("the process")
            .get(0);
        let used = || -> u64 {
            let words = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("Linux");
            words
                .split_whitespace()
                .next()
                .and_then(|it| it.parse().ok())
                .expect("nanoseconds")
        };
        let before = used();
        runs(&mut client, "ALTER TABLE app_serials ADD cost int");
        took[way].push(used() - before);
        runs(&mut client, "ALTER TABLE app_serials DROP cost");
        if way == 1 {
            server.sql(pair.db(), "DROP EVENT TRIGGER nothing");
        }
    }
    let [carried, nothing, none] = took.map(median);
    println!(
        "the first statement of a session: {carried} us carried, {nothing} us with a trigger that does nothing, {none} us without any"
    );
}
