//! Event triggers of the user: flare's own sessions and statements stay out of their sight, and those of the user do not.

use std::time::Duration;

use crate::support::pair::Passwords;
use crate::support::{Pair, wait};

/// A login trigger that lets no superuser's session of flare in, nor the subscription's; one that writes where it may; and
/// one that logs every statement, all of them into published tables.
const DATABASE: &str = r#"
    CREATE TABLE t (id int PRIMARY KEY, w int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i; ALTER TABLE t OWNER TO {owner};
    CREATE TABLE seen (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, who text, what text);
    CREATE TABLE "ddl; log" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tag text);
    CREATE FUNCTION "no; entry"() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
        IF current_setting('application_name') LIKE 'flare/%' AND (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user)
           OR current_setting('application_name') = '{sub}' THEN RAISE EXCEPTION 'not you'; END IF; END$$;
    CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN
        IF current_setting('transaction_read_only') = 'off' AND current_setting('application_name') LIKE ANY ('{flare/%,{sub}}') THEN
            INSERT INTO public.seen (who, what) VALUES (session_user, current_setting('application_name')); END IF; END$$;
    CREATE FUNCTION logged() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN
        INSERT INTO public."ddl; log" (tag) VALUES (tg_tag); END$$;
    CREATE EVENT TRIGGER "a; no entry" ON login EXECUTE FUNCTION "no; entry"();
    CREATE EVENT TRIGGER seen ON login EXECUTE FUNCTION seen();
    CREATE EVENT TRIGGER logged ON ddl_command_end EXECUTE FUNCTION logged()"#;

const FLARES: &str = "SELECT coalesce(string_agg(who || ' ' || what, ', '), '') FROM seen WHERE what LIKE 'flare/%' AND who = '{admin}'";
const LOGGED: &str = r#"SELECT coalesce(string_agg(tag, ', ' ORDER BY id), '') FROM "ddl; log""#;
const SETTING: &str =
    "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
     WHERE d.datname = '{db}' AND 'event_triggers=off' = ANY (s.setconfig)";

#[test]
#[ignore = "make soak"]
fn event_triggers_see_the_users_statements_and_none_of_flares() {
    let pair = Pair::alone(17, 18).with_accounts(1);
    let (db, sub, repl) = (pair.db(), pair.subname(), pair.names().repl.clone());
    let [publisher, subscriber] = [pair.publisher(), pair.subscriber()];
    publisher.sql(
        db,
        &DATABASE
            .replace("{sub}", sub)
            .replace("{owner}", &pair.names().owner),
    );
    pair.configure(|config| {
        let subscriber = &mut config["hosts"]["subscriber"]["conn"];
        subscriber["repl_user"] = repl.into();
        subscriber["repl_user_password"] = Passwords::REPL.into();
    });
    pair.flare(&["prepare", sub, "--yes"]).ok();
    let statement = "ALTER TABLE public.t ADD COLUMN n int";
    pair.flare(&["ddl", db, statement]).ok();
    pair.flare(&["lag"]).ok();
    pair.flare(&["cutover", sub, "--yes"]).ok();
    subscriber.sql(db, "INSERT INTO t VALUES (101, 1, 1)");
    pair.flare(&["status"]).ok();
    wait::for_("the row on the way back", Duration::from_secs(20), || {
        publisher.value(db, "SELECT count(*) FROM t") == "101"
    });
    pair.flare(&["ddl", db, "ALTER TABLE public.t DROP COLUMN n"])
        .ok();
    pair.flare(&["fallback", sub, "--yes"]).ok();
    pair.await_caught_up();
    pair.flare(&["verify_data", sub]).ok();
    for server in [publisher, subscriber] {
        let flares = FLARES.replace("{admin}", server.admin());
        assert_eq!(server.value(db, &flares), "");
        assert_eq!(server.value(db, LOGGED), "ALTER TABLE, ALTER TABLE");
        assert_eq!(server.value(db, &SETTING.replace("{db}", db)), "1");
    }
    pair.flare(&["cleanup", sub, "--yes"]).ok();
    for server in [publisher, subscriber] {
        assert_eq!(server.value(db, &SETTING.replace("{db}", db)), "0");
    }
}
