//! The database itself, made from `pg_database`: `pg_dump --create` writes options that older servers reject.

use std::collections::BTreeSet;

use super::setting;
use super::{Change, Plan, Run};
use crate::catalog::databases::{self, Database, Privilege};
use crate::catalog::roles::{foreign_roles, missing_roles};
use crate::catalog::settings::{self, Parameters, Setting};
use crate::error::{Advise, Failure, Report, Result, WrapErr, message_of};
use crate::server::{
    Ddl, Login, Patience, Server, Side, Statement, Subscriber, interrupt, sqlstate_of,
};
use crate::value::{Ident, Literal};

/// The database's locale as CREATE DATABASE says it, or why the subscriber cannot have it.
fn locale_options(source: &Database, major: i32) -> Result<String> {
    let Database {
        datname,
        datcollate,
        datctype,
        ..
    } = source;
    let libc = format!(
        "LC_COLLATE {} LC_CTYPE {}",
        Literal(datcollate),
        Literal(datctype)
    );
    let refused = |needs: &str, since: i32| {
        Failure::new(format!(
            "create database {datname:?}: its locale is {needs}, which exists only from PostgreSQL {since} on, and the subscriber runs {major}"
        ))
        .hint("create the database on the subscriber yourself with a locale that it has; flare loads into an empty database")
    };
    let locale = source
        .datlocale
        .as_ref()
        .or(source.daticulocale.as_ref())
        .map(Literal);
    match (source.datlocprovider.as_deref(), locale) {
        (Some("i"), Some(locale)) if major >= 15 => {
            let rules = match &source.daticurules {
                Some(_) if major < 16 => return refused("ICU with rules", 16).err(),
                Some(rules) => format!(" ICU_RULES {}", Literal(rules)),
                None => String::new(),
            };
            Ok(format!(
                "LOCALE_PROVIDER icu ICU_LOCALE {locale}{rules} {libc}"
            ))
        }
        (Some("i"), _) => refused("of ICU", 15).err(),
        (Some("b"), Some(locale)) if major >= 17 => Ok(format!(
            "LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale} {libc}"
        )),
        (Some("b"), _) => refused("builtin", 17).err(),
        _ if major >= 15 => Ok(format!("LOCALE_PROVIDER libc {libc}")),
        _ => Ok(libc),
    }
}

/// CREATE DATABASE as the publisher has it, for a subscriber of this version.
pub(super) fn create_statement(source: &Database, major: i32, owner: Owner) -> Result<String> {
    let owner = match owner {
        Owner::Source => format!("OWNER {} ", Ident::new(&source.owner)),
        Owner::Creator => String::new(),
    };
    Ok(format!(
        "CREATE DATABASE {} {owner}TEMPLATE template0 ENCODING {} {}",
        Ident::new(&source.datname),
        Literal(&source.encoding_name),
        locale_options(source, major)?
    ))
}

/// The publisher's database; an error when there is none of this name.
pub(super) fn source(publisher: &Server, dbname: &str) -> Result<Database> {
    databases::database(publisher.admin(), dbname)?.ok_or_else(|| {
        let message = format!("read database {dbname:?} of the publisher: it does not exist");
        Failure::new(message)
            .hint("correct publications in the configuration, or create the database there")
            .into()
    })
}

/// Who owns a new database at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Source,
    /// The creator may not act for the owner yet.
    Creator,
}

