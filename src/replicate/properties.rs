//! What a database itself has beside its schema: owner, privileges, settings, comment, connection limit.

use std::collections::BTreeSet;

use super::borrowed::Borrowed;
use super::setting;
use super::{Change, Mode, Plan, Run, made};
use crate::catalog::databases::{self, Database, Privilege};
use crate::catalog::roles::{foreign_roles, missing_roles};
use crate::catalog::settings::{self, Parameters, Setting};
use crate::error::Result;
use crate::server::{Ddl, Server, Side, Subscriber};
use crate::value::{Ident, Literal};

/// A database as it is right after CREATE DATABASE.
fn fresh(source: &Database) -> Database {
    let entry = |grantee: Option<&str>, privilege: &str| Privilege {
        grantee: grantee.map(str::to_owned),
        privilege: privilege.to_owned(),
        grantable: false,
    };
    let owner = Some(source.owner.as_str());
    Database {
        datconnlimit: -1,
        comment: None,
        acl: [
            entry(None, "CONNECT"),
            entry(None, "TEMPORARY"),
            entry(owner, "CONNECT"),
            entry(owner, "TEMPORARY"),
            entry(owner, "CREATE"),
        ]
        .into(),
        ..source.clone()
    }
}

/// What makes the subscriber's database the publisher's: owner, privileges, settings, comment, connection limit.
#[derive(Clone, Debug)]
pub(super) struct Properties {
    source: Database,
    /// `None`: it does not exist yet.
    target: Option<Database>,
    /// The publisher's settings for this database.
    settings: Vec<Setting>,
    existing: Vec<Setting>,
    missing_roles: BTreeSet<String>,
    /// Replication runs into the database: who may connect is the cutover's affair.
    subscribed: bool,
}

impl Properties {
    /// Reads them from both servers.
    pub(super) fn read(
        publisher: &Server,
        subscriber: &Server,
        source: &Database,
    ) -> Result<Properties> {
        let dbname = &source.datname;
        let of_database = |server: &Server| -> Result<Vec<Setting>> {
            let mut all = made::users_settings(server)?;
            all.retain(|setting| setting.dbname.as_deref() == Some(dbname));
            Ok(all)
        };
        let target = databases::database(subscriber.admin(), dbname)?;
        let settings = of_database(publisher)?;
        let mut named: Vec<String> = vec![source.owner.clone()];
        named.extend(source.acl.iter().filter_map(|entry| entry.grantee.clone()));
        named.extend(settings.iter().filter_map(|setting| setting.role.clone()));
        Ok(Properties {
            existing: match target {
                Some(_) => of_database(subscriber)?,
                None => Vec::new(),
            },
            missing_roles: missing_roles(subscriber.admin(), &named)?
                .into_iter()
                .collect(),
            subscribed: databases::is_subscribed(subscriber.admin(), dbname)?,
            source: source.clone(),
            target,
            settings,
        })
    }

    /// The same for a database that is not there yet, whatever the subscriber has.
    pub(super) fn of_a_new_database(self) -> Properties {
        Properties {
            target: None,
            existing: Vec::new(),
            subscribed: false,
            ..self
        }
    }

    /// The statements that are still to be run.
    pub(super) fn plan(&self, parameters: &Parameters) -> Plan {
        let source = &self.source;
        let dbname = Ident::new(&source.datname);
        let name = format!("database {:?}", source.datname);
        let target = self.target.clone().unwrap_or_else(|| fresh(source));
        let mut plan = Plan::new(Side::Subscriber, "postgres");
        if self.subscribed {
            plan.note(format!(
                "owner, privileges and connection limit of {name} are left alone: a subscription writes into it"
            ));
        } else {
            self.owner_and_privileges(&target, &mut plan);
            if source.datconnlimit != target.datconnlimit {
                plan.step(
                    format!("set the connection limit of {name}"),
                    format!(
                        "ALTER DATABASE {dbname} CONNECTION LIMIT {}",
                        source.datconnlimit
                    ),
                );
            }
        }
        for wanted in &self.settings {
            let missing = wanted
                .role
                .as_ref()
                .filter(|role| self.missing_roles.contains(*role));
            if self.existing.contains(wanted) {
                continue;
            } else if let Some(role) = missing {
                plan.note(format!(
                    "the setting {} is left out: the subscriber has no role {role:?}",
                    setting::what(wanted)
                ));
            } else if let Some(why) = setting::obstacle(parameters, wanted) {
                plan.note(why);
            } else {
                plan.step(
                    format!("set {}", setting::what(wanted)),
                    setting::statement(wanted),
                );
            }
        }
        if let (Some(comment), true) = (&source.comment, source.comment != target.comment) {
            plan.step(
                format!("comment on {name}"),
                format!("COMMENT ON DATABASE {dbname} IS {}", Literal(comment)),
            );
        }
        plan
    }

