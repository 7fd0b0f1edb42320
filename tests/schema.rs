//! `replicate_schema`: every ending, and what is left behind.

use std::time::Duration;

use serde_json::json;

use crate::support::{Cluster, Pair, matrix, wait};

/// What a database of an application has; `{app}` and `{owner}` are roles.
const SHOP: &str = r#"
    CREATE EXTENSION hstore;
    CREATE SCHEMA ext AUTHORIZATION {owner};
    CREATE EXTENSION pgcrypto SCHEMA ext;
    SET ROLE {owner};
    CREATE SCHEMA "Od,d";
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
    CREATE TABLE items (id serial PRIMARY KEY, name text DEFAULT 'a;b', feeling mood, tags public.hstore);
    CREATE TABLE "Od,d"."T;1" (a int REFERENCES items, token text DEFAULT ext.gen_random_uuid()::text);
    CREATE INDEX ON items (lower(name)) WHERE id > 10;
    CREATE VIEW v AS SELECT i.id, i.name FROM items i WHERE i.id > 3 GROUP BY i.id;
    CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM items;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN -- a; 'b
      RETURN NEW; END $f$;
    CREATE TRIGGER touched BEFORE INSERT ON items FOR EACH ROW EXECUTE PROCEDURE touch();
    CREATE TYPE span AS RANGE (subtype = float8);
    CREATE DOMAIN word AS text CHECK (VALUE ~ '^[a-z]+$');
    CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int, initcond = '0');
    CREATE RULE also AS ON INSERT TO items WHERE new.id < 0 DO INSTEAD (DELETE FROM items WHERE id = new.id; SELECT 1);
    CREATE POLICY mine ON items USING (name = current_user);
    CREATE VIEW w AS SELECT EXTRACT(year FROM now()) AS y, substring(i.name FROM 2 FOR 1) AS s, row_number() OVER (PARTITION BY i.id) AS n FROM items i WHERE EXISTS (SELECT 1 FROM items j WHERE j.id = i.id);
    CREATE TABLE parts (id int, d date) PARTITION BY RANGE (d);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    GRANT SELECT ON items TO {app};
    GRANT USAGE ON SCHEMA ext TO {app} WITH GRANT OPTION;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {app};
    RESET ROLE;
    CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN END $f$;
    CREATE EVENT TRIGGER watched ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE PROCEDURE watch();
    REVOKE ALL ON DATABASE {db} FROM PUBLIC;
    GRANT CONNECT ON DATABASE {db} TO {app} WITH GRANT OPTION;
    COMMENT ON DATABASE {db} IS 'the ''shop''';
    ALTER DATABASE {db} SET statement_timeout = '90s';
    ALTER DATABASE {db} SET default_transaction_read_only = on;
    ALTER DATABASE {db} CONNECTION LIMIT 40;
    ALTER ROLE {app} IN DATABASE {db} SET search_path TO "$user", "Od,d";
"#;

/// What `pg_dump` leaves out of a schema.
const AROUND: &str = "
    SELECT concat_ws('|', pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
             (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(datacl) a), shobj_description(d.oid, 'pg_database'),
             (SELECT string_agg(coalesce(NULLIF(setrole, 0)::regrole::text, '-') || (SELECT string_agg(c, ';' ORDER BY c) FROM unnest(setconfig) c), ' ' ORDER BY setrole <> 0)
                FROM pg_db_role_setting WHERE setdatabase = d.oid))
      FROM pg_database d WHERE datname = current_database()";

fn shop(old: u32, new: u32) -> Pair {
    let pair = Pair::new(old, new);
    fill(&pair, SHOP);
    pair.create_roles_on(pair.subscriber());
    pair
}

fn fill(pair: &Pair, sql: &str) {
    let names = pair.names();
    let sql = sql
        .replace("{app}", &names.app)
        .replace("{owner}", &names.owner)
        .replace("{repl}", &names.repl)
        .replace("{db}", &names.db);
    pair.publisher().sql(pair.db(), &sql);
}

