//! Extensions of the publisher's database, created in the same schemas of the subscriber's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::database::{self, Borrowed, Properties};
use super::{Change, Mode, Plan, Run};
use crate::catalog::databases;
use crate::catalog::extensions::{Extension, Offer, extensions, offers};
use crate::catalog::objects::schemas;
use crate::catalog::roles::{foreign_roles, missing_roles};
use crate::catalog::settings;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Login, Pair, Patience, Side};
use crate::value::Ident;

/// An extension of the publisher's database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExtensionStatus {
    /// Its name.
    pub extname: String,
    /// The publisher's version.
    pub extversion: String,
    /// The publisher's schema of it.
    pub schema: String,
    /// What the subscriber would install; null when it does not offer the extension.
    pub default_version: Option<String>,
    /// The version in the subscriber's database before this run.
    pub installed_version: Option<String>,
}

/// What `install_extensions` did, or in a dry run would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExtensionsChange {
    /// The database.
    pub dbname: String,
    /// The publisher's extensions.
    pub extensions: Vec<ExtensionStatus>,
    /// What was changed.
    #[serde(flatten)]
    pub change: Change,
}

impl fmt::Display for ExtensionsChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.change.fmt(f)
    }
}

/// The publisher's extensions and what the subscriber has of them (`install_extensions --only-show`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExtensionList {
    /// The database.
    pub dbname: String,
    /// The publisher's extensions.
    pub extensions: Vec<ExtensionStatus>,
}

impl fmt::Display for ExtensionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for extension in &self.extensions {
            let ExtensionStatus {
                extname,
                extversion,
                schema,
                default_version,
                installed_version,
            } = extension;
            let there = match (installed_version, default_version) {
                (Some(version), _) => format!("has {version}"),
                (None, Some(version)) => format!("offers {version}"),
                (None, None) => "does not offer it".to_owned(),
            };
            writeln!(
                f,
                "{extname} {extversion} in schema {schema}; the subscriber {there}"
            )?;
        }
        Ok(())
    }
}

/// Both sides of a database's extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Situation {
    pub(super) dbname: String,
    pub(super) wanted: Vec<Extension>,
    pub(super) offered: BTreeMap<String, Offer>,
    pub(super) installed: BTreeMap<String, Extension>,
    pub(super) schemas: BTreeSet<String>,
    /// Owners of extension schemas that the subscriber lacks, or may not be given anything.
    pub(super) strange_owners: BTreeSet<String>,
}

impl Situation {
    /// Reads both sides. A database that does not exist yet will have what template0 has: plpgsql.
    pub(super) fn read(pair: &Pair, dbname: &str, login: Login) -> Result<Situation> {
        let wanted = extensions(&pair.publisher.connect(login, dbname)?)?;
        let admin = pair.subscriber.admin();
        let owners: Vec<String> = wanted
            .iter()
            .map(|extension| extension.schema_owner.clone())
            .collect();
        let strange_owners = match pair.subscriber.facts().superuser && login == Login::Superuser {
            true => missing_roles(admin, &owners)?,
            false => owners,
        };
        let exists = databases::database(admin, dbname)?.is_some();
        let (installed, schemas) = match exists {
            true => {
                let session = pair.subscriber.connect(login, dbname)?;
                (extensions(&session)?, schemas(&session)?)
            }
            false => {
                let plpgsql = wanted.iter().filter(|wanted| wanted.extname == "plpgsql");
                (plpgsql.cloned().collect(), vec!["public".to_owned()])
            }
        };
        Ok(Situation {
            dbname: dbname.to_owned(),
            offered: offers(admin)?,
            installed: installed
                .into_iter()
                .map(|extension| (extension.extname.clone(), extension))
                .collect(),
            schemas: schemas.into_iter().collect(),
            strange_owners: strange_owners.into_iter().collect(),
            wanted,
        })
    }

    fn statuses(&self) -> Vec<ExtensionStatus> {
        let status = |wanted: &Extension| ExtensionStatus {
            extname: wanted.extname.clone(),
            extversion: wanted.extversion.clone(),
            schema: wanted.schema.clone(),
            default_version: self
                .offered
                .get(&wanted.extname)
                .and_then(|offer| offer.default_version.clone()),
            installed_version: self
                .installed
                .get(&wanted.extname)
                .map(|installed| installed.extversion.clone()),
        };
        self.wanted.iter().map(status).collect()
    }