    fn owner_and_privileges(&self, target: &Database, plan: &mut Plan) {
        let source = &self.source;
        let dbname = Ident::new(&source.datname);
        let name = format!("database {:?}", source.datname);
        let exists = |role: &Option<String>| match role {
            Some(role) => !self.missing_roles.contains(role),
            None => true,
        };
        let mut held = target.acl.clone();
        if source.owner != target.owner && exists(&Some(source.owner.clone())) {
            plan.step(
                format!("give {name} to {:?}", source.owner),
                format!(
                    "ALTER DATABASE {dbname} OWNER TO {}",
                    Ident::new(&source.owner)
                ),
            );
            // ALTER DATABASE OWNER hands the old owner's privileges to the new one.
            held = held
                .into_iter()
                .map(|mut entry| {
                    if entry.grantee.as_ref() == Some(&target.owner) {
                        entry.grantee = Some(source.owner.clone());
                    }
                    entry
                })
                .collect();
        }
        let grantee = |entry: &Privilege| match &entry.grantee {
            Some(role) => Ident::new(role).to_string(),
            None => "PUBLIC".to_owned(),
        };
        for entry in held.difference(&source.acl) {
            let privilege = &entry.privilege;
            plan.step(
                format!("revoke {privilege} on {name} from {}", grantee(entry)),
                format!(
                    "REVOKE {privilege} ON DATABASE {dbname} FROM {}",
                    grantee(entry)
                ),
            );
        }
        for entry in source.acl.difference(&held) {
            let privilege = &entry.privilege;
            if !exists(&entry.grantee) {
                plan.note(format!(
                    "{privilege} on {name} is not granted to {}: the subscriber has no such role",
                    grantee(entry)
                ));
                continue;
            }
            let option = if entry.grantable {
                " WITH GRANT OPTION"
            } else {
                ""
            };
            plan.step(
                format!("grant {privilege} on {name} to {}{option}", grantee(entry)),
                format!(
                    "GRANT {privilege} ON DATABASE {dbname} TO {}{option}",
                    grantee(entry)
                ),
            );
        }
    }

    /// What may be set on the subscriber, of what this database's settings are.
    pub(super) fn parameters(&self, subscriber: &Subscriber) -> Result<Parameters> {
        settings::parameters(subscriber, &self.settings)
    }

    /// Makes the subscriber's database equal, in one transaction.
    pub(super) fn equalise(&self, subscriber: &Subscriber, run: &Run) -> Result<Change> {
        let plan = self.plan(&self.parameters(subscriber)?);
        if plan.is_empty() || run.mode == Mode::DryRun {
            return plan.carry_out(subscriber.admin(), run);
        }
        let mut owners = vec![self.source.owner.clone()];
        owners.extend(self.target.as_ref().map(|target| target.owner.clone()));
        owners.dedup();
        let borrowed = Borrowed::of(subscriber, foreign_roles(subscriber, &owners)?)?;
        let plan = borrowed.around(plan);
        let run = Run {
            ddl: Ddl::default(),
            ..run.clone()
        };
        plan.carry_out(subscriber.admin(), &run)
    }
}

#[cfg(test)]
mod tests {
    use super::super::database::tests::shop;
    use super::*;

    fn database() -> Database {
        fresh(&shop())
    }

    fn properties(source: Database, target: Option<Database>) -> Properties {
        Properties {
            source,
            target,
            settings: Vec::new(),
            existing: Vec::new(),
            missing_roles: BTreeSet::new(),
            subscribed: false,
        }
    }

    fn planned(properties: &Properties) -> Vec<String> {
        let plan = properties.plan(&Parameters::default());
        plan.statements().iter().map(|s| s.shown.clone()).collect()
    }

    #[test]
    fn privileges_become_equal_entry_by_entry() {
        let mut source = database();
        source.acl.retain(|entry| entry.grantee.is_some());
        source.acl.insert(Privilege {
            grantee: Some("app".into()),
            privilege: "CONNECT".into(),
            grantable: true,
        });
        assert_eq!(
            planned(&properties(source.clone(), None)),
            [
                r#"REVOKE CONNECT ON DATABASE "sh""op" FROM PUBLIC"#,
                r#"REVOKE TEMPORARY ON DATABASE "sh""op" FROM PUBLIC"#,
                r#"GRANT CONNECT ON DATABASE "sh""op" TO "app" WITH GRANT OPTION"#,
            ]
        );
        assert!(planned(&properties(source.clone(), Some(source))).is_empty());
    }

    #[test]
    fn a_new_owner_takes_over_the_old_ones_privileges() {
        let other = fresh(&Database {
            owner: "other".into(),
            ..database()
        });
        assert_eq!(
            planned(&properties(database(), Some(other))),
            [r#"ALTER DATABASE "sh""op" OWNER TO "own""#]
        );
    }

    #[test]
    fn a_shut_door_stays_shut() {
        let mut shut = database();
        shut.acl.retain(|entry| entry.grantee.is_some());
        let mut properties = properties(database(), Some(shut));
        assert_eq!(planned(&properties).len(), 2);
        properties.subscribed = true;
        assert!(planned(&properties).is_empty());
    }
}