fn exists(pair: &Pair) -> bool {
    let count = format!(
        "SELECT count(*) FROM pg_database WHERE datname = '{}'",
        pair.db()
    );
    pair.subscriber().value("postgres", &count) == "1"
}

#[test]
fn created_then_already_on_every_pair() {
    matrix::for_some_pairs(|old, new| {
        let pair = shop(old, new);
        let db = pair.db();
        let dry = pair.flare(&["replicate_schema", db, "--dry-run", "--format", "json"]);
        assert_eq!(dry.ok().json()["outcome"], "created");
        assert!(!exists(&pair));
        let first = pair
            .flare(&["replicate_schema", db, "--format", "json"])
            .ok()
            .json();
        assert_eq!(
            (&first["outcome"], &first["changed"]),
            (&json!("created"), &json!(true)),
            "{first}"
        );
        assert_eq!(
            pair.subscriber().value(db, AROUND),
            pair.publisher().value(db, AROUND)
        );
        let second = pair.flare(&["replicate_schema", db, "--format", "json"]);
        let second = second.ok().json();
        assert_eq!(
            (&second["outcome"], &second["changed"]),
            (&json!("already"), &json!(false)),
            "{second}"
        );
        // What a database has beside its objects is made equal again.
        pair.subscriber().sql(
            "postgres",
            &format!("ALTER DATABASE {db} RESET statement_timeout"),
        );
        let third = pair
            .flare(&["replicate_schema", db, "--format", "json"])
            .ok()
            .json();
        assert_eq!(
            (&third["outcome"], &third["changed"]),
            (&json!("already"), &json!(true)),
            "{third}"
        );
        assert_eq!(
            pair.subscriber().value(db, AROUND),
            pair.publisher().value(db, AROUND)
        );
    });
}

#[test]
fn older_clients_do_as_well() {
    for (old, new, client) in [(10, 14, 17), (14, 15, 17)] {
        let pair = shop(old, new).clients(client);
        pair.flare(&["replicate_schema", pair.db()]).ok();
        pair.flare(&["replicate_schema", pair.db()])
            .ok()
            .prints("holds the same schema already");
    }
}

/// What a newer server prints otherwise once it has been loaded: a list of strings that a varchar is compared with, the
/// name of a NOT NULL constraint, children with another order of columns, a function beside its operator family.
const PRINTED_OTHERWISE: &str = "SET TRANSACTION READ WRITE; SET ROLE {owner};
    CREATE TABLE catalogue_productattributevalue_value_multi_option (id int PRIMARY KEY, productattributevalue_id bigint NOT NULL, state varchar(9) NOT NULL);
    CREATE INDEX by_state ON catalogue_productattributevalue_value_multi_option (id) WHERE state IN ('new', 'old');
    CREATE TABLE parent (a int, b int); CREATE TABLE child (b int, a int); ALTER TABLE child INHERIT parent;
    RESET ROLE; CREATE FUNCTION hash_of(bigint) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT hashint8($1)';
    CREATE OPERATOR FAMILY crossed USING hash;
    CREATE OPERATOR CLASS of_int FOR TYPE int4 USING hash FAMILY crossed AS OPERATOR 1 =, FUNCTION 1 (int8, int8) hash_of(bigint)";

#[test]
fn another_schema_is_refused_with_the_differences() {
    let pair = shop(13, 18);
    let db = pair.db();
    fill(&pair, PRINTED_OTHERWISE);
    pair.flare(&["replicate_schema", db]).ok();
    for dry_run in [&["--dry-run"][..], &[]] {
        pair.flare(&[&["replicate_schema", db], dry_run].concat())
            .ok()
            .prints("holds the same schema already")
            .prints("INDEX by_state in schema public");
    }
    pair.subscriber().sql(
        db,
        "SET TRANSACTION READ WRITE; ALTER TABLE items ADD extra int; CREATE SCHEMA flare; CREATE TABLE flare.journal (a int)",
    );
    let run = pair.flare(&["replicate_schema", db]);
    run.code(1)
        .says("1 difference:")
        .says("TABLE items in schema public");
    pair.subscriber().sql(
        db,
        "SET TRANSACTION READ WRITE; ALTER TABLE items DROP extra",
    );
    pair.flare(&["replicate_schema", db]).ok().prints("already");
}

