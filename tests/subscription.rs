//! create_subscription and drop_subscription on real servers.

use std::time::Duration;

use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, matrix, wait};

const SLOTS: &str = "SELECT coalesce(string_agg(slot_name, ' '), '') FROM pg_replication_slots WHERE database = current_database()";
const SUBSCRIPTIONS: &str = "SELECT count(*) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Copies nothing of one table.
const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                 $$BEGIN PERFORM pg_sleep(300); RETURN NEW; END$$;
             CREATE TRIGGER slow BEFORE INSERT ON pgbench_accounts FOR EACH ROW EXECUTE PROCEDURE slow();
             ALTER TABLE pgbench_accounts ENABLE ALWAYS TRIGGER slow";

fn count(server: &Cluster, pair: &Pair) -> String {
    server.value(pair.db(), "SELECT count(*) FROM pgbench_accounts")
}

fn nothing_is_left(pair: &Pair) {
    // Before 14 a copy's own slot is temporary: it goes with its walsender, a moment after the worker.
    wait::for_("the slots to be gone", Duration::from_secs(15), || {
        pair.publisher().value(pair.db(), SLOTS).is_empty()
    });
    assert_eq!(pair.subscriber().value(pair.db(), SUBSCRIPTIONS), "0");
}

#[test]
fn a_subscription_copies_follows_and_goes_on_every_version() {
    matrix::for_each_pair(|old, new| {
        let pair = Pair::new(old, new).with_accounts(500).published();
        let (db, sub) = (pair.db(), pair.subname());
        let dry = pair.flare(&["create_subscription", sub, "--use-repl-user", "--dry-run"]);
        dry.ok()
            .prints("would create subscription")
            .prints("create_slot = false");
        nothing_is_left(&pair);
        for changed in [true, false] {
            let run = pair.flare(&[
                "create_subscription",
                "--use-repl-user",
                "--wait",
                sub,
                "--format",
                "json",
            ]);
            assert_eq!(run.ok().json()["changed"], changed, "{run}");
        }
        assert_eq!(count(pair.subscriber(), &pair), "500");
        pair.publisher()
            .sql(db, "DELETE FROM pgbench_accounts WHERE aid <= 100");
        pair.await_caught_up();
        assert_eq!(count(pair.subscriber(), &pair), "400");

        // A table that came later is skipped in silence until the subscription takes it.
        for server in [pair.publisher(), pair.subscriber()] {
            server.sql(
                db,
                &format!(
                    "SET ROLE {}; CREATE TABLE later (a int PRIMARY KEY)",
                    pair.names().owner
                ),
            );
        }
        pair.publisher().sql(db, "INSERT INTO later VALUES (1)");
        pair.flare(&["create_subscription", "--use-repl-user", "--wait", sub])
            .ok()
            .prints("public.later");
        assert_eq!(
            pair.subscriber().value(db, "SELECT count(*) FROM later"),
            "1"
        );

        for changed in [true, false] {
            let run = pair.flare(&["drop_subscription", sub, "--format", "json"]);
            assert_eq!(run.ok().json()["changed"], changed, "{run}");
        }
        nothing_is_left(&pair);
        assert_eq!(count(pair.subscriber(), &pair), "400");
    });
}

#[test]
fn an_open_transaction_of_another_database_is_named_and_nothing_is_left() {
    for old in [10, 17] {
        let pair = Pair::new(old, 18).with_accounts(10).published();
        let mut blocker = pair.publisher().superuser_session("postgres");
        blocker
            .batch_execute("BEGIN; SELECT txid_current()")
            .expect("begin");
        let pid: i32 = blocker
            .query_one("SELECT pg_backend_pid()", &[])
            .expect("a pid")
            .get(0);
        let run = pair.flare(&["create_subscription", "--use-repl-user", pair.subname()]);
        run.code(1)
            .says(&format!("waits for an open transaction: pid {pid}"))
            .says("database \"postgres\"")
            .says(&format!("pg_terminate_backend({pid})"));
        nothing_is_left(&pair);
        blocker.batch_execute("ROLLBACK").expect("roll back");
        pair.flare(&["create_subscription", "--use-repl-user", pair.subname()])
            .ok();
        pair.flare(&["drop_subscription", pair.subname()]).ok();
    }
}

