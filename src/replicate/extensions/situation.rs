//! Both sides of a database's extensions, read once, and what is to be done about them.

use std::collections::{BTreeMap, BTreeSet};

use super::ExtensionStatus;
use crate::catalog::databases;
use crate::catalog::extensions::{Extension, Offer, extensions, offers};
use crate::catalog::objects::schemas;
use crate::catalog::roles::missing_roles;
use crate::error::{Failure, Result, message_of};
use crate::replicate::Plan;
use crate::server::{Login, Pair, Side, sqlstate_of};
use crate::value::Ident;

/// Both sides of a database's extensions.
#[derive(Clone, Debug, Default)]
pub(in crate::replicate) struct Situation {
    dbname: String,
    wanted: Vec<Extension>,
    offered: BTreeMap<String, Offer>,
    /// Why the subscriber could not say what it offers: one broken control file is enough.
    unlisted: Option<String>,
    installed: BTreeMap<String, Extension>,
    schemas: BTreeSet<String>,
    /// Owners of extension schemas that the subscriber lacks, or may not be given anything.
    strange_owners: BTreeSet<String>,
}

impl Situation {
    /// Reads both sides. A database that does not exist yet will have what template0 has: plpgsql.
    pub(in crate::replicate) fn read(pair: &Pair, dbname: &str, login: Login) -> Result<Situation> {
        let wanted = extensions(&*pair.publisher.visit_as(login, dbname)?)?;
        let admin = pair.subscriber.admin();
        let owners: Vec<String> = wanted
            .iter()
            .map(|extension| extension.schema_owner.clone())
            .collect();
        let strange_owners = if pair.subscriber.facts().superuser && login == Login::Superuser {
            missing_roles(admin, &owners)?
        } else {
            owners
        };
        let exists = databases::database(admin, dbname)?.is_some();
        let (installed, schemas) = if exists {
            let session = pair.subscriber.visit_as(login, dbname)?;
            (extensions(&session)?, schemas(&session)?)
        } else {
            let plpgsql = wanted.iter().filter(|wanted| wanted.extname == "plpgsql");
            (plpgsql.cloned().collect(), vec!["public".to_owned()])
        };
        let (offered, unlisted) = match offers(admin) {
            Ok(offered) => (offered, None),
            Err(report) if sqlstate_of(&report).is_some() => {
                (BTreeMap::new(), Some(message_of(&report)))
            }
            Err(report) => return Err(report),
        };
        Ok(Situation {
            dbname: dbname.to_owned(),
            offered,
            unlisted,
            installed: installed
                .into_iter()
                .map(|extension| (extension.extname.clone(), extension))
                .collect(),
            schemas: schemas.into_iter().collect(),
            strange_owners: strange_owners.into_iter().collect(),
            wanted,
        })
    }

    pub(super) fn statuses(&self) -> Vec<ExtensionStatus> {
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
    pub(in crate::replicate) fn check(&self) -> Result<()> {
        let missing: Vec<String> = self
            .wanted
            .iter()
            .filter(|wanted| {
                !self.installed.contains_key(&wanted.extname)
                    && !self.offered.contains_key(&wanted.extname)
            })
            .map(|wanted| format!("{} {}", wanted.extname, wanted.extversion))
            .collect();
        if missing.is_empty() || self.unlisted.is_some() {
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
    pub(in crate::replicate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.unlisted.as_ref().map(|why| {
            format!("the subscriber cannot list the extensions it offers, so they were not checked beforehand: {why}")
        }));
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
    pub(super) fn plan(&self) -> Plan {
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
                let owner = if self.strange_owners.contains(schema_owner) {
                    String::new()
                } else {
                    format!(" AUTHORIZATION {}", Ident::new(schema_owner))
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
            unlisted: None,
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
        let unlisted = Situation {
            unlisted: Some("broken".into()),
            ..situation.clone()
        };
        assert!(unlisted.check().is_ok() && unlisted.notes()[0].contains("broken"));
        let message = situation.check().unwrap_err().to_string();
        assert!(
            message.contains("does not offer earthdistance 1.3; it offers cube 1.5"),
            "{message}"
        );
    }
}
