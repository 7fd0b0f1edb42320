//! What is to be done to publish a database's tables: pure. Tables whose UPDATE and DELETE would fail are refused.

use super::super::Plan;
use super::coverage::{becomes_full, list, names_exist};
use super::membership::{completion, creation};
use crate::catalog::publications::Publication as Existing;
use crate::catalog::tables::{Table, listed};
use crate::config;
use crate::error::{Failure, Result};
use crate::journal;
use crate::server::{Login, Side};
use crate::value::{Ident, TableName};

/// What was found on the publisher.
pub(super) struct Situation<'a> {
    pub(super) dbname: &'a str,
    pub(super) major: i32,
    pub(super) tables: &'a [Table],
    pub(super) existing: Option<&'a Existing>,
    /// As `pg_publication_tables` lists them.
    pub(super) published: &'a [TableName],
    /// Whether FOR ALL TABLES passed when it was tried.
    pub(super) all_tables: AllTables,
    /// Whether the superuser account is one; on RDS it is not.
    pub(super) superuser: bool,
    /// flare's own table.
    pub(super) status: &'a TableName,
    pub(super) users: Users<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AllTables {
    Permitted,
    Denied,
}

#[derive(Clone, Copy)]
pub(super) struct Users<'a> {
    pub(super) admin: &'a str,
    pub(super) db_owner: &'a str,
}

/// Statements by whoever has the right to run them.
pub(super) struct Decision {
    /// As the database's owner.
    pub(super) owners: Plan,
    /// As the superuser account.
    pub(super) admins: Plan,
    /// Who creates or alters the publication.
    pub(super) login: Login,
    pub(super) publication: Plan,
}

/// The status table as `create` will have made it: all checks come before the first change.
pub(super) fn status_table_to_be(name: TableName, db_owner: &str, superuser: bool) -> Table {
    Table {
        name,
        relkind: 'r',
        relpersistence: 'p',
        relreplident: 'd',
        owner: db_owner.to_owned(),
        mine: superuser,
        db_owners: true,
        ancestors: Vec::new(),
    }
}

/// What is to be done; refuses tables that could not be replicated.
pub(super) fn decide(wanted: &config::Publication, found: &Situation<'_>) -> Result<Decision> {
    let mut decision = Decision {
        owners: Plan::new(Side::Publisher, found.dbname),
        admins: Plan::new(Side::Publisher, found.dbname),
        login: Login::Superuser,
        publication: Plan::new(Side::Publisher, found.dbname),
    };
    names_exist(wanted, found.dbname, found.tables)?;
    let list = list(wanted, found)?;
    for table in found
        .tables
        .iter()
        .filter(|table| becomes_full(wanted, table))
    {
        identity_step(&mut decision, table, found.users)?;
    }
    let unlogged = found.tables.iter().filter(|t| t.relpersistence == 'u');
    let unlogged: Vec<&TableName> = unlogged.map(|table| &table.name).collect();
    if wanted.tables.is_none() && !unlogged.is_empty() {
        decision.publication.note(format!(
            "unlogged tables are not replicated: {}; ALTER TABLE ... SET LOGGED, or copy them by hand",
            listed(unlogged)
        ));
    }
    if wanted.listed && list.is_some() {
        decision.publication.note(
            "all tables are listed by name, as the configuration says: what the application makes later is not published until create_publication runs again",
        );
    } else if wanted.tables.is_none() && list.is_some() && found.dbname == journal::DBNAME {
        decision.publication.note(
            "all tables are listed by name: flare keeps its journal in this database, and FOR ALL TABLES would send it; what the application makes later is not published until create_publication runs again",
        );
    } else if wanted.tables.is_none() && list.is_some() {
        decision.publication.note(format!(
            "the tables are listed one by one, since FOR ALL TABLES is not permitted to {:?} or the publication was made so: run create_publication again when tables are added",
            found.users.admin
        ));
    }
    match found.existing {
        None => creation(&mut decision, wanted, list, found)?,
        Some(existing) if existing.puballtables && found.dbname == journal::DBNAME => {
            return Failure::new(format!(
                "publication {:?} is FOR ALL TABLES, and would send flare's journal, which is kept in this database",
                wanted.pubname
            ))
            .hint(format!(
                "DROP PUBLICATION {}: flare create_publication {} lists the tables",
                Ident::new(&wanted.pubname),
                found.dbname
            ))
            .err();
        }
        Some(existing) => completion(&mut decision, wanted, list, existing, found)?,
    }
    Ok(decision)
}