/// Creates the database, owned as on the publisher. It fails before anything is there.
pub(super) fn create(subscriber: &Subscriber, source: &Database, run: &Run) -> Result<()> {
    let dbname = &source.datname;
    let foreign = foreign_roles(subscriber, std::slice::from_ref(&source.owner))?;
    let owner = match foreign.is_empty() {
        true => Owner::Source,
        false => Owner::Creator,
    };
    let statement = create_statement(source, subscriber.major(), owner)?;
    let created = subscriber
        .connect(Login::Superuser, "postgres")?
        .with_patience(Patience::WhileServerAnswers)
        .batch(&statement)
        .wrap_err_with(|| format!("create database {dbname:?}"));
    if let Err(report) = created {
        // Interrupted or lost, the statement may have come to its end all the same.
        let answered = sqlstate_of(&report).is_some();
        let report = match answered {
            true => report,
            false => undone(subscriber, source, report),
        };
        return Err(report).hint(|| {
            "when the subscriber's system lacks the locale, install it there, or create the database yourself with one that it has: flare loads into an empty database".into()
        });
    }
    run.progress
        .step(&format!("created database {dbname:?} on the subscriber"));
    if owner == Owner::Creator {
        let mut plan = Plan::new(Side::Subscriber, "postgres");
        let borrowed = Borrowed::of(subscriber, foreign)?;
        borrowed.begin(&mut plan);
        plan.step(
            format!("give database {dbname:?} to {:?}", source.owner),
            format!(
                "ALTER DATABASE {} OWNER TO {}",
                Ident::new(dbname),
                Ident::new(&source.owner)
            ),
        );
        borrowed.end(&mut plan);
        if let Err(report) = plan.carry_out(subscriber.admin(), run) {
            return Err(undone(subscriber, source, report));
        }
    }
    Ok(())
}

/// Drops the database that this run created, after a failure. Never call it for one that was there before.
pub(super) fn undone(subscriber: &Subscriber, source: &Database, cause: Report) -> Report {
    let _shield = interrupt::Shield::raise();
    let dbname = &source.datname;
    match drop_created(subscriber, source) {
        Ok(()) => {
            log::info!("dropped database {dbname:?} again");
            cause
        }
        Err(undo) => {
            let left = format!(
                "database {dbname:?}, created by this run, is still on the subscriber ({}): drop it, or run the command again",
                message_of(&undo)
            );
            cause.wrap_err(left)
        }
    }
}

fn drop_created(subscriber: &Subscriber, source: &Database) -> Result<()> {
    // The session may be the one that broke.
    let session = subscriber
        .connect(Login::Superuser, "postgres")?
        .with_patience(Patience::WhileServerAnswers);
    let Some(found) = databases::database(&session, &source.datname)? else {
        return Ok(());
    };
    let foreign = foreign_roles(subscriber, &[found.owner])?;
    let borrowed = Borrowed::of(subscriber, foreign)?;
    // A killed psql's backend may still be at its last statement.
    session.value::<i64>(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE datname = $1 AND usename = current_user AND pid <> pg_backend_pid()",
        crate::server::params![&source.datname],
    )?;
    for statement in borrowed.grants() {
        statement.run(&session)?;
    }
    let dropped = session.batch(&format!(
        "DROP DATABASE IF EXISTS {}",
        Ident::new(&source.datname)
    ));
    for statement in borrowed.revokes() {
        statement.run(&session)?;
    }
    dropped
}

/// Roles whose member the administrator becomes for as long as it acts for them. A superuser never needs to.
#[derive(Clone, Debug)]
pub(super) struct Borrowed {
    roles: Vec<String>,
    administrator: String,
    major: i32,
}

impl Borrowed {
    /// For these roles, of which the administrator is no member.
    pub(super) fn of(server: &Server, roles: Vec<String>) -> Result<Borrowed> {
        Ok(Borrowed {
            roles,
            administrator: server.credentials(Login::Superuser)?.user().to_owned(),
            major: server.major(),
        })
    }

    fn grants(&self) -> Vec<Statement> {
        let options = match self.major {
            16.. => " WITH INHERIT TRUE, SET TRUE",
            _ => "",
        };
        let grant = |role: &String| {
            Statement::new(
                format!("act for {role:?} for the moment"),
                format!(
                    "GRANT {} TO {}{options}",
                    Ident::new(role),
                    Ident::new(&self.administrator)
                ),
            )
        };
        self.roles.iter().map(grant).collect()
    }