#[test]
fn a_signal_while_the_slot_waits_leaves_nothing() {
    let pair = Pair::new(16, 18).with_accounts(10).published();
    let mut blocker = pair.publisher().superuser_session("postgres");
    blocker
        .batch_execute("BEGIN; SELECT txid_current()")
        .expect("begin");
    let running = pair.spawn(&["create_subscription", "--use-repl-user", pair.subname()]);
    running.until_stderr("waits for an open transaction");
    running.signal(2);
    running.wait().code(130);
    let gone = || pair.publisher().value(pair.db(), SLOTS).is_empty();
    wait::for_("the slot to go", Duration::from_secs(10), gone);
    nothing_is_left(&pair);
}

#[test]
fn a_connection_that_leads_elsewhere_copies_nothing() {
    let other = Cluster::private(17, &[]);
    let pair = Pair::new(17, 18).with_accounts(10).published();
    let (db, names) = (pair.db(), pair.names());
    // The same roles, database, tables and publication, with rows of its own.
    pair.create_tables_on(&other);
    other.sql(
        db,
        &format!(
            "INSERT INTO pgbench_accounts (aid) VALUES (-1);
             CREATE TABLE flare_replication_status (system_identifier text PRIMARY KEY, uuid text, created_at text);
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO {};
             CREATE PUBLICATION \"{}\" FOR ALL TABLES",
            names.repl, names.pubname
        ),
    );
    pair.configure(|c| {
        let conn = &mut c["hosts"]["publisher"]["conn"];
        conn["host_via_subscriber"] = other.host().into();
        conn["port_via_subscriber"] = u64::from(other.port()).into();
    });
    let run = pair.flare(&["create_subscription", "--use-repl-user", pair.subname()]);
    run.code(1)
        .says("leads to another server")
        .says("host_via_subscriber");
    nothing_is_left(&pair);
    assert_eq!(count(pair.subscriber(), &pair), "0");
}

#[test]
fn what_would_go_wrong_is_refused_before_anything_is_made() {
    let pair = Pair::new(13, 15).with_accounts(10).published();
    let (db, sub) = (pair.db(), pair.subname());
    let create = || pair.flare(&["create_subscription", "--use-repl-user", sub]);

    let option = |name: &str, value: &str| {
        pair.configure(|c| {
            let mut options = serde_yaml::Mapping::new();
            options.insert(name.into(), value.into());
            c["subscriptions"][sub]["options"] = options.into();
        });
    };
    option("run_as_owner", "true");
    create()
        .code(2)
        .says("PostgreSQL 16 has it, and the subscriber runs 15");
    option("slot_name", "x");
    create().code(2).says("flare sets it itself");
    option("binary", "true");

    pair.subscriber()
        .sql(db, "INSERT INTO pgbench_tellers VALUES (1)");
    create()
        .code(1)
        .says("rows already in public.pgbench_tellers");
    pair.subscriber().sql(db, "DROP TABLE pgbench_tellers");
    create()
        .code(1)
        .says("no table public.pgbench_tellers")
        .says("replicate_schema");
    pair.subscriber()
        .sql(db, "CREATE TABLE pgbench_tellers (LIKE pgbench_branches)");

    let repl = &pair.names().repl;
    pair.publisher()
        .sql(db, &format!("REVOKE ALL ON pgbench_branches FROM {repl}"));
    create()
        .code(1)
        .says("may not read public.pgbench_branches")
        .says("grant_replication");
    pair.publisher()
        .sql(db, &format!("GRANT SELECT ON pgbench_branches TO {repl}"));
    pair.publisher()
        .sql(db, "ALTER TABLE pgbench_branches ENABLE ROW LEVEL SECURITY");
    create().code(1).says("row security").says("BYPASSRLS");
    pair.publisher().sql(
        db,
        "ALTER TABLE pgbench_branches DISABLE ROW LEVEL SECURITY",
    );

    pair.flare(&["drop_publication", db]).ok();
    create().code(1).says("flare create_publication");
    nothing_is_left(&pair);
}

#[test]
fn a_copy_that_cannot_succeed_is_noticed() {
    for new in [13, 15] {
        let pair = Pair::new(13, new).with_accounts(10).published();
        pair.subscriber().sql(
            pair.db(),
            "ALTER TABLE pgbench_accounts ADD CHECK (aid < 5)",
        );
        let run = pair.flare(&[
            "create_subscription",
            "--use-repl-user",
            "--wait",
            pair.subname(),
        ]);
        run.code(1).says("pgbench_accounts").says("server log");
        pair.flare(&["drop_subscription", pair.subname()]).ok();
        nothing_is_left(&pair);
    }
}

