//! What is refused, with a sentence, and what nobody gets by trying.

use crate::support::Pair;
use crate::support::application::Side;
use crate::support::pair::Passwords;

use super::both_sides::SAID_IMMUTABLE;
use super::carry::{armed, is_refused, owner, runs, settle};
use super::same::assert_same;

#[test]
fn what_would_differ_is_refused_or_corrected() {
    for (old, new) in [(18, 10), (10, 17)] {
        let pair = armed(Pair::new(old.min(new), old.max(new)), "carry");
        let open = if old > new {
            crate::cutover::fixture::switched_to(&pair, Side::Subscriber);
            Side::Subscriber
        } else {
            Side::Publisher
        };
        let mut client = owner(&pair, open);
        runs(
            &mut client,
            "CREATE TABLE filled (id int PRIMARY KEY, t text)",
        );
        runs(
            &mut client,
            "INSERT INTO filled SELECT n, 'x' FROM generate_series(1, 50) n",
        );
        runs(
            &mut client,
            "CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN dice AS float DEFAULT random(); CREATE DOMAIN moment AS timestamptz DEFAULT now()",
        );
        for function in SAID_IMMUTABLE {
            runs(&mut client, function);
        }
        if open.of(&pair).version() >= 12 {
            for sql in [
                "CREATE TABLE computed (id int PRIMARY KEY, g float GENERATED ALWAYS AS (through()) STORED)",
                "ALTER TABLE filled ADD g float GENERATED ALWAYS AS (id + said()) STORED",
            ] {
                is_refused(&mut client, sql, "declared IMMUTABLE and is not");
            }
        }
        for (sql, says) in [
            (
                "ALTER TABLE filled ADD c float DEFAULT random()",
                "In three statements: ALTER TABLE",
            ),
            (
                "ALTER TABLE filled ALTER t TYPE text USING t || through()",
                "another value there",
            ),
            ("ALTER TABLE filled ADD c serial", "would get other values"),
            (
                "ALTER TABLE filled ADD c int GENERATED ALWAYS AS IDENTITY",
                "would get other values",
            ),
            (
                "ALTER TABLE filled ALTER t TYPE text USING random()::text",
                "another value there",
            ),
            (
                "ALTER TABLE filled ALTER t TYPE text USING random/* x /* y */ */()::text",
                "another value there",
            ),
            (
                "ALTER TABLE filled ALTER t TYPE text USING U&\"r\\0061ndom\"()::text",
                "another value there",
            ),
            (
                "CREATE FUNCTION \"Any (x\"() RETURNS text LANGUAGE sql AS 'SELECT random()::text'; ALTER TABLE filled ALTER t TYPE text USING \"Any (x\" ()",
                "another value there",
            ),
            (
                "CREATE FUNCTION \"Any\"() RETURNS text LANGUAGE sql AS 'SELECT random()::text'; ALTER TABLE filled ALTER t TYPE text USING public.\"Any\"()",
                "another value there",
            ),
            (
                "CREATE FUNCTION stable_now() RETURNS text STABLE LANGUAGE sql AS 'SELECT now()::text'; ALTER TABLE filled ALTER t TYPE text USING stable_now()",
                "another value there",
            ),
            (
                "ALTER TABLE filled ALTER t TYPE text USING session_user",
                "another value there",
            ),
            (
                "ALTER TABLE filled ALTER t TYPE timestamptz USING CURRENT_TIMESTAMP",
                "another value there",
            ),
            (
                "ALTER TABLE filled ADD \"qu\"\"ote\" float DEFAULT random()",
                "In three statements: ALTER TABLE",
            ),
            ("ALTER TABLE filled ADD c dice", "would get other values"),
            (
                "ALTER TABLE filled ADD c date DEFAULT 'today'",
                "a word for a time",
            ),
            (
                "CREATE TABLE dated (id int PRIMARY KEY, d date DEFAULT 'today')",
                "a word for a time",
            ),
            (
                "CREATE DOMAIN dated AS timestamptz DEFAULT 'now'",
                "a word for a time",
            ),
            (
                "SELECT * INTO other FROM filled",
                "CREATE TABLE ... AS SELECT",
            ),
            (
                "ALTER TABLE filled SET UNLOGGED",
                "would never come to the other server",
            ),
            (
                "/* a /* b */ */ ALTER TABLE filled SET /* x */ UNLOGGED",
                "would never come to the other server",
            ),
            (
                "CREATE TEMP TABLE mine (a int); CREATE TABLE theirs AS SELECT * FROM mine",
                "names a temporary table",
            ),
            (
                "CREATE TEMP TABLE mine (a int); CREATE TABLE theirs (LIKE mine)",
                "names a temporary table",
            ),
            (
                "PREPARE it AS SELECT 1 AS a; CREATE TABLE theirs AS EXECUTE it",
                "no such prepared statement",
            ),
            (
                "CREATE TABLE one (a int); ROLLBACK",
                "string of statements with ROLLBACK",
            ),
            (
                "BEGIN; CREATE TEMP TABLE tt (a int); CREATE TABLE u (a int); DROP TABLE tt, u; COMMIT",
                "temporary objects",
            ),
            (
                "DO $$ DECLARE n int := 3; BEGIN CREATE TABLE ctas AS SELECT n AS n; END $$",
                "variables of a function",
            ),
        ] {
            is_refused(&mut client, sql, says);
        }
        for column in ["n serial", "n bigint GENERATED ALWAYS AS IDENTITY"] {
            works_as_the_hint_says(&mut client, &format!("ALTER TABLE filled ADD {column}"));
            runs(&mut client, "ALTER TABLE filled DROP n");
        }
        // Nobody has them there.
        runs(
            &mut client,
            "SELECT lo_create(4711); COMMENT ON LARGE OBJECT 4711 IS 'x'; GRANT SELECT ON LARGE OBJECT 4711 TO public; SELECT lo_unlink(4711)",
        );
        // What is not declared at all may be as good.
        runs(
            &mut client,
            "CREATE FUNCTION helps(t text) RETURNS text LANGUAGE sql AS 'SELECT lower(t)'; CREATE FUNCTION slug(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN helps(t); END'; ALTER TABLE filled ALTER t TYPE text USING slug(t)",
        );
        // An older column is not new because the table is rewritten; nor is its name a part of another word.
        runs(
            &mut client,
            "CREATE TABLE calm (id int PRIMARY KEY, n int); ALTER TABLE calm ADD lt timestamptz DEFAULT now(); INSERT INTO calm VALUES (1, 2); ALTER TABLE calm ALTER n TYPE bigint; ALTER TABLE calm ALTER n TYPE int, ALTER lt SET NOT NULL",
        );
        // Columns that are called like functions.
        runs(
            &mut client,
            "ALTER TABLE filled ADD version text DEFAULT '7', ADD age text DEFAULT '8'; ALTER TABLE filled ALTER version DROP DEFAULT, ALTER version TYPE int USING version::int; ALTER TABLE filled ALTER age DROP DEFAULT, ALTER age TYPE int USING age::int",
        );
        let app = &pair.names().app;
        let mut superuser = open.of(&pair).superuser_session(pair.db());
        runs(
            &mut superuser,
            &format!("CREATE TABLE apps (id int PRIMARY KEY); ALTER TABLE apps OWNER TO {app}"),
        );
        is_refused(
            &mut superuser,
            &format!("DROP OWNED BY {app}"),
            "Drop each object by its name",
        );
        // Of which no event trigger hears what it takes away.
        runs(
            &mut superuser,
            &format!("DROP TABLE apps; GRANT SELECT ON filled TO {app}"),
        );
        let taken = format!("DROP OWNED BY {app}");
        is_refused(&mut superuser, &taken, "REVOKE each privilege");
        // From 16 on the owner writes the rows, whom it holds: the first one would stop apply.
        let forced = "ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY";
        runs(&mut client, "CREATE TABLE forced (id int PRIMARY KEY)");
        match open.other().of(&pair).version() {
            10 => runs(&mut client, forced),
            _ => {
                is_refused(&mut client, forced, "holds for the owner of the table");
                runs(
                    &mut client,
                    "ALTER TABLE forced ENABLE ROW LEVEL SECURITY; INSERT INTO forced VALUES (1)",
                );
            }
        }
        for now in [
            "ALTER TABLE filled ADD at timestamptz DEFAULT now()",
            "ALTER TABLE filled ADD there moment",
            "ALTER TABLE filled ADD said float DEFAULT through()",
            "ALTER TABLE filled ADD its_oid oid DEFAULT 'filled'::regclass::oid",
            // What the transaction has written since is not taken back.
            "BEGIN; ALTER TABLE filled ADD again timestamptz DEFAULT now(); UPDATE filled SET again = '2020-01-01' WHERE id < 9; ALTER TABLE filled ALTER again SET NOT NULL, ADD other int; COMMIT",
            "ALTER TABLE filled DROP t, ADD t timestamptz DEFAULT now()",
        ] {
            match open.of(&pair).version() {
                10 => is_refused(&mut client, now, "would get other values"),
                _ => runs(&mut client, now),
            }
        }
        as_in_a_session_of_old(&pair, open);
        if open.other().of(&pair).version() < 12 {
            is_refused(&mut client, "ALTER TYPE mood ADD VALUE 'ok'", "before 12");
        }
        settle(&pair, open);
        assert_same(&pair);
    }
}