fn identity_step(decision: &mut Decision, table: &Table, users: Users<'_>) -> Result<()> {
    if table.relreplident == 'f' {
        return Ok(());
    }
    let plan = match (table.db_owners, table.mine) {
        (true, _) => &mut decision.owners,
        (false, true) => &mut decision.admins,
        (false, false) => {
            return Failure::new(format!(
                "set the replica identity of {}: it belongs to {:?}, and neither {:?} nor {:?} may act for it",
                table.name.plain(),
                table.owner,
                users.db_owner,
                users.admin
            ))
            .hint(format!("ALTER TABLE {} REPLICA IDENTITY FULL as its owner", table.name))
            .err();
        }
    };
    plan.step(
        format!("set REPLICA IDENTITY FULL for {}", table.name.plain()),
        format!("ALTER TABLE {} REPLICA IDENTITY FULL", table.name),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::status_table::NAME;

    fn table(name: &str) -> Table {
        Table {
            name: name.parse().unwrap(),
            ..status_table_to_be(TableName::new("public", NAME), "owner", false)
        }
    }

    fn wanted() -> config::Publication {
        config::Publication {
            pubname: "p\"b".into(),
            tables: None,
            listed: false,
            replica_identity_full_tables: vec![],
            allow_no_identity: vec![],
            leave_behind: vec![],
        }
    }

    struct Case {
        major: i32,
        tables: Vec<Table>,
        existing: Option<Existing>,
        published: Vec<TableName>,
        all_tables: AllTables,
    }

    impl Case {
        fn new(tables: Vec<Table>) -> Case {
            Case {
                major: 14,
                tables,
                existing: None,
                published: vec![],
                all_tables: AllTables::Permitted,
            }
        }

        fn decide(&self, wanted: &config::Publication) -> Result<(Login, Vec<String>)> {
            let situation = Situation {
                dbname: "db",
                major: self.major,
                tables: &self.tables,
                existing: self.existing.as_ref(),
                published: &self.published,
                all_tables: self.all_tables,
                superuser: false,
                status: &TableName::new("public", NAME),
                users: Users {
                    admin: "adm",
                    db_owner: "owner",
                },
            };
            let decision = decide(wanted, &situation)?;
            let plans = [&decision.owners, &decision.admins, &decision.publication];
            let shown = plans.iter().flat_map(|plan| plan.statements());
            Ok((decision.login, shown.map(|s| s.shown.clone()).collect()))
        }
    }

    fn existing(members: &[&str]) -> Existing {
        Existing {
            pubname: "p\"b".into(),
            puballtables: false,
            pubinsert: true,
            pubupdate: true,
            pubdelete: true,
            pubtruncate: Some(true),
            via_root: false,
            owner: "owner".into(),
            mine: true,
            members: members.iter().map(|name| name.parse().unwrap()).collect(),
            partial: vec![],
        }
    }

    #[test]
    fn tables_without_identity_become_full_where_the_configuration_says_so() {
        let log = table("app.Log");
        let case = Case::new(vec![table("a"), log]);
        assert_eq!(case.decide(&wanted()).unwrap().1.len(), 1);
        let mut fixed = wanted();
        fixed.replica_identity_full_tables = vec!["app.Log".parse().unwrap()];
        assert_eq!(
            case.decide(&fixed).unwrap().1,
            [
                r#"ALTER TABLE "app"."Log" REPLICA IDENTITY FULL"#,
                r#"CREATE PUBLICATION "p""b" FOR ALL TABLES"#
            ]
        );
    }

    #[test]
    fn before_13_partitions_are_listed_instead_of_their_root() {
        let root = Table {
            relkind: 'p',
            ..table("root")
        };
        let leaf = Table {
            ancestors: vec![root.name.clone()],
            ..table("leaf")
        };
        let mut case = Case::new(vec![root, leaf, table("flare_replication_status")]);
        case.all_tables = AllTables::Denied;
        let (login, statements) = case.decide(&wanted()).unwrap();
        assert_eq!(login, Login::DbOwner);
        assert_eq!(
            statements,
            [
                r#"CREATE PUBLICATION "p""b" FOR TABLE ONLY "public"."root", ONLY "public"."flare_replication_status""#
            ]
        );
        case.major = 12;
        let mut named = wanted();
        named.tables = Some(vec!["root".parse().unwrap()]);
        for wanted in [wanted(), named] {
            assert_eq!(
                case.decide(&wanted).unwrap().1,
                [
                    r#"CREATE PUBLICATION "p""b" FOR TABLE ONLY "public"."leaf", ONLY "public"."flare_replication_status""#
                ]
            );
        }
    }

    #[test]
    fn an_existing_list_is_completed_and_never_cut() {
        let mut case = Case::new(vec![table("a"), table("b"), table("x")]);
        let members = ["b", "x", "flare_replication_status"];
        case.existing = Some(existing(&members));
        case.tables.push(table("flare_replication_status"));
        let mut wanted = wanted();
        wanted.tables = Some(vec!["a".parse().unwrap(), "b".parse().unwrap()]);
        assert_eq!(
            case.decide(&wanted).unwrap().1,
            [r#"ALTER PUBLICATION "p""b" ADD TABLE ONLY "public"."a""#]
        );
        wanted.tables = Some(vec!["b".parse().unwrap()]);
        assert!(case.decide(&wanted).unwrap().1.is_empty());
    }

    #[test]
    fn a_name_that_is_not_there_is_a_usage_error() {
        let mut wanted = wanted();
        wanted.tables = Some(vec!["orders".parse().unwrap()]);
        let error = Case::new(vec![table("Orders")])
            .decide(&wanted)
            .unwrap_err();
        assert_eq!(crate::error::exit_of(&error).code(), 2);
        assert!(
            crate::error::hint_of(&error)
                .unwrap()
                .contains("public.Orders")
        );
    }
}
