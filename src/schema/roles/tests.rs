use std::collections::{BTreeMap, BTreeSet};

use super::*;

const OF_18: &str = include_str!("../../../fixtures/dumps/roles-pg_dumpall-18.sql");
const OF_10_BY_15: &str = include_str!("../../../fixtures/dumps/roles-pg_dumpall-15.sql");

struct Subscriber {
    major: u32,
    executor: Executor,
    may_set: MaySet,
    roles: BTreeMap<String, Standing>,
}

impl Subscriber {
    fn new(major: u32, executor: Executor) -> Self {
        let standing = |used, reach| Standing { used, reach };
        let roles = [
            ("postgres", standing(Use::Other, Reach::Beyond)),
            ("flare_su", standing(Use::Connects, Reach::Within)),
            ("pg_monitor", standing(Use::Other, Reach::Within)),
        ];
        Subscriber {
            major,
            executor,
            may_set: match executor {
                Executor::Superuser => MaySet::ALL,
                Executor::Administrator => MaySet::OF_MANAGED_SERVERS,
            },
            roles: roles
                .map(|(role, standing)| (role.to_owned(), standing))
                .into(),
        }
    }

    fn with(mut self, role: &str, reach: Reach) -> Self {
        let used = Use::Other;
        self.roles.insert(role.to_owned(), Standing { used, reach });
        self
    }

    fn rewrite(&self, dump: &str) -> (String, RolesReport) {
        let mut output = Vec::new();
        let target = RolesTarget {
            major: self.major,
            executor: self.executor,
            executor_name: "admin",
            rds: RdsOptions::Keep,
            may_set: self.may_set,
            restrict: Restrict::Remove,
            roles: &self.roles,
            bootstrap: &BTreeSet::from(["postgres".to_owned()]),
            verifier: &|_| None,
            setting: &|_, name| match (name, self.executor) {
                ("log_statement", Executor::Administrator) => Setting::NotPermitted,
                ("gone", _) => Setting::Unknown,
                _ => Setting::Settable,
            },
        };
        let report = rewrite_roles(dump.as_bytes(), &mut output, &target).unwrap();
        (String::from_utf8(output).unwrap(), report)
    }
}

#[test]
fn a_superuser_creates_what_is_missing_and_updates_the_rest() {
    let subscriber = Subscriber::new(18, Executor::Superuser).with("app", Reach::Within);
    let (sql, report) = subscriber.rewrite(OF_18);
    assert!(!sql.contains("CREATE ROLE app;") && sql.contains("\nALTER ROLE app WITH"));
    assert!(sql.contains("CREATE ROLE boss;\nALTER ROLE boss WITH SUPERUSER"));
    for alone in [
        "ROLE flare_su",
        "ROLE postgres",
        "TO postgres WITH",
        "restrict",
    ] {
        assert!(!sql.contains(alone), "{alone}");
    }
    assert_eq!(report.updated, ["app"]);
    assert_eq!(report.left_alone, ["flare_su", "postgres"]);
    assert_eq!(report.need_password, ["nopw"]);
    assert_eq!(report.notes, [] as [&str; 0]);
    assert!(report.created.contains(&"we\"ird'; -- x".to_owned()));
}

#[test]
fn grantors_stay_only_where_they_may_grant() {
    let (sql, _) = Subscriber::new(18, Executor::Superuser).rewrite(OF_18);
    assert!(
        sql.contains("GRANT readers TO nopw WITH INHERIT TRUE GRANTED BY \"we\"\"ird'; -- x\";\n")
    );
    assert!(
        sql.contains("GRANT \"app-owner\" TO app WITH ADMIN OPTION, INHERIT TRUE, SET FALSE;\n")
    );
    assert!(!sql.contains("GRANTED BY postgres"));
    let (sql, _) = Subscriber::new(18, Executor::Superuser).rewrite(OF_10_BY_15);
    assert!(
        !sql.contains("GRANTED BY"),
        "before 16 grants are not in the order of their grantors"
    );
    let (sql, report) = Subscriber::new(15, Executor::Superuser).rewrite(OF_18);
    assert!(sql.contains("GRANT readers TO app;\n") && !sql.contains("INHERIT TRUE"));
    assert_eq!(
        report.notes.len(),
        2,
        "INHERIT FALSE and SET FALSE are lost: {:?}",
        report.notes
    );
}

