//! Who may subscribe on a server without a superuser, what is granted for that, and that it is taken back.

use std::time::Duration;

use super::{SUBSCRIPTIONS, count, create_and_wait, goes_without_trace, nothing_is_left};
use crate::support::{Cluster, Pair, matrix, wait};

#[test]
fn an_administrator_without_superuser_subscribes_from_16_on() {
    for &(old, new) in matrix::sample(&[(14, 17), (10, 16)], &[(10, 16)]) {
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
        let create = || create_and_wait(&pair);
        let subowner = |whom: &str| {
            assert_eq!(
                subscriber.value(db, "SELECT subowner::regrole FROM pg_subscription"),
                whom
            );
            assert_eq!(count(subscriber, &pair), "10");
            goes_without_trace(&pair);
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
#[ignore = "make soak"]
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