#[test]
fn a_slot_that_was_left_behind_is_made_anew() {
    let pair = Pair::new(17, 18).with_accounts(10).published();
    let slot = format!(
        "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
        pair.subname()
    );
    pair.publisher().value(pair.db(), &slot);
    pair.flare(&[
        "create_subscription",
        "--use-repl-user",
        "--wait",
        pair.subname(),
    ])
    .ok()
    .prints("left behind");
    pair.flare(&["drop_subscription", "--keep-slot", pair.subname()])
        .ok()
        .prints("stays on the publisher");
    assert_eq!(pair.publisher().value(pair.db(), SLOTS), pair.subname());
    pair.flare(&["drop_subscription", pair.subname()]).ok();
    nothing_is_left(&pair);
}

#[test]
fn a_subscription_is_dropped_without_its_publisher_when_told_so() {
    for (old, new) in [(10, 10), (17, 18)] {
        let pair = Pair::alone(old, new).with_accounts(10).published();
        let sub = pair.subname();
        pair.flare(&["create_subscription", "--use-repl-user", "--wait", sub])
            .ok();
        pair.publisher().stop();
        pair.flare(&["drop_subscription", sub])
            .code(1)
            .says("--force")
            .says("cannot be reached");
        assert_eq!(pair.subscriber().value(pair.db(), SUBSCRIPTIONS), "1");
        pair.flare(&["drop_subscription", "--force", sub])
            .ok()
            .prints(&format!("slot {sub:?} stays there"));
        assert_eq!(pair.subscriber().value(pair.db(), SUBSCRIPTIONS), "0");
        pair.publisher().start();
        pair.flare(&["drop_subscription", sub]).ok();
        nothing_is_left(&pair);
    }
}

#[test]
fn an_administrator_without_superuser_subscribes_from_16_on() {
    for (old, new) in [(14, 17), (10, 16)] {
        let pair = Pair::between(
            Cluster::private_rds(old, &[]),
            Cluster::private_rds(new, &[]),
        )
        .with_accounts(10);
        let db = pair.db();
        pair.flare(&["grant_create", "--use-db-owner", db]).ok();
        let pair = pair.published();
        let (db, subscriber) = (pair.db(), pair.subscriber());
        let (admin, owner) = (subscriber.admin(), &pair.names().owner);
        let create = || {
            pair.flare(&[
                "create_subscription",
                "--use-repl-user",
                "--wait",
                pair.subname(),
            ])
        };
        let subowner = |whom: &str| {
            assert_eq!(
                subscriber.value(db, "SELECT subowner::regrole FROM pg_subscription"),
                whom
            );
            assert_eq!(count(subscriber, &pair), "10");
            pair.flare(&["drop_subscription", pair.subname()]).ok();
            nothing_is_left(&pair);
            subscriber.sql(
                db,
                "TRUNCATE pgbench_accounts, pgbench_branches, pgbench_tellers",
            );
        };

        // The rights are probed, whatever the role is called.
        subscriber.sql(
            "postgres",
            "REVOKE pg_create_subscription FROM rds_superuser",
        );
        create()
            .code(1)
            .says("no member of pg_create_subscription")
            .says(&format!("GRANT pg_create_subscription TO \"{admin}\""));
        nothing_is_left(&pair);

        // The owner needs nothing else.
        subscriber.sql(
            "postgres",
            &format!("GRANT pg_create_subscription TO {owner}"),
        );
        create().ok();
        subowner(owner);
        subscriber.sql(
            "postgres",
            &format!("REVOKE pg_create_subscription FROM {owner}"),
        );

        // The administrator gets what it lacks from whoever may grant it.
        subscriber.sql(
            "postgres",
            &format!("GRANT pg_create_subscription TO {admin}"),
        );
        create()
            .ok()
            .prints("act for")
            .prints("grant CREATE on database");
        subowner(admin);
        create().ok();
        subowner(admin);

        // Nobody may grant it.
        subscriber.sql(
            "postgres",
            &format!(
                "REVOKE {owner} FROM {admin} GRANTED BY {admin}; REVOKE {owner} FROM {admin} CASCADE;
                 REVOKE CREATE ON DATABASE {db} FROM {admin}"
            ),
        );
        create()
            .code(1)
            .says(&format!("GRANT \"{owner}\" TO \"{admin}\" WITH SET TRUE"));
        nothing_is_left(&pair);
    }
}

