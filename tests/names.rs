//! Names and passwords that quoting has to get right, all at once, through the whole flow.

use crate::support::{Cluster, Pair};

const ADMIN: &str = crate::support::pair::Passwords::ADMIN;
const DB: &str = "a\"b'c; -- D%20\\e{0} ü.x";
const OWNER: &str = "Own\"er'; DROP ROLE \\x --";
const APP: &str = "app user.é $1 {} REVOKED OUTLIVING";
const REPL: &str = "Re\"pl'; -- \\";
const PUBLICATION: &str = "p\"u'b; -- .Ünï {} STATUS PUBNAME";
const SUBSCRIPTION: &str = "Sub\"scr'iption; -- .ö";
const SCHEMA: &str = "Sch.\"em'a; -- \\é";
const OWNER_PASSWORD: &str = "o'\" \\ %41@:/?#&=;$1`~\u{e9} x";
const REPL_PASSWORD: &str = "r'\" \\' \\\\ %%@:/ =x";
const COUNT: &str = "SELECT count(*) FROM";

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// 63 bytes, the longest there is.
fn longest() -> String {
    let name = "Löngest \"name' of a table; -- and then some more of it 0123456";
    assert_eq!(name.len(), 63);
    name.to_owned()
}

fn tables() -> [(String, String); 4] {
    [
        ("public".to_owned(), "Order".to_owned()),
        ("public".to_owned(), "order".to_owned()),
        (SCHEMA.to_owned(), "t.a\"b'l e; --".to_owned()),
        (SCHEMA.to_owned(), longest()),
    ]
}

/// What every session begins with unless it says otherwise: text is read and written differently, plans are odd, and a
/// statement that fails ends the session.
const ODD_SETTINGS: &[(&str, &str)] = &[
    ("array_nulls", "off"),
    ("bytea_output", "escape"),
    ("client_min_messages", "debug1"),
    ("DateStyle", "German"),
    ("default_transaction_deferrable", "on"),
    ("default_transaction_isolation", "serializable"),
    ("enable_seqscan", "off"),
    ("extra_float_digits", "-5"),
    ("idle_in_transaction_session_timeout", "100"),
    ("IntervalStyle", "sql_standard"),
    ("join_collapse_limit", "1"),
    ("lock_timeout", "100"),
    ("plpgsql.extra_errors", "all"),
    ("quote_all_identifiers", "on"),
    ("search_path", "nowhere"),
    ("synchronous_commit", "off"),
    ("TimeZone", "Asia/Kathmandu"),
    ("transform_null_equals", "on"),
    ("xmloption", "document"),
    ("exit_on_error", "on"),
];

fn make_odd(server: &Cluster) {
    let parallel = match server.version() {
        ..16 => "force_parallel_mode",
        _ => "debug_parallel_query",
    };
    for (name, value) in ODD_SETTINGS.iter().chain(&[(parallel, "on")]) {
        server.sql(
            "postgres",
            &format!("ALTER ROLE ALL SET {name} = '{value}'"),
        );
    }
}

fn furnish(publisher: &Cluster) {
    let (owner, app, repl) = (ident(OWNER), ident(APP), ident(REPL));
    publisher.sql(
        "postgres",
        &format!(
            "SET standard_conforming_strings = on;
             CREATE ROLE {owner} LOGIN CREATEDB PASSWORD {};
             CREATE ROLE {app} LOGIN PASSWORD 'app';
             CREATE ROLE {repl} LOGIN REPLICATION PASSWORD {};
             ALTER ROLE {app} SET search_path TO {}, public;",
            literal(OWNER_PASSWORD),
            literal(REPL_PASSWORD),
            ident(SCHEMA)
        ),
    );
    publisher.sql(
        "postgres",
        &format!("CREATE DATABASE {} OWNER {owner}", ident(DB)),
    );
    let mut sql = format!(
        "ALTER DATABASE {} SET application_name TO {}; COMMENT ON DATABASE {} IS {};
         SET ROLE {owner}; CREATE SCHEMA {};",
        ident(DB),
        literal("it's \\ \"quoted\""),
        ident(DB),
        literal(DB),
        ident(SCHEMA)
    );
    for (rows, (schema, table)) in (1..).zip(tables()) {
        let table = format!("{}.{}", ident(&schema), ident(&table));
        let column = ident("C'ol\"umn; --");
        sql += &format!(
            "CREATE TABLE {table} ({column} serial PRIMARY KEY, t text DEFAULT {});
             INSERT INTO {table} (t) SELECT i::text FROM generate_series(1, {rows}) i;",
            literal("d'e\"f\\ault")
        );
    }
    publisher.sql(DB, &sql);
}

fn configure(pair: &Pair) {
    pair.configure(|config| {
        for (side, server) in [
            ("publisher", pair.publisher()),
            ("subscriber", pair.subscriber()),
        ] {
            let conn = &mut config["hosts"][side]["conn"];
            conn["superuser"] = server.admin().into();
            conn["superuser_password"] = ADMIN.into();
            conn["db_owner"] = OWNER.into();
            conn["db_owner_password"] = OWNER_PASSWORD.into();
        }
        let conn = &mut config["hosts"]["publisher"]["conn"];
        conn["repl_user"] = REPL.into();
        conn["repl_user_password"] = REPL_PASSWORD.into();
        let full = serde_yaml::Value::from(vec!["\"Order\"".to_owned()]);
        let mut publication = serde_yaml::Mapping::new();
        publication.insert("pubname".into(), PUBLICATION.into());
        publication.insert("replica_identity_full_tables".into(), full);
        let mut publications = serde_yaml::Mapping::new();
        publications.insert(DB.into(), publication.into());
        config["publications"] = publications.into();
        let mut subscription = serde_yaml::Mapping::new();
        subscription.insert("dbname".into(), DB.into());
        subscription.insert("pubname".into(), PUBLICATION.into());
        let mut subscriptions = serde_yaml::Mapping::new();
        subscriptions.insert(SUBSCRIPTION.into(), subscription.into());
        config["subscriptions"] = subscriptions.into();
        config["ddl"] = "carry".into();
    });
}