#[test]
fn an_administrator_gets_what_it_may_do() {
    let subscriber = Subscriber::new(15, Executor::Administrator)
        .with("rds_replication", Reach::Within)
        .with("oldmd", Reach::Beyond)
        .with("app-owner", Reach::Within);
    let (sql, report) = subscriber.rewrite(OF_10_BY_15);
    for forbidden in [
        "SUPERUSER",
        "REPLICATION ",
        "NOREPLICATION",
        "BYPASSRLS",
        "GRANTED BY",
        "oldmd",
        "log_statement",
    ] {
        assert!(!sql.contains(forbidden), "{forbidden}");
    }
    assert!(sql.contains("CREATE ROLE readers WITH INHERIT NOCREATEROLE NOCREATEDB NOLOGIN;\n"));
    assert!(sql.contains(
        "\nALTER ROLE \"app-owner\" WITH INHERIT NOCREATEROLE CREATEDB LOGIN PASSWORD 'SCRAM"
    ));
    assert!(sql.contains("GRANT rds_replication TO repl;\n"));
    assert!(
        sql.contains(
            "NOINHERIT CREATEROLE NOCREATEDB NOLOGIN VALID UNTIL '2031-02-03 04:05:06+00';"
        )
    );
    assert!(sql.contains("CONNECTION LIMIT 40 PASSWORD"));
    insta::assert_snapshot!(report.notes.join("\n"), @r#"
    role "boss" has SUPERUSER on the publisher, which cannot be given here
    role "oldmd" exists and may not be altered: left as it is
    role "repl" is a member of rds_replication instead of REPLICATION
    role "sneaky" has BYPASSRLS on the publisher, which cannot be given here
    setting log_statement of role "app" needs more rights than there are on the subscriber
    "#);
}

#[test]
fn from_16_on_an_administrator_gives_what_it_has_itself() {
    let mut subscriber =
        Subscriber::new(18, Executor::Administrator).with("app-owner", Reach::Within);
    subscriber.may_set = MaySet {
        superuser: false,
        replication: true,
        bypassrls: false,
        createdb: false,
    };
    let (sql, report) = subscriber.rewrite(OF_18);
    assert!(
        sql.contains("CREATE ROLE repl WITH INHERIT NOCREATEROLE LOGIN REPLICATION PASSWORD"),
        "{sql}"
    );
    assert!(!sql.contains("CREATEDB") && !sql.contains("BYPASSRLS"));
    assert!(
        sql.contains("\nALTER ROLE \"app-owner\" WITH INHERIT NOCREATEROLE LOGIN NOREPLICATION")
    );
    let lost = |word: &str| report.notes.iter().filter(|it| it.contains(word)).count();
    assert_eq!(
        (lost("CREATEDB"), lost("BYPASSRLS"), lost("REPLICATION")),
        (1, 1, 0)
    );
}

#[test]
fn memberships_that_cannot_be_are_noted() {
    let dump = "GRANT rds_iam TO app;\nGRANT a TO b;\nGRANT pg_monitor TO rds_superuser;\nGRANT postgres TO app;\n";
    let subscriber = Subscriber::new(18, Executor::Superuser).with("app", Reach::Within);
    let (sql, report) = subscriber.rewrite(dump);
    assert_eq!(sql, "");
    assert_eq!(report.notes.len(), 3, "{:?}", report.notes);
    let (sql, _) = subscriber.with("rds_iam", Reach::Within).rewrite(dump);
    assert_eq!(sql, "GRANT rds_iam TO app;\n");
}

#[test]
fn settings_of_other_versions_are_noted() {
    let dump = "ALTER ROLE app SET gone TO 'x';\nALTER ROLE app SET \"my.own\" TO 'TO';\nALTER ROLE flare_su SET work_mem TO '1MB';\n";
    let subscriber = Subscriber::new(18, Executor::Superuser).with("app", Reach::Within);
    let (sql, report) = subscriber.rewrite(dump);
    assert_eq!(
        sql,
        "ALTER ROLE app SET \"my.own\" TO 'TO';\nALTER ROLE flare_su SET work_mem TO '1MB';\n"
    );
    assert_eq!(
        report.notes,
        ["setting gone of role \"app\" does not exist on the subscriber"]
    );
}

#[test]
fn rewriting_twice_changes_nothing_and_reports_show_no_hash() {
    for executor in [Executor::Superuser, Executor::Administrator] {
        for dump in [OF_18, OF_10_BY_15] {
            let subscriber = Subscriber::new(18, executor);
            let (once, report) = subscriber.rewrite(dump);
            let (twice, again) = subscriber.rewrite(&once);
            assert_eq!(once, twice);
            assert_eq!(report.created, again.created);
            assert!(!format!("{report:?}").contains("SCRAM"));
        }
    }
}

#[test]
fn stripping_for_rds_leaves_the_rest_as_it_is() {
    let mut output = Vec::new();
    strip_role_options_for_rds(OF_10_BY_15.as_bytes(), &mut output).unwrap();
    let sql = String::from_utf8(output).unwrap();
    for stripped in ["SUPERUSER", "REPLICATION", "BYPASSRLS", "GRANTED BY"] {
        assert!(!sql.contains(stripped), "{stripped}");
    }
    assert!(sql.contains(
        "CREATE ROLE postgres;\nALTER ROLE postgres WITH INHERIT CREATEROLE CREATEDB LOGIN;\n"
    ));
    assert!(
        sql.contains("WITH ADMIN OPTION;\n")
            && sql.contains("COMMENT ON ROLE app IS 'the app;\n-- it''s';\n")
    );
}

#[test]
fn whoever_creates_a_role_is_not_granted_it_again() {
    let dump = "CREATE ROLE app;\nGRANT app TO admin WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;\n\
                GRANT app TO admin WITH INHERIT TRUE, SET TRUE;\n";
    let of = |major| {
        Subscriber::new(major, Executor::Administrator)
            .with("admin", Reach::Within)
            .rewrite(dump)
            .0
    };
    assert!(!of(16).contains("ADMIN OPTION"), "{}", of(16));
    assert!(
        of(16).contains("GRANT app TO admin WITH INHERIT TRUE, SET TRUE;"),
        "{}",
        of(16)
    );
    assert!(
        of(14).contains("GRANT app TO admin WITH ADMIN OPTION;"),
        "{}",
        of(14)
    );
}
