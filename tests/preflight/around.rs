//! Faults around the rows: who logs in, what roles set, what fires, what a version does not have.

use super::{assert_found, look, of};
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair};

#[test]
fn what_keeps_the_application_out_is_named() {
    for (old, new) in [(10, 18), (13, 14)] {
        let pair = Pair::alone(old, new).with_accounts(1);
        let (db, names) = (pair.db(), pair.names());
        let (app, repl) = (&names.app, &names.repl);
        pair.publisher().sql(
            "postgres",
            &format!(
                "SET password_encryption = 'md5'; ALTER ROLE {app} PASSWORD 'x';
                 ALTER ROLE {app} SET session_preload_libraries = 'nix';
                 ALTER ROLE {app} SET default_transaction_read_only = off;
                 ALTER ROLE {app} SET password_encryption = 'on';
                 ALTER ROLE {repl} SET statement_timeout = '2s'; ALTER ROLE {repl} VALID UNTIL '2001-01-01';
                 ALTER DATABASE {db} SET synchronous_commit = off;"
            ),
        );
        if old < 12 {
            pair.publisher().sql(
                "postgres",
                &format!("ALTER ROLE {app} SET default_with_oids = off"),
            );
        }
        let subscriber = pair.subscriber();
        pair.create_roles_on(subscriber);
        pair.create_database_on(subscriber);
        subscriber.sql(
            "postgres",
            &format!(
                "ALTER DATABASE {db} SET client_encoding = 'LATIN1'; REVOKE CONNECT ON DATABASE {db} FROM PUBLIC;
                 SET password_encryption = 'md5'; ALTER ROLE {app} PASSWORD 'x'"
            ),
        );
        pair.configure(|config| {
            config["cutover"]["app_users"] = vec![serde_yaml::Value::from(app.as_str())].into();
        });
        let json = look(&pair);
        let reset = format!(r#"ALTER ROLE \"{app}\" RESET "#);
        assert_found(&json, "app_login", "warning", "an md5 hash, and line");
        assert_found(&json, "app_connect", "warning", &format!(r#"TO \"{app}\""#));
        assert_found(
            &json,
            "preload_libraries",
            "blocker",
            &format!("{reset}session_preload_libraries"),
        );
        assert_found(
            &json,
            "read_only_off",
            "warning",
            &format!("{reset}default_transaction_read_only"),
        );
        assert_found(
            &json,
            "setting_values",
            "warning",
            "password_encryption = on",
        );
        assert_found(&json, "timeouts", "pass", "statement_timeout = 2s");
        assert_found(&json, "repl_user", "blocker", "has expired");
        assert_found(&json, "synchronous_commit", "warning", db);
        assert_found(&json, "text_settings", "pass", "client_encoding = LATIN1");
        if old < 12 {
            assert_found(&json, "unknown_settings", "warning", "default_with_oids");
        }
        let conn = |config: &mut serde_yaml::Value, user: serde_yaml::Value| {
            config["hosts"]["subscriber"]["conn"]["repl_user"] = user.clone();
            config["hosts"]["subscriber"]["conn"]["repl_user_password"] = user;
        };
        let repl = &pair.names().repl;
        subscriber.sql("postgres", &format!("ALTER ROLE {repl} NOREPLICATION"));
        pair.configure(|config| conn(config, repl.as_str().into()));
        assert_found(
            &look(&pair),
            "repl_user_back",
            "warning",
            "may not replicate",
        );
        pair.configure(|config| conn(config, serde_yaml::Value::Null));
        // What the subscriber does not take is left out and said, and the other roles arrive.
        let roles = pair
            .flare(&["replicate_roles", "--format", "json"])
            .ok()
            .json();
        let notes = roles["notes"].to_string();
        assert!(
            notes.contains("password_encryption") && notes.contains("does not take"),
            "{notes}"
        );
        assert!(notes.contains("session_preload_libraries"), "{notes}");
        let settings =
            format!("SELECT array_to_string(rolconfig, ' ') FROM pg_roles WHERE rolname = '{app}'");
        let settings = subscriber.value("postgres", &settings);
        assert_eq!(settings, "default_transaction_read_only=off");
        assert!(subscriber.connect("postgres", app, Passwords::APP).is_err());
    }
}

#[test]
fn what_fires_or_fails_on_apply_is_named() {
    for (old, new) in [(10, 10), (18, 18)] {
        let pair = Pair::alone(old, new).with_accounts(1);
        let (db, publisher) = (pair.db(), pair.publisher());
        publisher.sql(
            db,
            r"CREATE TABLE audit (id int); ALTER TABLE audit REPLICA IDENTITY FULL;
              CREATE TABLE t (id int PRIMARY KEY, name text); ALTER TABLE t ADD CHECK (id > 0) NOT VALID;
              INSERT INTO t VALUES (1, 'a');
              CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit VALUES (1); RETURN NEW; END';
              CREATE TRIGGER log AFTER INSERT ON t FOR EACH ROW EXECUTE PROCEDURE log(); ALTER TABLE t ENABLE ALWAYS TRIGGER log;
              CREATE FUNCTION quiet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
              CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE PROCEDURE quiet();
              CREATE TABLE words (word text);
              CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
              CREATE FUNCTION fine(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
              CREATE INDEX t_known ON t (known(name)); CREATE INDEX t_fine ON t (fine(name));
              CREATE DOMAIN wording AS text CHECK (known(VALUE)); CREATE TABLE worded (id int PRIMARY KEY, w wording);
              CREATE DOMAIN harmless AS text CHECK (fine(VALUE) <> ''); CREATE TABLE tame (id int PRIMARY KEY, w harmless);
              CREATE FUNCTION placed(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
              CREATE TABLE spread (name text) PARTITION BY LIST (placed(name));
              CREATE OR REPLACE FUNCTION placed(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT word FROM words WHERE word = $1';
              CREATE OR REPLACE FUNCTION known(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT EXISTS (SELECT 1 FROM words WHERE word = $1)';
              CREATE FUNCTION deep(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN EXISTS (SELECT 1 FROM words); END';
              CREATE TABLE empty (id int PRIMARY KEY, name text, CHECK (deep(name)));
              CREATE TABLE parent (a int, b int, id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, b int, a int);
              ALTER TABLE child INHERIT parent;
              UPDATE pg_extension SET extname = 'gone' WHERE extname = 'plpgsql';
              ALTER TABLE words REPLICA IDENTITY FULL;",
        );
        let directory = publisher.value("postgres", "SHOW data_directory");
        // Code of the application's and the owner's tables that takes whatever rights it is run with.
        for role in [&pair.names().app, &pair.names().owner] {
            publisher.sql(
                db,
                &format!(
                    "CREATE FUNCTION {role}_takes(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 1; END';
                     CREATE FUNCTION {role}_reads(int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 1::bigint';
                     CREATE TABLE of_{role} (id int PRIMARY KEY); INSERT INTO of_{role} VALUES (1);
                     CREATE INDEX takes_{role} ON of_{role} ({role}_takes(id)); CREATE INDEX takes_1_{role} ON of_{role} ((id + {role}_takes(1)));
                     CREATE INDEX reads_{role} ON of_{role} ({role}_reads(id));
                     CREATE DOMAIN d_{role} AS int CHECK ({role}_takes(VALUE) > 0); ALTER DOMAIN d_{role} OWNER TO {role};
                     CREATE TABLE in_{role} (id int PRIMARY KEY, d d_{role}); INSERT INTO in_{role} VALUES (1, 1);
                     CREATE OR REPLACE FUNCTION {role}_takes(int) RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN
                       RESET ROLE; COPY (SELECT 1) TO '{directory}/taken_{role}';
                       RETURN 1; EXCEPTION WHEN insufficient_privilege THEN PERFORM * FROM words_{role}; END $$;
                     CREATE OR REPLACE FUNCTION {role}_reads(int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT count(*) FROM words';
                     ALTER TABLE of_{role} OWNER TO {role}; ALTER FUNCTION {role}_takes(int) OWNER TO {role};
                     ALTER FUNCTION {role}_reads(int) OWNER TO {role}"
                ),
            );
        }
        let subscriber = pair.subscriber();
        pair.create_roles_on(subscriber);
        pair.create_database_on(subscriber);
        subscriber.sql(
            db,
            "CREATE TABLE parent (a int, b int, id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent)",
        );
        let mut json = look(&pair);
        for _ in 0..5 {
            if json.to_string().contains("the server was too busy") {
                json = look(&pair);
            }
        }
        assert_found(&json, "apply_triggers", "blocker", "log on public.t");
        assert_found(&json, "event_triggers", "pass", "watch (ddl_command_end");
        assert_found(&json, "search_path", "blocker", "index public.t_known");
        assert_found(&json, "search_path", "blocker", "public.empty");
        let failing = of(&json, "search_path")[0].to_string();
        for harmless in ["t_fine", "harmless"] {
            assert!(!failing.contains(harmless), "{failing}");
        }
        for checked in ["of domain public.wording", "partition key of public.spread"] {
            assert_found(&json, "search_path", "blocker", checked);
        }
        let (app, owner) = (&pair.names().app, &pair.names().owner);
        // The owner's is evaluated by the owner; of others' it is only read.
        for index in [
            format!("public.takes_{owner}"),
            format!("public.reads_{owner}"),
            format!("public.reads_{app}"),
            format!("of domain public.d_{owner}"),
        ] {
            assert_found(&json, "search_path", "blocker", &index);
        }
        for not_run in [format!("takes_{app}"), format!("d_{app}")] {
            assert!(!failing.contains(&not_run), "{failing}");
        }
        assert_found(&json, "search_path", "pass", &format!("public.takes_{app}"));
        let taken = "SELECT count(*) FROM pg_ls_dir('.') f WHERE f LIKE 'taken%'";
        assert_eq!(publisher.value(db, taken), "0", "no administrator ran it");
        publisher.sql(db, &format!("SELECT {app}_takes(1)"));
        assert_eq!(publisher.value(db, taken), "1", "one would be taken by it");
        assert_found(&json, "not_valid", "pass", "t_id_check on public.t");
        assert_found(&json, "column_order", "warning", "public.child");
        // A 10 of the tests cannot list what it offers.
        if new > 10 {
            assert_found(&json, "extensions", "blocker", "gone ");
        }
        publisher.sql(
            db,
            "UPDATE pg_extension SET extname = 'plpgsql' WHERE extname = 'gone'",
        );
    }
}

#[test]
fn foreign_keys_that_lead_out_and_login_triggers_are_named() {
    let pair = Pair::new(17, 18).with_accounts(1);
    let db = pair.db();
    pair.publisher().sql(
        db,
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY REFERENCES a);
         CREATE TABLE seen (id serial PRIMARY KEY);
         CREATE FUNCTION hello() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen DEFAULT VALUES; END';
         CREATE FUNCTION \"from; a library\"(bytea, text) RETURNS bytea LANGUAGE c AS '$libdir/pgcrypto', 'pg_digest';
         CREATE FUNCTION deep(bytea, text) RETURNS bytea LANGUAGE c AS '$libdir/pgcrypto', 'pg_digest';
         CREATE FUNCTION lost(bytea, text) RETURNS bytea LANGUAGE c AS '$libdir/pgcrypto', 'pg_digest';
         UPDATE pg_proc SET probin = '/opt/pgcrypto' WHERE proname = 'deep'; UPDATE pg_proc SET probin = '$libdir/lost' WHERE proname = 'lost';
         CREATE SCHEMA app; CREATE TABLE app.flare_replication_status (id int PRIMARY KEY); CREATE VIEW flare_replication_statuses AS SELECT 1 AS one;
         CREATE FUNCTION \"note it\"() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO public.seen DEFAULT VALUES; END;
         CREATE FUNCTION hello_too() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM public.\"note it\" (); END';
         CREATE EVENT TRIGGER hello ON login EXECUTE FUNCTION hello();
         CREATE EVENT TRIGGER hello_too ON login EXECUTE FUNCTION hello_too();
         CREATE TABLE squeezed (a int PRIMARY KEY, \"B.b\" text); UPDATE pg_attribute SET attcompression = 'l' WHERE attrelid = 'squeezed'::regclass AND attname = 'B.b'",
    );
    let owner = &pair.names().owner;
    let given = format!("CREATE EXTENSION lo; ALTER FUNCTION lo_oid(lo) OWNER TO {owner}");
    pair.publisher().sql(db, &given);
    pair.subscriber().sql(
        "postgres",
        &format!("CREATE DATABASE {db} TEMPLATE template0 LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"),
    );
    pair.configure(|config| {
        config["publications"][db]["tables"] = vec![serde_yaml::Value::from("a")].into();
        config["publications"][db]
            .as_mapping_mut()
            .expect("a mapping")
            .remove("replica_identity_full_tables");
    });
    let json = look(&pair);
    assert_found(&json, "foreign_keys", "warning", "public.b to public.a");
    assert_found(
        &json,
        "login_triggers",
        "warning",
        "hello (login, on the publisher)\",\"hello_too (login, on the publisher)",
    );
    // No server of the tests is built with lz4.
    let column = "ALTER TABLE public.squeezed ALTER \\\"B.b\\\" SET COMPRESSION default";
    assert_found(&json, "compression", "blocker", column);
    let given = format!("function public.lo_oid(public.lo) of lo ({owner})");
    assert_found(&json, "extension_owners", "warning", &given);
    for (severity, function) in [
        ("pass", "from; a library"),
        ("warning", "deep"),
        ("blocker", "lost"),
    ] {
        assert_found(&json, "untrusted_languages", severity, function);
    }
    assert_found(
        &json,
        "own_names",
        "blocker",
        "app.flare_replication_status\",\"public.flare_replication_statuses",
    );
    assert_found(
        &json,
        "collation_version",
        "warning",
        "C.UTF-8 of provider c on the subscriber",
    );
    let before = pair.publisher().value(db, "SELECT count(*) FROM seen");
    look(&pair);
    let after = pair.publisher().value(db, "SELECT count(*) FROM seen");
    let count = |text: String| text.parse::<u32>().expect("a number");
    assert_eq!(count(after), count(before) + 2);
}

#[test]
fn commands_refuse_what_preflight_blocks_before_they_change_anything() {
    let pair = Pair::new(14, 18).with_accounts(1);
    let (db, sub) = (pair.db(), pair.subname());
    pair.publisher().sql(db, "CREATE TABLE \"no key\" (id int)");
    for command in [
        &["create_publication", db][..],
        &["create_subscription", sub],
        &["prepare", sub, "--yes"],
        &["prepare", sub, "--dry-run"],
    ] {
        pair.flare(command)
            .code(1)
            .says("publish public.no key: without a replica identity")
            .says("(replica_identity)")
            .says("hint: ALTER TABLE \"public\".\"no key\" ADD PRIMARY KEY");
    }
    let publications = "SELECT count(*) FROM pg_publication";
    assert_eq!(pair.publisher().value(db, publications), "0");
}

#[test]
fn without_superuser_what_cannot_be_seen_is_named_and_nothing_else_is_said() {
    for (old, new) in [(13, 16), (18, 18)] {
        let pair = Pair::between(
            Cluster::private_rds(old, &[]),
            Cluster::private_rds(new, &[]),
        )
        .with_accounts(1);
        let json = look(&pair);
        for (server, side) in [
            (pair.publisher(), "publisher"),
            (pair.subscriber(), "subscriber"),
        ] {
            let admin = server.admin();
            let grant = format!("GRANT CREATE ON DATABASE postgres TO {admin}");
            assert_found(&json, "records", "warning", &format!("of the {side}"));
            server.sql("postgres", &grant);
        }
        let json = look(&pair);
        assert_eq!(super::found(&json, "blocker"), Vec::<String>::new());
        assert_eq!(super::found(&json, "warning"), Vec::<String>::new());
        assert_found(&json, "not_seen", "pass", "app_login");
        assert_found(&json, "not_seen", "pass", "permission denied");

        // What others own, and who is at work as more than flare is.
        let (db, publisher) = (pair.db(), pair.publisher());
        publisher.sql(db, "CREATE SEQUENCE theirs");
        let _at_work = publisher.superuser_session(db);
        let json = look(&pair);
        assert_found(&json, "sequence_rights", "warning", "public.theirs");
        assert_found(
            &json,
            "superuser_sessions",
            "warning",
            publisher.superuser(),
        );
    }
}