#[test]
fn hostile_names_and_passwords_travel_through_the_whole_flow() {
    let pair = Pair::alone(13, 17);
    furnish(pair.publisher());
    make_odd(pair.publisher());
    make_odd(pair.subscriber());
    configure(&pair);
    let flow: [&[&str]; 11] = [
        &["verify_connectivity"],
        &["replicate_roles"],
        &["replicate_schema", DB],
        &["install_extensions", DB],
        &["grant_create", "--use-db-owner", DB],
        &["grant_replication", "--use-db-owner", DB],
        &["create_publication", DB],
        &["create_replication_status_table", DB],
        &[
            "create_subscription",
            "--use-repl-user",
            "--wait",
            SUBSCRIPTION,
        ],
        &["replicate_sequences", SUBSCRIPTION],
        &["vacuum_analyze", DB],
    ];
    let run = |args: &[&str]| {
        let run = pair
            .invocation(&[&["--format", "json"], args].concat())
            .secrets([OWNER_PASSWORD.to_owned(), REPL_PASSWORD.to_owned()])
            .run();
        let answer = run.ok().json();
        assert_eq!(answer["ok"], true, "{run}");
        answer
    };
    for command in flow {
        run(command);
        let again = run(command);
        if command[0] != "vacuum_analyze" {
            assert_eq!(again["changed"], false, "{command:?}: {again}");
        }
    }
    for (rows, (schema, table)) in (1..).zip(tables()) {
        let name = format!("{}.{}", ident(&schema), ident(&table));
        let counted = pair.flare(&["count", DB, &name]);
        assert_eq!(counted.ok().stdout(), format!("{rows}\n"), "{name}");
        let serial = format!(
            "SELECT pg_get_serial_sequence({}, {})::regclass",
            literal(&name),
            literal("C'ol\"umn; --")
        );
        let values = [pair.publisher(), pair.subscriber()].map(|server| {
            let sequence = server.value(DB, &serial);
            server.value(DB, &format!("SELECT last_value FROM {sequence}"))
        });
        assert_eq!(values, [rows.to_string(), rows.to_string()], "{name}");
    }
    // Nothing is folded: two tables that differ in case are two tables.
    for (name, rows) in [("Order", "1\n"), ("order", "2\n"), ("public.Order", "1\n")] {
        assert_eq!(pair.flare(&["count", DB, name]).ok().stdout(), rows);
    }
    pair.flare(&["count", DB, "ORDER"])
        .code(1)
        .says("\"public\".\"ORDER\"");
    run(&["monitor", "--once", DB, SUBSCRIPTION]);

    let accounts = format!(
        "INSERT INTO {}.{} (t) VALUES ('late')",
        ident(SCHEMA),
        ident(&longest())
    );
    pair.publisher().sql(DB, &accounts);
    run(&[
        "pause_write",
        "--allowed-rep-duration",
        "0s",
        "--app-user",
        APP,
        DB,
        SUBSCRIPTION,
    ]);
    let arrived = format!("{COUNT} {}.{}", ident(SCHEMA), ident(&longest()));
    assert_eq!(pair.subscriber().value(DB, &arrived), "5");
    let shut = format!(
        "SELECT has_database_privilege({}, {}, 'CONNECT')",
        literal(APP),
        literal(DB)
    );
    assert_eq!(pair.publisher().value("postgres", &shut), "f");
    run(&["resume_write", DB]);
    assert_eq!(pair.publisher().value("postgres", &shut), "t");

    // There and back, with statements that are carried.
    for (to, command) in [
        (
            pair.subscriber(),
            ["cutover", "--yes", "--verified", SUBSCRIPTION],
        ),
        (
            pair.publisher(),
            ["fallback", "--yes", "--verified", SUBSCRIPTION],
        ),
    ] {
        assert_eq!(run(&["verify_data", SUBSCRIPTION])["equal"], true);
        assert_eq!(run(&command)["outcome"], "switched", "{command:?}");
        let column = ident(&format!("c\"o'l; -- $1 {{}} {}", command[0]));
        let carried = format!(
            "SET ROLE {}; ALTER TABLE {}.{} ADD COLUMN {column} text DEFAULT {}",
            ident(OWNER),
            ident(SCHEMA),
            ident(&longest()),
            literal("d'q\\ %s $$")
        );
        to.sql(DB, &carried);
        to.sql(DB, &accounts);
    }
    run(&["status"]);
    assert_eq!(run(&["verify_data", SUBSCRIPTION])["equal"], true);
    assert_eq!(pair.subscriber().value(DB, &arrived), "7");

    run(&["reset_replication_status", DB]);
    run(&["drop_subscription", SUBSCRIPTION]);
    run(&["drop_publication", DB]);
    for server in [pair.publisher(), pair.subscriber()] {
        let left =
            "SELECT (SELECT count(*) FROM pg_subscription) + (SELECT count(*) FROM pg_publication)
                         + (SELECT count(*) FROM pg_replication_slots)";
        assert_eq!(server.value(DB, left), "0", "{server:?}");
    }
}

#[test]
fn kebab_case_is_understood_for_every_command() {
    for name in crate::commands::listed() {
        let kebab = name.replace('_', "-");
        let run = crate::support::flare::Invocation::new(&[&kebab, "--help"]).run();
        run.ok().prints(&format!("flare {name}"));
    }
}