/// With settings by which flare's own functions would be read otherwise, and the statement there.
fn as_in_a_session_of_old(pair: &Pair, open: Side) {
    let mut client = owner(pair, open);
    runs(
        &mut client,
        "SET standard_conforming_strings = off; SET default_text_search_config = 'german'",
    );
    for (sql, says) in [
        (
            "ALTER TABLE filled ADD c float DEFAULT random()",
            "would get other values",
        ),
        (
            r"ALTER TABLE filled ALTER t TYPE text USING 'it\'s' || random()",
            "it has a backslash",
        ),
    ] {
        is_refused(&mut client, sql, says);
    }
    if open.of(pair).version() > 10 {
        let now = "ALTER TABLE filled ADD of_old timestamptz DEFAULT now()";
        runs(&mut client, now);
    }
    runs(
        &mut client,
        "CREATE TABLE old (id int PRIMARY KEY); ALTER TABLE old ADD t text DEFAULT 'a;b'; DROP TABLE IF EXISTS older;
         INSERT INTO old VALUES (1); ALTER TABLE old ALTER t DROP DEFAULT; UPDATE old SET t = 'grosse Haeuser'",
    );
    runs(
        &mut client,
        "ALTER TABLE old ALTER t TYPE tsvector USING to_tsvector(t)",
    );
}

