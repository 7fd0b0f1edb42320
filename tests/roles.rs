//! `replicate_roles` on servers of its own: roles belong to the whole server.

use serde_json::json;

use crate::support::{Cluster, Pair, matrix};

const RICH: &str = r#"
    CREATE ROLE "we ird""q" NOLOGIN;
    CREATE ROLE limited LOGIN PASSWORD 'x' CONNECTION LIMIT 7 VALID UNTIL '2031-01-01 00:00+00';
    CREATE ROLE bare LOGIN;
    GRANT limited TO bare WITH ADMIN OPTION;
    GRANT "we ird""q" TO limited;
    ALTER ROLE limited SET search_path TO "$user", "Od,d", public;
    ALTER ROLE limited IN DATABASE postgres SET work_mem = '9MB';
    COMMENT ON ROLE limited IS 'it''s limited';
    ALTER ROLE bare SET role = 'limited';
"#;

const SEEN: &str = "
    SELECT string_agg(concat_ws('|', rolname, rolcanlogin, rolcreatedb, rolconnlimit, rolvaliduntil AT TIME ZONE 'UTC',
             shobj_description(oid, 'pg_authid'),
             (SELECT string_agg(s.setdatabase::bool::text || array_to_string(s.setconfig, ';'), ' ' ORDER BY s.setdatabase)
                FROM (SELECT (setdatabase <> 0)::int AS setdatabase, setconfig, setrole FROM pg_db_role_setting) s WHERE s.setrole = r.oid),
             (SELECT string_agg(pg_get_userbyid(m.roleid) || m.admin_option::text, ' ' ORDER BY 1)
                FROM pg_auth_members m WHERE m.member = r.oid)), E'\\n' ORDER BY rolname)
      FROM pg_roles r WHERE rolname !~ '^(pg_|rds|master$)' AND oid <> 10";

const HASHES: &str = "SELECT coalesce(string_agg(rolname || rolpassword, ' ' ORDER BY rolname), '') FROM pg_authid WHERE oid <> 10";

fn roles(cluster: &Cluster) -> String {
    cluster.value("postgres", SEEN)
}

#[test]
fn roles_arrive_with_everything_and_only_once() {
    for &(old, new) in matrix::sample(&[(10, 18), (13, 14), (16, 17)], &[(10, 18), (16, 17)]) {
        let pair = Pair::alone(old, new);
        pair.publisher().sql("postgres", RICH);

        let planned = pair.flare(&["replicate_roles", "--dry-run", "--format", "json"]);
        let planned = planned.ok().json();
        assert_eq!(planned["changed"], false);
        assert_eq!(
            planned["roles_created"].as_array().unwrap().len(),
            6,
            "{planned}"
        );

        let mut turn = pair.subscriber().superuser_session("postgres");
        turn.batch_execute("SELECT pg_advisory_lock(x'666c6172726f6c65'::bigint)")
            .expect("take the turn");
        let waiting = pair.spawn(&["replicate_roles"]);
        waiting.until_stderr("another flare writes the subscriber's roles");
        waiting.signal(libc::SIGINT);
        waiting.wait().code(130).says("interrupted");
        drop(turn);

        // Databases are prepared side by side, and the roles are the server's: one makes them.
        let runs = [(); 2].map(|()| pair.spawn(&["replicate_roles", "--format", "json"]));
        let both = runs.map(|run| run.wait().ok().json());
        let made: Vec<_> = both.iter().filter(|it| it["changed"] == true).collect();
        assert_eq!(made.len(), 1, "{both:?}");
        let first = made[0];
        assert_eq!(first["roles_created"], planned["roles_created"]);
        assert_eq!(first["roles_left_alone"], json!(["postgres"]));
        assert_eq!(first["passwords_needed"], json!(["bare"]));
        assert_eq!(roles(pair.subscriber()), roles(pair.publisher()));
        assert_eq!(
            pair.subscriber().value("postgres", HASHES),
            pair.publisher().value("postgres", HASHES)
        );

        let second = pair
            .flare(&["replicate_roles", "--format", "json"])
            .ok()
            .json();
        assert_eq!(second["changed"], false, "{second}");
        assert_eq!(second["roles_created"], json!([]));
        assert_eq!(second["roles_updated"], json!([]));

        pair.publisher().sql(
            "postgres",
            "ALTER ROLE limited CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD 'y'; ALTER ROLE limited SET work_mem = '5MB'",
        );
        let third = pair
            .flare(&["replicate_roles", "--format", "json"])
            .ok()
            .json();
        assert_eq!(third["changed"], true);
        assert_eq!(third["roles_updated"], json!(["limited"]));
        assert_eq!(roles(pair.subscriber()), roles(pair.publisher()));
        assert_eq!(
            pair.flare(&["replicate_roles", "--format", "json"])
                .ok()
                .json()["changed"],
            false
        );
    }
}