/// Who may act as whom on the server, and what the database's ACL says of its administrator.
fn rights_of_admin(server: &Cluster, db: &str) -> String {
    let admin = server.admin();
    server.value(
        db,
        &format!(
            "SELECT concat_ws(' | ',
               (SELECT string_agg(concat_ws(' ', m.roleid::regrole, m.grantor::regrole, m.admin_option, m.inherit_option, m.set_option), ', '
                                  ORDER BY m.roleid, m.grantor)
                  FROM pg_auth_members m WHERE m.member = '{admin}'::regrole),
               (SELECT string_agg(a.grantor::regrole || ' ' || a.privilege_type, ', ' ORDER BY 1)
                  FROM pg_database d, aclexplode(d.datacl) a
                 WHERE d.datname = current_database() AND a.grantee = '{admin}'::regrole))"
        ),
    )
}

#[test]
fn what_was_granted_for_a_subscription_goes_with_the_last_that_rests_on_it() {
    for (old, new) in [(14, 16), (16, 18)] {
        let pair = Pair::between(
            Cluster::private_rds(old, &[]),
            Cluster::private_rds(new, &[]),
        )
        .with_accounts(10);
        pair.flare(&["grant_create", "--use-db-owner", pair.db()])
            .ok();
        let pair = pair.published();
        let (db, sub, subscriber) = (pair.db(), pair.subname(), pair.subscriber());
        let (admin, owner) = (subscriber.admin(), &pair.names().owner);
        let by_admin = |db: &str, sql: &str| {
            subscriber.sql(db, &format!("SET SESSION AUTHORIZATION {admin}; {sql}"));
        };
        let rights = || rights_of_admin(subscriber, db);
        let second = format!("{sub}_second");
        pair.configure(|c| {
            let subscriptions = &mut c["subscriptions"];
            subscriptions[sub]["options"] =
                serde_yaml::from_str("{copy_data: off}").expect("options");
            subscriptions[second.as_str()] = subscriptions[sub].clone();
        });
        let create = |sub: &str| pair.flare(&["create_subscription", "--use-repl-user", sub]);
        let drop = |sub: &str| pair.flare(&["drop_subscription", sub]);
        let comment = |db: &str, sub: &str| {
            subscriber.value(
                db,
                &format!(
                    "SELECT coalesce(obj_description(oid, 'pg_subscription'), '') FROM pg_subscription WHERE subname = '{sub}'"
                ),
            )
        };
        let membership = format!("\"granted\":\"membership\",\"role\":\"{owner}\"");
        let on_database = "\"granted\":\"create_on_database\"";

        let before = rights();
        create(sub).ok().prints("act for").prints("grant CREATE");
        assert_ne!(rights(), before);
        assert!(comment(db, sub).contains(&membership) && comment(db, sub).contains(on_database));
        pair.flare(&["drop_subscription", sub, "--dry-run"])
            .ok()
            .prints("would take back");
        drop(sub).ok().prints("take back");
        assert_eq!(rights(), before, "{old}-{new}");

        // What is the user's stays, in part and in whole.
        for (user_grants, user_revokes) in [
            (
                format!("GRANT {owner} TO {admin} WITH SET FALSE"),
                format!("REVOKE {owner} FROM {admin} GRANTED BY {admin}"),
            ),
            (
                format!(
                    "GRANT {owner} TO {admin} WITH SET TRUE; SET ROLE {owner}; GRANT CREATE ON DATABASE {db} TO {admin}"
                ),
                format!(
                    "SET ROLE {owner}; REVOKE CREATE ON DATABASE {db} FROM {admin}; RESET ROLE; REVOKE {owner} FROM {admin} GRANTED BY {admin}"
                ),
            ),
        ] {
            by_admin(db, &user_grants);
            let users = rights();
            assert_ne!(users, before);
            create(sub).ok();
            drop(sub).ok();
            assert_eq!(rights(), users, "{old}-{new}: {user_grants}");
            by_admin(db, &user_revokes);
            assert_eq!(rights(), before);
        }

        // A creation that fails, in the transaction and after it.
        let declared = std::fs::read_to_string(pair.config_path()).expect("read flare.yml");
        pair.configure(|c| {
            c["hosts"]["publisher"]["conn"]["port_via_subscriber"] = 1.into();
        });
        create(sub).code(1).says("undone, nothing is left");
        assert_eq!(rights(), before, "{old}-{new}");
        let other = Cluster::private(old, &[]);
        pair.create_roles_on(&other);
        pair.create_database_on(&other);
        pair.configure(|c| {
            let conn = &mut c["hosts"]["publisher"]["conn"];
            conn["port_via_subscriber"] = u64::from(other.port()).into();
        });
        let running = pair.spawn(&["create_subscription", "--use-repl-user", sub]);
        wait::for_("the subscription", Duration::from_secs(30), || {
            subscriber.value(db, SUBSCRIPTIONS) == "1"
        });
        assert_ne!(rights(), before);
        running.signal(2);
        running.wait().code(130).says("undone, nothing is left");
        nothing_is_left(&pair);
        assert_eq!(rights(), before, "{old}-{new}");
        pair.write_config(&declared);

        // Another subscription of the same owner inherits it, here or in another database.
        create(sub).ok();
        create(&second).ok();
        assert_eq!(comment(db, &second), "");
        let granted = rights();
        drop(sub).ok().prints("stays for subscription");
        assert_eq!(rights(), granted);
        assert!(comment(db, &second).contains(&membership));
        drop(&second).ok();
        assert_eq!(rights(), before, "{old}-{new}");

        let elsewhere = format!("{db}_2");
        subscriber.sql(
            "postgres",
            &format!("CREATE DATABASE {elsewhere} OWNER {admin}"),
        );
        by_admin(
            &elsewhere,
            "CREATE SUBSCRIPTION other CONNECTION 'password=x' PUBLICATION p
               WITH (connect = false, slot_name = NONE, enabled = false, create_slot = false);
             COMMENT ON SUBSCRIPTION other IS 'the user''s'",
        );
        create(sub).ok();
        drop(sub).ok().prints("stays for subscription");
        let inherited = comment(&elsewhere, "other");
        assert!(inherited.starts_with("the user's\n"), "{inherited}");
        assert!(
            inherited.contains(&membership) && !inherited.contains(on_database),
            "{inherited}"
        );
        assert!(rights().contains(owner.as_str()) && !rights().contains("CREATE"));
        by_admin(&elsewhere, "DROP SUBSCRIPTION other");
        subscriber.sql("postgres", &format!("DROP DATABASE {elsewhere}"));
    }
}