/// The statements of the refusal's hint do it.
fn works_as_the_hint_says(client: &mut postgres::Client, refused: &str) {
    let error = client.batch_execute(refused).expect_err("a refusal");
    let hint = error
        .as_db_error()
        .and_then(|it| it.hint())
        .expect("a hint");
    let statements = hint.trim_end_matches('.').split_once(": ").expect("them").1;
    runs(client, statements);
}

#[test]
fn refuse_lets_pass_what_does_not_part_the_sides() {
    let pair = armed(Pair::new(12, 16), "refuse");
    let mut client = owner(&pair, Side::Publisher);
    let computed =
        "CREATE FUNCTION doubled(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1'";
    runs(&mut client, computed);
    pair.flare(&["replicate_schema", "--missing", pair.db()])
        .ok();
    let column =
        "ALTER TABLE app_orders ADD twice int GENERATED ALWAYS AS (doubled(counter::int)) STORED";
    pair.flare(&["ddl", pair.db(), column]).ok();
    for sql in [
        "CREATE TABLE t (a int)",
        "ALTER TABLE app_orders ADD x int",
        "DROP TABLE app_orders",
        "CREATE SCHEMA s",
        "CREATE TYPE e AS ENUM ('a')",
        "CREATE SEQUENCE q",
        "CREATE TABLE t AS SELECT 1 AS a",
        "SELECT 1 AS a INTO t",
        "DO $$ BEGIN EXECUTE 'CREATE TABLE t (a int)'; END $$",
        "ALTER INDEX app_orders RENAME TO gone",
        "DROP FUNCTION doubled(int) CASCADE",
    ] {
        is_refused(&mut client, sql, "flare is moving this database");
    }
    for sql in [
        "CREATE TEMP TABLE t (a int); ALTER TABLE t ADD b int; DROP TABLE t",
        "DROP TABLE IF EXISTS nowhere",
        "CREATE TABLE IF NOT EXISTS app_orders (a int)",
        "CREATE INDEX passes ON app_orders (value)",
        "REINDEX INDEX passes",
        "DROP INDEX passes",
        "CREATE VIEW v AS SELECT 1 AS a; ALTER TABLE v RENAME TO w; DROP VIEW w",
        "GRANT SELECT ON app_orders TO PUBLIC",
    ] {
        runs(&mut client, sql);
    }
    // flare's own commands go on.
    pair.flare(&["ddl", pair.db(), "ALTER TABLE app_orders ADD x int"])
        .ok();
    pair.flare(&["drop_subscription", pair.subname()]).ok();
    runs(&mut client, "CREATE TABLE t (a int)");
}