#[test]
fn those_that_flare_connects_as_keep_attributes_and_password() {
    let pair = Pair::alone(10, 18);
    let owner = &pair.names().owner;
    pair.subscriber().sql(
        "postgres",
        &format!("CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'another'"),
    );
    let before = pair.subscriber().value("postgres", HASHES);
    let run = pair
        .flare(&["replicate_roles", "--format", "json"])
        .ok()
        .json();
    assert!(
        run["roles_left_alone"]
            .as_array()
            .unwrap()
            .contains(&json!(owner)),
        "{run}"
    );
    let attributes =
        format!("SELECT rolcreaterole AND NOT rolcreatedb FROM pg_roles WHERE rolname = '{owner}'");
    assert_eq!(pair.subscriber().value("postgres", &attributes), "t");
    assert!(
        pair.subscriber()
            .value("postgres", HASHES)
            .contains(&before)
    );
}

#[test]
fn the_dump_holds_hashes_only_when_asked_for() {
    let pair = Pair::alone(13, 18);
    let with = pair.flare(&["replicate_roles", "--only-dump"]);
    with.ok().prints("PASSWORD 'SCRAM-SHA-256");
    let without = pair.flare(&["replicate_roles", "--only-dump", "--no-passwords"]);
    without
        .ok()
        .prints(&format!("CREATE ROLE {};", pair.names().app));
    assert!(!without.stdout().contains("PASSWORD"), "{without}");
    let stripped = pair.flare(&[
        "replicate_roles",
        "--only-dump",
        "--no-passwords",
        "--strip-options-for-rds",
    ]);
    assert!(
        !stripped.ok().stdout().contains("NOSUPERUSER"),
        "{stripped}"
    );
    let none = format!(
        "SELECT count(*) FROM pg_roles WHERE rolname = '{}'",
        pair.names().app
    );
    assert_eq!(pair.subscriber().value("postgres", &none), "0");
}

#[test]
fn a_statement_that_fails_leaves_no_role_and_shows_no_hash() {
    let pair = Pair::alone(10, 18);
    // The subscriber refuses the roles' memberships in the end: a role of that name exists there, and is in a circle with it.
    pair.publisher().sql(
        "postgres",
        "CREATE ROLE zz LOGIN PASSWORD 'x'; CREATE ROLE yy; GRANT yy TO zz",
    );
    pair.subscriber()
        .sql("postgres", "CREATE ROLE zz; CREATE ROLE yy; GRANT zz TO yy");
    let before = roles(pair.subscriber());
    let run = pair.flare(&["replicate_roles"]);
    run.code(1)
        .says("GRANT yy TO zz")
        .says("is a member of role");
    assert!(
        !run.stderr().contains("SCRAM") && !run.stderr().contains("'md5"),
        "{run}"
    );
    assert_eq!(roles(pair.subscriber()), before);
    // Statements that carry hashes stay out of the subscriber's log.
    pair.subscriber()
        .sql("postgres", "DROP ROLE zz; DROP ROLE yy");
    pair.subscriber()
        .sql("postgres", "ALTER SYSTEM SET log_statement = 'all'");
    pair.subscriber().sql("postgres", "SELECT pg_reload_conf()");
    pair.flare(&["replicate_roles"]).ok();
    let log = pair.subscriber().log();
    assert!(
        !log.contains("SCRAM-SHA") && !log.contains("PASSWORD 'md5"),
        "{log}"
    );
}

#[test]
fn an_administrator_without_superuser_replicates_what_it_may() {
    for (old, new) in [(10, 14), (13, 16), (16, 18)] {
        let pair = Pair::between(
            Cluster::private_rds(old, &[]),
            Cluster::private_rds(new, &[]),
        );
        pair.publisher().sql(
            "postgres",
            "SET SESSION AUTHORIZATION master; CREATE ROLE member_of NOLOGIN; CREATE ROLE dev LOGIN PASSWORD 'x'; GRANT member_of TO dev",
        );
        let run = pair
            .flare(&["replicate_roles", "--format", "json"])
            .ok()
            .json();
        assert_eq!(run["changed"], true, "{run}");
        let needed = run["passwords_needed"].as_array().unwrap();
        assert!(needed.contains(&json!("dev")), "{run}");
        // Whom flare logs in as gets the password that it has for him.
        let owner = &pair.names().owner;
        assert!(!needed.contains(&json!(owner)), "{run}");
        let logs_in = pair
            .flare(&["verify_connectivity", "--format", "json"])
            .json();
        let users = logs_in["subscriber"]["users"].as_array().unwrap();
        let of_owner = users.iter().find(|it| it["user"] == json!(owner));
        assert_eq!(of_owner.unwrap()["status"], "ok", "{logs_in}");
        assert!(
            run["notes"].to_string().contains("password hashes"),
            "{run}"
        );
        let second = pair
            .flare(&["replicate_roles", "--format", "json"])
            .ok()
            .json();
        assert_eq!(second["changed"], false, "{second}");
        assert_eq!(second["roles_updated"], json!([]), "{second}");
        assert_eq!(
            pair.subscriber().value(
                "postgres",
                "SELECT count(*) FROM pg_auth_members WHERE roleid = 'member_of'::regrole AND member = 'dev'::regrole"
            ),
            "1"
        );
    }
}
