//! What flare puts there it takes away: after `cleanup` both servers are as before `prepare`, but for the database itself.

use std::process::Command;
use std::time::Duration;

use crate::support::pair::Names;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, clients, wait};

/// Several schemas and owners, a table without a key, one whose rows are hidden from others, privileges of the replication
/// user that are its own.
const DATABASE: &str = "
    SET ROLE {owner}; CREATE SCHEMA app; CREATE TABLE app.\"Log\" (at timestamptz DEFAULT now(), words text); CREATE TABLE app.keyed (id serial PRIMARY KEY, b text NOT NULL);
    CREATE UNIQUE INDEX by_b ON app.keyed (b); ALTER TABLE app.keyed REPLICA IDENTITY USING INDEX by_b;
    CREATE TABLE app.hidden (id int PRIMARY KEY); ALTER TABLE app.hidden ENABLE ROW LEVEL SECURITY;
    GRANT SELECT (b) ON app.keyed TO {repl}; GRANT INSERT ON app.\"Log\" TO {repl}; GRANT USAGE ON SCHEMA app TO {app};
    ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT UPDATE ON TABLES TO {repl}; GRANT SELECT ON SEQUENCE app.keyed_id_seq TO {repl};
    INSERT INTO app.keyed (b) VALUES ('x'); INSERT INTO app.\"Log\" (words) VALUES ('x'); RESET ROLE;
    CREATE TABLE public.others (id int PRIMARY KEY); COMMENT ON SCHEMA app IS 'its own';";

fn prepared(old: u32, new: u32) -> Pair {
    let pair = Pair::new(old, new).with_pgbench(1);
    let names = pair.names();
    let sql = DATABASE
        .replace("{owner}", &names.owner)
        .replace("{app}", &names.app)
        .replace("{repl}", &names.repl);
    pair.publisher().sql(pair.db(), &sql);
    pair.create_roles_on(pair.subscriber());
    let repl = pair.names().repl.clone();
    pair.configure(|config| {
        config["publications"][pair.db()]["replica_identity_full_tables"] =
            serde_yaml::from_str("[pgbench_history, app.Log]").expect("a list");
        let subscriber = &mut config["hosts"]["subscriber"]["conn"];
        subscriber["repl_user"] = repl.into();
        subscriber["repl_user_password"] = Passwords::REPL.into();
    });
    // A timeout that the walsender has to be spared.
    pair.publisher().sql(
        "postgres",
        &format!("ALTER DATABASE {} SET statement_timeout = '1h'", pair.db()),
    );
    pair
}

/// As most do: all at once, with the fast copy.
pub(super) fn set_up(pair: &Pair) {
    pair.flare(&["prepare", pair.subname(), "--yes"]).ok();
}

/// One command after the other.
fn set_up_by_commands(pair: &Pair) {
    set_up_by_commands_for(pair, pair.names());
}

/// The same for what another pair has moved to this one's publisher.
pub(super) fn set_up_by_commands_for(pair: &Pair, names: &Names) {
    let (db, sub) = (names.db.as_str(), names.subname.as_str());
    for args in [
        vec!["grant_create", "--use-db-owner", db],
        vec!["grant_replication", db],
        vec!["replicate_schema", db],
        vec!["create_publication", db],
        vec!["create_replication_status_table", db],
        vec!["create_subscription", "--use-repl-user", "--wait", sub],
        vec!["replicate_sequences", sub],
        vec!["vacuum_analyze", db],
    ] {
        pair.flare(&args).ok();
    }
}

pub(super) fn schema(pair: &Pair, server: &Cluster) -> String {
    let bin = clients::bin(18).expect("client programs");
    let output = Command::new(bin.join("pg_dump"))
        .args([
            "--schema-only",
            "--no-password",
            "--restrict-key=x",
            "-h",
            server.host(),
            "-p",
            &server.port().to_string(),
            "-U",
            server.admin(),
            pair.db(),
        ])
        .env("PGPASSWORD", Passwords::ADMIN)
        .output()
        .expect("run pg_dump");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The roles of the test, the database's privileges and settings, and what flare keeps in `postgres`.
pub(super) fn globals(pair: &Pair, server: &Cluster) -> String {
    let (id, db) = (&pair.names().id, pair.db());
    let sql = format!(
        "SELECT concat_ws(E'\\n',
            (SELECT string_agg(concat_ws(' ', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolconfig), E'\\n' ORDER BY rolname) FROM pg_roles WHERE strpos(rolname, '{id}') = 1),
            (SELECT string_agg(roleid::regrole || ' to ' || member::regrole, ', ' ORDER BY 1) FROM pg_auth_members WHERE strpos(member::regrole::text, '{id}') = 1),
            (SELECT string_agg(setrole::regrole || setconfig::text, E'\\n' ORDER BY 1) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = '{db}'),
            (SELECT string_agg(a::text, ', ' ORDER BY a::text) FROM pg_database d, aclexplode(coalesce(datacl, acldefault('d', datdba))) a WHERE datname = '{db}'),
            (SELECT string_agg(slot_name, ', ') FROM pg_replication_slots WHERE database = '{db}'),
            (SELECT string_agg(subname, ', ') FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = '{db}')))"
    );
    server.value("postgres", &sql)
}