#[test]
fn no_password_is_in_the_servers_logs() {
    let settings = [
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
    ];
    let (publisher, subscriber) = (Cluster::private(16, &[]), Cluster::private(17, &settings));
    let pair = Pair::between(publisher, subscriber)
        .with_accounts(10)
        .published();
    pair.flare(&[
        "create_subscription",
        "--use-repl-user",
        "--wait",
        pair.subname(),
    ])
    .ok();
    let log = pair.subscriber().log();
    assert!(log.contains("pg_subscription"), "statements are logged");
    let part = &Passwords::REPL[..4];
    assert!(!log.contains("CREATE SUBSCRIPTION") && !log.contains(&format!("password='{part}")));
}

#[test]
fn a_signal_while_it_copies_leaves_it_running_and_a_drop_takes_every_slot() {
    for (old, new) in [(10, 10), (13, 14), (18, 18)] {
        let pair = Pair::new(old, new).with_accounts(10).published();
        pair.subscriber().sql(pair.db(), SLOW);
        let sub = pair.subname();
        let running = pair.spawn(&["create_subscription", "--use-repl-user", "--wait", sub]);
        let ready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'";
        wait::for_("the other tables", Duration::from_secs(60), || {
            pair.subscriber().value(pair.db(), ready) == "4"
        });
        running.signal(2);
        running.wait().code(130).says("goes on copying by itself");
        assert_eq!(pair.subscriber().value(pair.db(), SUBSCRIPTIONS), "1");
        let slots = pair.publisher().value(pair.db(), SLOTS);
        assert!(new < 14 || slots.contains("_sync_"), "{slots}");
        pair.flare(&["drop_subscription", sub]).ok();
        nothing_is_left(&pair);
    }
}

#[test]
fn a_prepared_transaction_is_named_and_odd_names_are_kept() {
    let publisher = Cluster::private(12, &[("max_prepared_transactions", "5")]);
    let pair = Pair::between(publisher, Cluster::subscriber(18))
        .with_accounts(10)
        .published();
    let odd = format!("{}It's \"Odd\"-1", pair.names().id);
    pair.configure(|c| {
        let declared = c["subscriptions"][pair.subname()].clone();
        let mut subscriptions = serde_yaml::Mapping::new();
        subscriptions.insert(odd.as_str().into(), declared);
        c["subscriptions"] = subscriptions.into();
    });
    pair.publisher().sql(
        "postgres",
        "BEGIN; CREATE TABLE p (a int); PREPARE TRANSACTION 'it''s forgotten'",
    );
    pair.flare(&["create_subscription", "--use-repl-user", &odd])
        .code(1)
        .says("prepared transaction \"it's forgotten\"")
        .says("ROLLBACK PREPARED 'it''s forgotten'");
    nothing_is_left(&pair);
    pair.publisher()
        .sql("postgres", "ROLLBACK PREPARED 'it''s forgotten'");
    pair.flare(&["create_subscription", "--use-repl-user", "--wait", &odd])
        .ok();
    assert_eq!(count(pair.subscriber(), &pair), "10");
    pair.flare(&["drop_subscription", &odd]).ok();
    nothing_is_left(&pair);
}