#[test]
fn roles_and_extensions_that_lack_are_named_before_anything_is_created() {
    let pair = Pair::new(10, 18);
    fill(&pair, SHOP);
    let db = pair.db();
    pair.flare(&["replicate_schema", db])
        .code(1)
        .says(&format!("{}, {}", pair.names().app, pair.names().owner))
        .says("hint: run flare replicate_roles");
    pair.create_roles_on(pair.subscriber());
    fill(
        &pair,
        "SET TRANSACTION READ WRITE; CREATE EXTENSION adminpack",
    );
    pair.flare(&["replicate_schema", db])
        .code(1)
        .says("does not offer extensions of the database: adminpack 1.1");
    assert!(!exists(&pair));
}

#[test]
fn a_statement_that_fails_is_named_and_leaves_nothing() {
    let pair = shop(10, 18);
    let db = pair.db();
    // Nobody looks at options that were given to a wrapper without its validator.
    pair.publisher().sql(
        db,
        "SET TRANSACTION READ WRITE; CREATE EXTENSION postgres_fdw;
         ALTER FOREIGN DATA WRAPPER postgres_fdw NO VALIDATOR; CREATE SERVER odd FOREIGN DATA WRAPPER postgres_fdw OPTIONS (odd 'x')",
    );
    pair.flare(&["replicate_schema", db])
        .code(1)
        .says("SERVER odd")
        .says("invalid option \"odd\"");
    assert!(!exists(&pair));
    // A database that was there is not dropped.
    pair.create_database_on(pair.subscriber());
    pair.flare(&["replicate_schema", db])
        .code(1)
        .says("invalid option \"odd\"");
    assert!(exists(&pair));
    pair.publisher()
        .sql(db, "SET TRANSACTION READ WRITE; DROP SERVER odd");
    let run = pair
        .flare(&["replicate_schema", db, "--format", "json"])
        .ok()
        .json();
    assert_eq!(run["outcome"], "loaded");
    pair.flare(&["replicate_schema", db]).ok().prints("already");
}

#[test]
fn a_locale_that_the_subscriber_lacks_is_an_error_before_anything_is_created() {
    let pair = Pair::alone(16, 14);
    let db = pair.db();
    pair.create_roles_on(pair.subscriber());
    pair.publisher()
        .sql("postgres", &format!("DROP DATABASE {db}"));
    pair.publisher().sql(
        "postgres",
        &format!("CREATE DATABASE {db} OWNER {} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'", pair.names().owner),
    );
    pair.flare(&["replicate_schema", db])
        .code(1)
        .says("of the provider ICU");
    assert!(!exists(&pair));
}

fn with_many_tables(pair: &Pair) {
    fill(
        pair,
        "DO $$ BEGIN FOR i IN 1..1500 LOOP EXECUTE format('CREATE TABLE many_%s (a int PRIMARY KEY, b text UNIQUE, c int CHECK (c > 0))', i); END LOOP; END $$",
    );
}

#[test]
#[ignore = "make soak"]
fn interrupted_it_leaves_nothing() {
    let pair = Pair::new(13, 18);
    pair.create_roles_on(pair.subscriber());
    with_many_tables(&pair);
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let running = pair.spawn(&["replicate_schema", pair.db()]);
        running.until_stderr("loading the schema");
        running.signal(signal);
        running.wait().code(code);
        assert!(!exists(&pair));
    }
}