fn settings_of_roles(pair: &Pair, server: &Cluster) -> String {
    let sql = format!(
        "SELECT coalesce(string_agg(setrole::regrole || array_to_string(setconfig, ' '), ', ' ORDER BY 1), '')
           FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = '{}' AND setrole <> 0",
        pair.db()
    );
    server.value("postgres", &sql)
}

fn walsenders(pair: &Pair) -> String {
    format!("{}statement_timeout=0", pair.names().repl)
}

/// Nobody but the servers' own objects tells that flare was there.
pub(super) fn differences(before: &str, after: &str) -> String {
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let (before, after) = (lines(before), lines(after));
    let gone = before
        .iter()
        .filter(|line| !after.contains(line))
        .map(|line| format!("- {line}"));
    let new = after
        .iter()
        .filter(|line| !before.contains(line))
        .map(|line| format!("+ {line}"));
    gone.chain(new).collect::<Vec<_>>().join("\n")
}

fn no_record(pair: &Pair, server: &Cluster) {
    let sql = format!(
        "SELECT to_regclass('flare.made') IS NULL OR NOT coalesce((xpath('/row/c/text()', query_to_xml('SELECT count(*) AS c FROM flare.made m JOIN pg_database d ON d.oid = m.dboid WHERE datname = ''{}''', false, true, '')))[1]::text::int > 0, false)",
        pair.db()
    );
    assert_eq!(server.value("postgres", &sql), "t");
}

#[test]
fn a_migration_that_is_given_up_leaves_no_trace() {
    let ways = [set_up_by_commands, set_up];
    for ((old, new), set_up) in [(10, 16), (18, 18)].into_iter().zip(ways) {
        let pair = prepared(old, new);
        let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
        let before = [schema(&pair, publisher), globals(&pair, publisher)];
        let roles = globals(&pair, subscriber);
        // Before the subscriber has the database.
        for command in ["grant_create", "grant_replication", "create_publication"] {
            pair.flare(&[command, pair.db()]).ok();
        }
        assert_ne!(differences(&before[0], &schema(&pair, publisher)), "");
        pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
        let after = [schema(&pair, publisher), globals(&pair, publisher)];
        assert_eq!(differences(&before[0], &after[0]), "", "{old}-{new}");
        assert_eq!(differences(&before[1], &after[1]), "", "{old}-{new}");
        set_up(&pair);
        assert_ne!(differences(&before[0], &schema(&pair, publisher)), "");
        // Again: what flare has set for the walsender is no role's own setting, which would move.
        assert_eq!(settings_of_roles(&pair, publisher), walsenders(&pair));
        pair.flare(&["replicate_roles"]).ok();
        pair.flare(&["prepare", pair.subname(), "--yes"]).ok();
        let brought = settings_of_roles(&pair, subscriber);
        assert!(!brought.contains(&pair.names().repl), "{brought}");
        pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
        assert_eq!(settings_of_roles(&pair, subscriber), "", "{old}-{new}");
        let after = [schema(&pair, publisher), globals(&pair, publisher)];
        assert_eq!(differences(&before[0], &after[0]), "", "{old}-{new}");
        assert_eq!(differences(&before[1], &after[1]), "", "{old}-{new}");
        if old == new {
            assert_eq!(differences(&before[0], &schema(&pair, subscriber)), "");
        }
        let roles_after = globals(&pair, subscriber);
        let own = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with(&pair.names().id) && !line.contains('='))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(own(&roles), own(&roles_after), "{old}-{new}");
        for server in [publisher, subscriber] {
            no_record(&pair, server);
        }
    }
}

#[test]
fn a_migration_that_went_there_and_back_leaves_no_trace() {
    let pair = prepared(14, 15);
    let publisher = pair.publisher();
    let (db, app) = (pair.db(), &pair.names().app);
    publisher.sql(
        "postgres",
        &format!("REVOKE TEMPORARY ON DATABASE {db} FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE {db} TO {app}"),
    );
    // A dump prints the entries in their order.
    let acl = || {
        let sql = format!("SELECT datacl FROM pg_database WHERE datname = '{db}'");
        publisher.value("postgres", &sql)
    };
    let ordered = acl();
    let before = [schema(&pair, publisher), globals(&pair, publisher)];
    set_up(&pair);
    pair.flare(&["cutover", pair.subname(), "--yes"]).ok();
    pair.flare(&["fallback", pair.subname(), "--yes"]).ok();
    pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
    assert_eq!(acl(), ordered);
    let after = [schema(&pair, publisher), globals(&pair, publisher)];
    assert_eq!(differences(&before[0], &after[0]), "");
    assert_eq!(differences(&before[1], &after[1]), "");
}