    fn revokes(&self) -> Vec<Statement> {
        let revoke = |role: &String| {
            Statement::new(
                format!("act for {role:?} no longer"),
                format!(
                    "REVOKE {} FROM {}",
                    Ident::new(role),
                    Ident::new(&self.administrator)
                ),
            )
        };
        self.roles.iter().map(revoke).collect()
    }

    pub(super) fn begin(&self, plan: &mut Plan) {
        self.grants().into_iter().for_each(|grant| plan.push(grant));
    }

    pub(super) fn end(&self, plan: &mut Plan) {
        self.revokes()
            .into_iter()
            .for_each(|revoke| plan.push(revoke));
    }

    /// For the head and the end of a script.
    pub(super) fn script(&self) -> (String, String) {
        let lines = |statements: Vec<Statement>| {
            statements
                .iter()
                .map(|statement| format!("{};\n", statement.shown))
                .collect::<String>()
        };
        (lines(self.grants()), lines(self.revokes()))
    }
}

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
    pub(super) source: Database,
    /// `None`: it does not exist yet.
    pub(super) target: Option<Database>,
    /// The publisher's settings for this database.
    pub(super) settings: Vec<Setting>,
    pub(super) existing: Vec<Setting>,
    pub(super) missing_roles: BTreeSet<String>,
    /// Replication runs into the database: its door is shut or open as the cutover wants it.
    pub(super) subscribed: bool,
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
            let mut all = settings::settings(server.admin())?;
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
            let option = match entry.grantable {
                true => " WITH GRANT OPTION",
                false => "",
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

    /// Makes the subscriber's database equal, in one transaction.
    pub(super) fn equalise(&self, subscriber: &Subscriber, run: &Run) -> Result<Change> {
        let parameters = settings::parameters(subscriber)?;
        let plan = self.plan(&parameters);
        if plan.is_empty() {
            return plan.carry_out(subscriber.admin(), run);
        }
        let mut owners = vec![self.source.owner.clone()];
        owners.extend(self.target.as_ref().map(|target| target.owner.clone()));
        owners.dedup();
        let borrowed = Borrowed::of(subscriber, foreign_roles(subscriber, &owners)?)?;
        let plan = plan.between(|plan| borrowed.begin(plan), |plan| borrowed.end(plan));
        let run = Run {
            ddl: Ddl::default(),
            ..run.clone()
        };
        plan.carry_out(subscriber.admin(), &run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        fresh(&Database {
            datname: "sh\"op".into(),
            owner: "own".into(),
            encoding_name: "UTF8".into(),
            datcollate: "C".into(),
            datctype: "en_US.UTF-8".into(),
            datlocprovider: None,
            datlocale: None,
            daticulocale: None,
            daticurules: None,
            datconnlimit: -1,
            comment: None,
            acl: BTreeSet::new(),
        })
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
    fn each_version_hears_of_its_own_locale_options() {
        let old = database();
        assert_eq!(
            create_statement(&old, 14, Owner::Source).unwrap(),
            r#"CREATE DATABASE "sh""op" OWNER "own" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'en_US.UTF-8'"#
        );
        let create = |provider: &str, locale: &str, major| {
            let source = Database {
                datlocprovider: Some(provider.into()),
                datlocale: Some(locale.into()),
                ..database()
            };
            create_statement(&source, major, Owner::Creator)
        };
        let text = create("i", "de-DE", 18).unwrap();
        assert!(
            text.contains("LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LC_COLLATE 'C'"),
            "{text}"
        );
        let text = create("b", "C.UTF-8", 17).unwrap();
        assert!(
            text.contains("LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
            "{text}"
        );
        assert!(create("i", "de-DE", 14).is_err());
        assert!(create("b", "C.UTF-8", 16).is_err());
        assert!(
            create("c", "", 18)
                .unwrap()
                .contains("LOCALE_PROVIDER libc")
        );
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