#[test]
fn attacks_are_refused() {
    let pair = armed(Pair::new(15, 17), "carry");
    let (db, app) = (pair.db(), &pair.names().app);
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    publisher.sql(db, &format!("GRANT pg_write_all_data, pg_read_all_data TO {app}; GRANT CREATE ON SCHEMA public TO {app}; GRANT CREATE ON DATABASE {db} TO {app}"));
    subscriber.sql(db, &format!("GRANT CREATE ON DATABASE {db} TO {app}"));
    let mut client = publisher
        .connect(db, app, Passwords::APP)
        .expect("a session");
    // Forged records, direct calls.
    for sql in [
        "INSERT INTO flare.ddl (role, tag, text, settings) VALUES ('postgres', 'CREATE TABLE', 'CREATE ROLE evil SUPERUSER', '{}')",
        "UPDATE flare.ddl SET text = 'CREATE ROLE evil'",
    ] {
        runs(
            &mut client,
            "CREATE TABLE IF NOT EXISTS seed (id int PRIMARY KEY)",
        );
        is_refused(&mut client, sql, "flare");
    }
    for call in [
        "flare.ddl_sandbox('postgres', 'CREATE ROLE evil', '{}')",
        "flare.ddl_text('', '', true)",
    ] {
        is_refused(&mut client, &format!("SELECT {call}"), "permission denied");
    }
    is_refused(
        &mut client,
        "CREATE OR REPLACE FUNCTION flare.ddl_mode() RETURNS text LANGUAGE sql AS $$SELECT 'off'::text$$",
        "permission denied",
    );
    is_refused(
        &mut client,
        "ALTER TABLE flare.ddl DISABLE TRIGGER ALL",
        "must be owner",
    );
    // Settings that would hide a statement, or another's name.
    for (number, setting) in [
        "SET flare.carry = off",
        "SET flare.extension = on",
        "SET application_name = 'flare/ddl'",
        "SET flare.who = 'postgres'",
        "SET session_replication_role = replica",
        "SET event_triggers = off",
    ]
    .iter()
    .enumerate()
    {
        client.batch_execute(setting).ok();
        runs(
            &mut client,
            &format!("CREATE TABLE hidden_{number} (id int PRIMARY KEY)"),
        );
        client.batch_execute("RESET ALL").ok();
    }
    // Operators of the attacker's own, before those of PostgreSQL in the search_path.
    runs(
        &mut client,
        r#"CREATE SCHEMA evil; CREATE FUNCTION evil.yes(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
           CREATE OPERATOR evil.= (PROCEDURE = evil.yes, LEFTARG = text, RIGHTARG = text);
           CREATE OPERATOR evil.!~~ (PROCEDURE = evil.yes, LEFTARG = text, RIGHTARG = text);
           SET search_path = evil, pg_catalog, public; SET flare.who = '{"role": "postgres", "settings": {}}';
           CREATE VIEW public.forged AS SELECT 1 AS one; RESET ALL"#,
    );
    let roles = "SELECT string_agg(DISTINCT role::text, ' ') FROM flare.ddl WHERE tag <> 'GRANT'";
    assert_eq!(publisher.value(db, roles), *app);
    settle(&pair, Side::Publisher);
    assert_same(&pair);
    // What a function of the attacker's does under apply: the statement fails, and nothing else happens.
    let evil = [
        "PERFORM set_config('role', 'none', false)",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION DEFAULT",
        "EXECUTE 'CREATE ROLE evil SUPERUSER'",
        "CREATE TEMP TABLE pg_class (a int)",
        "DROP TABLE flare.ddl",
        "UPDATE flare.ddl SET role = 'postgres'",
    ];
    runs(
        &mut client,
        "ALTER TABLE seed ADD t text; INSERT INTO seed VALUES (1, 'a')",
    );
    for (number, deed) in evil.iter().enumerate() {
        let sql = format!(
            "CREATE FUNCTION deed_{number}() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN {deed}; END $f$;
             CREATE FUNCTION evil_{number}(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $f$ BEGIN
                 IF current_setting('server_version_num')::int / 10000 = 17 THEN PERFORM public.deed_{number}(); END IF; RETURN $1; END $f$"
        );
        runs(&mut client, &sql);
        let index = format!("CREATE INDEX evil_i{number} ON seed (evil_{number}(t))");
        runs(&mut client, &index);
    }
    let last = "SELECT max(id) FROM flare.ddl WHERE tag <> 'GRANT'";
    let came = format!(
        "SELECT EXISTS (SELECT FROM flare.ddl WHERE id = {})",
        publisher.value(db, last)
    );
    crate::support::wait::for_("the statements", std::time::Duration::from_secs(60), || {
        subscriber.value(db, &came) == "t"
    });
    let failed = "SELECT count(*), string_agg(error, '; ') FROM flare.ddl WHERE outcome = 'failed' AND text LIKE '%evil%'";
    let failed = subscriber.rows(db, failed).remove(0);
    println!("{failed:?}");
    assert_eq!(failed[0].as_deref(), Some("7"), "{failed:?}");
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname = 'evil' OR rolsuper AND rolname <> 'postgres'";
    assert_eq!(subscriber.value(db, roles), "0");
    let who = format!("SELECT count(*) FROM flare.ddl WHERE role <> '{app}' AND tag <> 'GRANT'");
    assert_eq!(subscriber.value(db, &who), "0");
}