#[test]
fn a_migration_that_ends_well_leaves_no_trace_in_either_schema() {
    let pair = prepared(16, 16);
    let publisher = pair.publisher();
    let before = schema(&pair, publisher);
    set_up(&pair);
    pair.flare(&["cutover", pair.subname(), "--yes"]).ok();
    pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
    for server in [publisher, pair.subscriber()] {
        assert_eq!(differences(&before, &schema(&pair, server)), "");
    }
}

/// What the replication user has in a dump, and the identities of tables.
fn of_repl(pair: &Pair, server: &Cluster) -> Vec<String> {
    let repl = format!(" TO {};", pair.names().repl);
    let dump = schema(pair, server);
    let lines = dump
        .lines()
        .filter(|line| line.ends_with(&repl) || line.contains("REPLICA IDENTITY"));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Deploys go on: what was granted is taken back under the names of now, from what was made since too, and with what a newer
/// server gives by GRANT ALL beside it.
#[test]
#[ignore = "make soak"]
fn what_deploys_have_renamed_and_made_since_leaves_no_trace() {
    let pair = prepared(14, 18);
    pair.configure(|config| config["ddl"] = "carry".into());
    let before = of_repl(&pair, pair.publisher());
    set_up(&pair);
    let owner = format!("SET ROLE {}; ", pair.names().owner);
    for (role, statement) in [
        (
            owner.as_str(),
            "ALTER TABLE app.keyed RENAME TO \"Keyed\"; ALTER TABLE app.\"Log\" RENAME TO log",
        ),
        (&owner, "CREATE TABLE app.since (id serial PRIMARY KEY)"),
        (&owner, "CREATE VIEW app.seen AS SELECT 1 AS one"),
        ("", "CREATE TABLE app.by_admin (id int PRIMARY KEY)"),
    ] {
        let sql = format!("{role}{statement}");
        pair.publisher().sql(pair.db(), &sql);
    }
    wait::for_("the new tables", Duration::from_secs(60), || {
        let status = pair.flare(&["status"]);
        status.ok().stdout().contains("ready to cut over")
    });
    pair.flare(&["cutover", pair.subname(), "--yes"]).ok();
    pair.flare(&["fallback", pair.subname(), "--yes"]).ok();
    pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
    let renamed = |line: &String| {
        line.replace("app.keyed ", "app.\"Keyed\" ")
            .replace("app.\"Log\"", "app.log")
    };
    // What the user's own default privileges give.
    let mut expected: Vec<String> = before.iter().map(renamed).collect();
    for made in ["since", "seen"] {
        expected.push(format!(
            "GRANT UPDATE ON TABLE app.{made} TO {};",
            pair.names().repl
        ));
    }
    expected.sort();
    for server in [pair.publisher(), pair.subscriber()] {
        assert_eq!(of_repl(&pair, server), expected);
    }
}

#[test]
fn what_the_user_granted_in_between_stays() {
    let pair = prepared(13, 14);
    let (publisher, repl) = (pair.publisher(), &pair.names().repl);
    set_up(&pair);
    publisher.sql(pair.db(), &format!("CREATE TABLE mine (id int PRIMARY KEY); REVOKE ALL ON mine FROM {repl}; GRANT TRIGGER ON mine TO {repl}; ALTER TABLE mine REPLICA IDENTITY FULL"));
    pair.flare(&["cleanup", pair.subname(), "--yes"]).ok();
    let left = format!(
        "SELECT relreplident || has_table_privilege('{repl}', oid, 'TRIGGER')::text FROM pg_class WHERE relname = 'mine'"
    );
    assert_eq!(publisher.value(pair.db(), &left), "ftrue");
}

#[test]
fn dropped_one_by_one_it_goes_too() {
    let pair = prepared(12, 18);
    let publisher = pair.publisher();
    set_up(&pair);
    let identities = "SELECT string_agg(relreplident::text, '' ORDER BY relname) FROM pg_class WHERE relname IN ('Log', 'keyed', 'pgbench_history')";
    assert_eq!(publisher.value(pair.db(), identities), "fif");
    pair.flare(&["drop_subscription", pair.subname()]).ok();
    pair.flare(&["drop_publication", pair.db()]).ok();
    assert_eq!(publisher.value(pair.db(), identities), "did");
    let again = pair.flare(&["drop_publication", pair.db()]);
    again.ok();
}