#[test]
fn options_reach_the_subscription() {
    let pair = Pair::new(17, 18).with_accounts(10).published();
    let (sub, db) = (pair.subname(), pair.db());
    pair.configure(|c| {
        c["subscriptions"][sub]["options"] = serde_yaml::from_str(
            "{streaming: parallel, binary: true, two_phase: on, origin: none, failover: true, copy_data: off}",
        )
        .expect("options");
    });
    pair.flare(&["create_subscription", "--use-repl-user", "--wait", sub])
        .ok();
    let options =
        "SELECT substream::text || subbinary || suborigin || subfailover FROM pg_subscription";
    assert_eq!(
        pair.subscriber()
            .value(db, &format!("{options} WHERE subname = '{sub}'")),
        "ptruenonetrue"
    );
    assert_eq!(count(pair.subscriber(), &pair), "0");
    let slot = format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{sub}'");
    assert_eq!(pair.publisher().value(db, &slot), "t");
    pair.publisher()
        .sql(db, "INSERT INTO pgbench_accounts (aid) VALUES (77)");
    wait::for_("the row", Duration::from_secs(20), || {
        count(pair.subscriber(), &pair) == "1"
    });
    pair.flare(&["drop_subscription", sub]).ok();
    nothing_is_left(&pair);
}

#[test]
fn a_subscription_made_by_hand_is_known_and_a_lost_slot_is_said() {
    let pair = Pair::new(11, 16).with_accounts(10).replicating();
    let (sub, db) = (pair.subname(), pair.db());
    let run = pair.flare(&[
        "create_subscription",
        "--use-repl-user",
        sub,
        "--format",
        "json",
    ]);
    assert_eq!(run.ok().json()["changed"], false, "{run}");
    pair.subscriber()
        .sql(db, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
    pair.flare(&["create_subscription", sub])
        .code(1)
        .says("it is disabled")
        .says("ENABLE");
    let gone = format!("SELECT pg_drop_replication_slot('{sub}')");
    wait::for_("the slot to be idle", Duration::from_secs(10), || {
        pair.publisher().try_rows(db, &gone).is_ok()
    });
    pair.flare(&["create_subscription", sub])
        .code(1)
        .says("is not on the publisher");
    pair.flare(&["drop_subscription", sub]).ok();
    nothing_is_left(&pair);
}

#[test]
fn frozen_servers_hold_nobody_up() {
    let frozen = Cluster::private(16, &[]);
    frozen.freeze();
    let pair = Pair::alone(17, 18).with_accounts(10).published();
    let sub = pair.subname();
    let lead_to = |server: &Cluster| {
        let (host, port) = (server.host(), u64::from(server.port()));
        pair.configure(|c| {
            let conn = &mut c["hosts"]["publisher"]["conn"];
            conn["host_via_subscriber"] = host.into();
            conn["port_via_subscriber"] = port.into();
        });
    };
    lead_to(&frozen);
    pair.flare(&["create_subscription", "--use-repl-user", sub])
        .code(1)
        .says("host_via_subscriber")
        .says("undone, nothing is left");
    nothing_is_left(&pair);
    frozen.thaw();

    lead_to(pair.publisher());
    pair.subscriber().sql(pair.db(), SLOW);
    pair.flare(&["create_subscription", "--use-repl-user", sub])
        .ok();
    let slots = || pair.publisher().value(pair.db(), SLOTS);
    wait::for_("a copy's slot", Duration::from_secs(20), || {
        slots().contains("_sync_")
    });
    pair.publisher().freeze();
    pair.flare(&["drop_subscription", sub])
        .code(1)
        .says("--force");
    let dropped = pair.flare(&["drop_subscription", "--force", sub]);
    pair.publisher().thaw();
    dropped.ok().prints("stays there");
    assert!(dropped.took() < Duration::from_secs(20), "{dropped}");
    pair.flare(&["drop_subscription", sub]).ok();
    nothing_is_left(&pair);
}
