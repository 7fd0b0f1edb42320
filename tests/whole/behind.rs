//! What publication and subscription do not carry: named at every step, refused by the cutover, or carried by flare itself.

use std::time::Duration;

use serde_json::Value;

use crate::support::pair::Passwords;
use crate::support::{Pair, wait};

/// Views over views, one whose name comes before what it needs, one that hides what it needs in a function, one of another
/// owner; and three kinds of rows that no publication sends.
const DATABASE: &str = r#"
    CREATE TABLE t (id int PRIMARY KEY, w int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;
    CREATE TABLE "left; --" (id int PRIMARY KEY); INSERT INTO "left; --" VALUES (1);
    CREATE UNLOGGED TABLE scratch AS SELECT 1 AS id;
    SELECT lo_create(0);
    CREATE SCHEMA "Re""ports"; GRANT USAGE ON SCHEMA "Re""ports" TO {app}, {owner};
    CREATE MATERIALIZED VIEW "Re""ports"."z; --" AS SELECT count(*) AS n FROM t;
    CREATE VIEW between_them AS SELECT n + 1 AS n FROM "Re""ports"."z; --";
    CREATE MATERIALIZED VIEW a AS SELECT n FROM between_them;
    ALTER MATERIALIZED VIEW "Re""ports"."z; --" OWNER TO {app}; GRANT SELECT ON t TO {app}; GRANT SELECT ON "Re""ports"."z; --" TO PUBLIC;
    CREATE FUNCTION hidden() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT n FROM public.a); END';
    CREATE MATERIALIZED VIEW "0" AS SELECT hidden() AS n;
    CREATE MATERIALIZED VIEW never AS SELECT 1 AS one WITH NO DATA;
    CREATE TABLE ddl_log (what text);
    CREATE FUNCTION logged() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ddl_log VALUES (tg_tag); END';
    CREATE EVENT TRIGGER logged ON ddl_command_end EXECUTE PROCEDURE logged()"#;

const COUNTS: &str = r#"SELECT (SELECT n FROM "Re""ports"."z; --") || ' ' || (SELECT n FROM a) || ' ' || (SELECT n FROM "0")"#;

fn planted(old: u32, new: u32) -> Pair {
    let pair = Pair::alone(old, new);
    let (db, names) = (pair.db(), pair.names());
    pair.publisher().sql(
        db,
        &DATABASE
            .replace("{app}", &names.app)
            .replace("{owner}", &names.owner),
    );
    let repl = names.repl.clone();
    pair.configure(|config| {
        config["publications"][db] =
            serde_yaml::from_str(&format!("{{pubname: {}, tables: [t]}}", names.pubname))
                .expect("a publication");
        let subscriber = &mut config["hosts"]["subscriber"]["conn"];
        subscriber["repl_user"] = repl.into();
        subscriber["repl_user_password"] = Passwords::REPL.into();
    });
    pair
}

fn messages(json: &Value, key: &str) -> String {
    json[key].to_string()
}

#[test]
fn what_is_not_carried_is_named_and_refused_and_views_are_refreshed() {
    for (old, new, copy) in [(10, 18, "fast"), (17, 17, "native")] {
        let pair = planted(old, new);
        let (db, sub) = (pair.db(), pair.subname());
        let [publisher, subscriber] = [pair.publisher(), pair.subscriber()];
        let args = ["prepare", sub, "--yes", "--copy", copy, "--format", "json"];
        let prepared = pair.flare(&args).ok().json();
        let left = ["public.left; --", "public.scratch", "1 large object"];
        for words in left {
            let warnings = messages(&prepared, "warnings");
            assert_eq!(warnings.matches(words).count(), 1, "{words}: {prepared:#}");
        }
        assert_eq!(subscriber.value(db, COUNTS), "100 101 101");
        let populated = "SELECT string_agg(relname, ',') FROM pg_class WHERE relkind = 'm' AND NOT relispopulated";
        assert_eq!(subscriber.value(db, populated), "never");
        // The user's event trigger has seen nothing of flare's statements.
        for server in [publisher, subscriber] {
            assert_eq!(server.value(db, "SELECT count(*) FROM ddl_log"), "0");
        }

        // What the cutover refuses does not keep an interrupted prepare from going on.
        let again = pair.flare(&["prepare", sub, "--yes", "--copy", copy, "--format", "json"]);
        assert!(messages(&again.ok().json(), "warnings").contains("1 large object"));
        let dry = pair.flare(&["cutover", sub, "--dry-run", "--format", "json"]);
        let dry = dry.code(3).json();
        let refused = pair.flare(&["cutover", sub, "--yes"]);
        let status = pair.flare(&["status"]);
        for id in ["tables_unpublished", "unlogged_tables", "large_objects"] {
            assert!(messages(&dry, "checks").contains(id), "{id}: {dry:#}");
            refused.code(1).says(&format!("({id})"));
            status.prints(&format!("({id})"));
        }
        pair.configure(|config| {
            let left = ["left; --", "public.scratch", "large_objects"].map(serde_yaml::Value::from);
            config["publications"][db]["leave_behind"] = left.to_vec().into();
        });
        publisher.sql(
            db,
            "INSERT INTO t SELECT i, i FROM generate_series(101, 150) i",
        );
        wait::for_("the rows", Duration::from_secs(20), || {
            subscriber.value(db, "SELECT count(*) FROM t") == "150"
        });
        let switched = pair.flare(&["cutover", sub, "--yes", "--format", "json"]);
        let switched = switched.ok().json();
        let warnings = messages(&switched, "warnings");
        for words in left {
            assert!(warnings.contains(words), "{words}: {switched:#}");
        }
        assert_eq!(subscriber.value(db, COUNTS), "150 151 151");
        subscriber.sql(db, "DELETE FROM t WHERE id > 50");
        wait::for_("the rows", Duration::from_secs(20), || {
            publisher.value(db, "SELECT count(*) FROM t") == "50"
        });
        pair.flare(&["fallback", sub, "--yes"]).ok();
        assert_eq!(publisher.value(db, COUNTS), "50 51 51");
    }
}