    /// The error that names the extensions that the subscriber does not offer.
    pub(super) fn check(&self) -> Result<()> {
        let missing: Vec<String> = self
            .wanted
            .iter()
            .filter(|wanted| {
                !self.installed.contains_key(&wanted.extname)
                    && !self.offered.contains_key(&wanted.extname)
            })
            .map(|wanted| format!("{} {}", wanted.extname, wanted.extversion))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let offered: Vec<String> = self
            .offered
            .iter()
            .map(|(name, offer)| match &offer.default_version {
                Some(version) => format!("{name} {version}"),
                None => name.clone(),
            })
            .collect();
        Failure::new(format!(
            "install the extensions of database {:?}: the subscriber does not offer {}; it offers {}",
            self.dbname,
            missing.join(", "),
            offered.join(", ")
        ))
        .hint("install the extension's package on the subscriber's machine, or drop the extension on the publisher if nothing uses it")
        .err()
    }

    /// Versions that the subscriber cannot install as they are, and extensions that stand in another schema.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for wanted in &self.wanted {
            let Extension {
                extname,
                extversion,
                schema,
                ..
            } = wanted;
            match (self.installed.get(extname), self.offered.get(extname)) {
                (Some(installed), _) if installed.schema != *schema => notes.push(format!(
                    "extension {extname:?} is in schema {:?} on the subscriber and in {schema:?} on the publisher: ALTER EXTENSION {} SET SCHEMA {}",
                    installed.schema,
                    Ident::new(extname),
                    Ident::new(schema)
                )),
                (Some(_), _) => {}
                (None, Some(offer)) if !offer.versions.contains(extversion) => notes.push(format!(
                    "extension {extname:?} is version {extversion} on the publisher; the subscriber offers {} and installs {}",
                    offer.versions.join(", "),
                    offer.default_version.as_deref().unwrap_or("none by default")
                )),
                _ => {}
            }
        }
        notes
    }

    /// The statements that are still to be run: schemas, then each extension after those it requires.
    fn plan(&self) -> Plan {
        let mut plan = Plan::new(Side::Subscriber, &self.dbname);
        let mut schemas = self.schemas.clone();
        for wanted in in_order(&self.wanted) {
            let Extension {
                extname,
                schema,
                schema_owner,
                ..
            } = wanted;
            if self.installed.contains_key(extname) {
                continue;
            }
            if !schema.starts_with("pg_") && schemas.insert(schema.clone()) {
                let owner = match self.strange_owners.contains(schema_owner) {
                    true => String::new(),
                    false => format!(" AUTHORIZATION {}", Ident::new(schema_owner)),
                };
                plan.step(
                    format!("create schema {schema:?}"),
                    format!("CREATE SCHEMA {}{owner}", Ident::new(schema)),
                );
            }
            plan.step(
                format!("create extension {extname:?}"),
                format!(
                    "CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}",
                    Ident::new(extname),
                    Ident::new(schema)
                ),
            );
        }
        self.notes().into_iter().for_each(|note| plan.note(note));
        plan
    }
}

/// Each extension after those it requires.
fn in_order(wanted: &[Extension]) -> Vec<&Extension> {
    let mut waiting: Vec<&Extension> = wanted.iter().collect();
    let mut ordered: Vec<&Extension> = Vec::new();
    while !waiting.is_empty() {
        let names: BTreeSet<&String> = waiting.iter().map(|waiting| &waiting.extname).collect();
        let (ready, blocked): (Vec<_>, Vec<_>) = waiting
            .iter()
            .partition(|extension| !extension.requires.iter().any(|name| names.contains(name)));
        // A circle cannot be; if it were, the server would say so.
        let stuck = ready.is_empty();
        ordered.extend(if stuck { &blocked } else { &ready });
        waiting = if stuck { Vec::new() } else { blocked };
    }
    ordered
}

/// The publisher's extensions, and what the subscriber has of them.
pub(crate) fn list(pair: &Pair, dbname: &str, login: Login) -> Result<ExtensionList> {
    Ok(ExtensionList {
        dbname: dbname.to_owned(),
        extensions: Situation::read(pair, dbname, login)?.statuses(),
    })
}