#[test]
fn killed_it_leaves_an_empty_database_that_the_next_run_fills() {
    let pair = shop(13, 18);
    let db = pair.db();
    pair.create_database_on(pair.subscriber());
    // Whatever writes a constraint waits for this.
    let mut held = pair.subscriber().superuser_session(db);
    let held = &mut held;
    held.batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_constraint IN SHARE MODE")
        .unwrap();
    let running = pair.spawn(&["replicate_schema", db]);
    running.until_stderr("loading the schema");
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{db}' AND wait_event_type = 'Lock'"
    );
    wait::for_("psql to wait", Duration::from_secs(30), || {
        pair.subscriber().value("postgres", &waiting) == "1"
    });
    running.kill_9();
    // psql lives on, and the next run does not get in its way.
    if pair.subscriber().value("postgres", &waiting) == "1" {
        pair.flare(&["replicate_schema", db])
            .code(1)
            .says("an earlier run is still loading it");
    }
    pair.subscriber().sql(
        "postgres",
        &format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{db}' AND wait_event_type = 'Lock'"
        ),
    );
    held.batch_execute("ROLLBACK").unwrap();
    let objects = "SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relkind = 'r'";
    assert_eq!(pair.subscriber().value(db, objects), "0");
    let run = pair.flare(&["replicate_schema", db, "--format", "json"]);
    assert_eq!(run.ok().json()["outcome"], "loaded");
    pair.flare(&["replicate_schema", db]).ok().prints("already");
}

#[test]
fn a_database_without_objects_is_created_once() {
    let pair = Pair::new(10, 18);
    pair.create_roles_on(pair.subscriber());
    pair.flare(&["replicate_schema", pair.db()]).ok();
    pair.flare(&["replicate_schema", pair.db()])
        .ok()
        .prints("already");
    fill(&pair, "CREATE SCHEMA s; CREATE EXTENSION hstore SCHEMA s");
    pair.flare(&["replicate_schema", pair.db()])
        .ok()
        .prints("loaded");
    pair.flare(&["replicate_schema", pair.db()])
        .ok()
        .prints("already");
}

#[test]
fn printed_sql_loads_with_psql() {
    let pair = shop(10, 18);
    let db = pair.db();
    let printed = pair.flare(&["replicate_schema", db, "--only-dump"]);
    printed
        .ok()
        .prints(&format!("CREATE DATABASE \"{db}\" OWNER"))
        .prints(&format!("\\connect {db}"))
        .prints("CREATE TABLE public.items");
    assert!(!exists(&pair));
}

#[test]
fn an_administrator_without_superuser_acts_for_the_owners() {
    for (old, new) in [(10, 14), (13, 16), (16, 18)] {
        let pair = Pair::between(
            Cluster::private_rds(old, &[]),
            Cluster::private_rds(new, &[]),
        );
        let db = pair.db();
        pair.create_roles_on(pair.subscriber());
        fill(
            &pair,
            "SET ROLE {owner}; CREATE TABLE items (id int PRIMARY KEY); CREATE SCHEMA s; CREATE VIEW s.v AS SELECT id FROM items; GRANT SELECT ON items TO {app};
             RESET ROLE; GRANT CREATE ON SCHEMA public TO {app}; CREATE TABLE of_app (a int); ALTER TABLE of_app OWNER TO {app}; CREATE TABLE of_repl (a int); ALTER TABLE of_repl OWNER TO {repl}; GRANT SELECT ON of_app, of_repl TO {owner}; REVOKE CONNECT ON DATABASE {db} FROM PUBLIC; GRANT CONNECT ON DATABASE {db} TO {app}, master",
        );
        let run = pair.flare(&["replicate_schema", "--use-db-owner", db, "--format", "json"]);
        let run = run.ok().json();
        assert_eq!(run["outcome"], "created", "{run}");
        assert_eq!(
            pair.subscriber().value(db, AROUND),
            pair.publisher().value(db, AROUND)
        );
        let second = pair.flare(&["replicate_schema", "--use-db-owner", db, "--format", "json"]);
        let second = second.ok().json();
        assert_eq!(
            (&second["outcome"], &second["changed"]),
            (&json!("already"), &json!(false)),
            "{second}"
        );
        let still = format!(
            "SELECT count(*) FROM pg_auth_members WHERE member = 'master'::regrole AND roleid = '{}'::regrole AND {}",
            pair.names().owner,
            if new >= 16 { "set_option" } else { "true" }
        );
        assert_eq!(pair.subscriber().value("postgres", &still), "0");
    }
}