/// Creates the extensions, and the database when it is not there yet.
pub(crate) fn install(
    pair: &Pair,
    dbname: &str,
    login: Login,
    run: &Run,
) -> Result<ExtensionsChange> {
    let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
    let situation = Situation::read(pair, dbname, login)?;
    situation.check()?;
    let result = |change| ExtensionsChange {
        dbname: dbname.to_owned(),
        extensions: situation.statuses(),
        change,
    };
    let install = || -> Result<Change> {
        let session = subscriber
            .connect(login, dbname)?
            .with_patience(Patience::WhileServerAnswers);
        let plan = situation.plan();
        if plan.is_empty() || login == Login::DbOwner {
            return plan.carry_out(&session, run);
        }
        // Trusted extensions (13+) need CREATE on the database, which its owner has.
        let owner = databases::database(subscriber.admin(), dbname)?.map(|found| found.owner);
        let owners: Vec<String> = owner.into_iter().collect();
        let borrowed = Borrowed::of(subscriber, foreign_roles(subscriber, &owners)?)?;
        plan.between(|plan| borrowed.begin(plan), |plan| borrowed.end(plan))
            .carry_out(&session, run)
    };
    if databases::database(subscriber.admin(), dbname)?.is_some() {
        let plan = situation.plan();
        return match plan.is_empty() || run.mode == Mode::DryRun {
            true => Ok(result(plan.carry_out(subscriber.admin(), run)?)),
            false => Ok(result(install()?)),
        };
    }
    let source = database::source(publisher, dbname)?;
    let missing = missing_roles(subscriber.admin(), std::slice::from_ref(&source.owner))?;
    super::schema::refuse_missing(dbname, &missing)?;
    let mut creation = Plan::new(Side::Subscriber, "postgres");
    creation.step(
        format!("create database {dbname:?}"),
        database::create_statement(&source, subscriber.major(), database::Owner::Source)?,
    );
    let created = creation.into_change(run.mode, run.mode == Mode::Apply);
    if run.mode == Mode::DryRun {
        let properties = Properties::read(publisher, subscriber, &source)?;
        let rest = properties
            .plan(&settings::parameters(subscriber)?)
            .carry_out(subscriber.admin(), run)?;
        let extensions = situation.plan().carry_out(subscriber.admin(), run)?;
        return Ok(result(created.and(rest).and(extensions)));
    }
    database::create(subscriber, &source, run)?;
    let filled = || -> Result<Change> {
        let extensions = install()?;
        let properties = Properties::read(publisher, subscriber, &source)?;
        let rest = properties.equalise(subscriber, run)?;
        Ok(created.and(extensions).and(rest))
    };
    filled()
        .wrap_err_with(|| format!("install the extensions of database {dbname:?}"))
        .map(result)
        .map_err(|report| database::undone(subscriber, &source, report))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(extname: &str, schema: &str, requires: &[&str]) -> Extension {
        Extension {
            extname: extname.into(),
            extversion: "1.3".into(),
            extrelocatable: true,
            schema: schema.into(),
            schema_owner: "own".into(),
            requires: requires.iter().map(ToString::to_string).collect(),
        }
    }

    fn situation() -> Situation {
        let offer = |versions: &[&str]| Offer {
            default_version: versions.last().map(ToString::to_string),
            versions: versions.iter().map(ToString::to_string).collect(),
        };
        Situation {
            dbname: "d".into(),
            wanted: vec![
                extension("earthdistance", "geo", &["cube"]),
                extension("cube", "Geo", &[]),
                extension("plpgsql", "pg_catalog", &[]),
            ],
            offered: [
                ("earthdistance".to_owned(), offer(&["1.1", "1.2"])),
                ("cube".to_owned(), offer(&["1.3", "1.5"])),
            ]
            .into(),
            installed: [(
                "plpgsql".to_owned(),
                extension("plpgsql", "pg_catalog", &[]),
            )]
            .into(),
            schemas: ["public".to_owned()].into(),
            strange_owners: BTreeSet::new(),
        }
    }

    #[test]
    fn each_comes_after_what_it_requires_in_its_own_schema() {
        let plan = situation().plan();
        let statements: Vec<&str> = plan.statements().iter().map(|s| s.shown.as_str()).collect();
        assert_eq!(
            statements,
            [
                r#"CREATE SCHEMA "Geo" AUTHORIZATION "own""#,
                r#"CREATE EXTENSION IF NOT EXISTS "cube" SCHEMA "Geo""#,
                r#"CREATE SCHEMA "geo" AUTHORIZATION "own""#,
                r#"CREATE EXTENSION IF NOT EXISTS "earthdistance" SCHEMA "geo""#,
            ]
        );
        assert_eq!(situation().notes().len(), 1);
        assert!(situation().notes()[0].contains("offers 1.1, 1.2 and installs 1.2"));
    }

    #[test]
    fn what_is_not_offered_is_named_with_what_is() {
        let mut situation = situation();
        situation.offered.remove("earthdistance");
        let message = situation.check().unwrap_err().to_string();
        assert!(
            message.contains("does not offer earthdistance 1.3; it offers cube 1.5"),
            "{message}"
        );
    }
}
