//! Extensions of the publisher's database, created in the same schemas of the subscriber's.

mod situation;

use std::fmt;

use serde::Serialize;

pub(super) use self::situation::Situation;
use super::borrowed::Borrowed;
use super::database;
use super::properties::Properties;
use super::{Change, Mode, Plan, Run};
use crate::catalog::databases::{self, Database};
use crate::catalog::roles::{foreign_roles, missing_roles};
use crate::error::{Result, WrapErr};
use crate::server::{Login, Pair, Side, Subscriber, Timeout};

/// An extension of the publisher's database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
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
    let situation = Situation::read(pair, dbname, login)?;
    situation.check()?;
    let change = match databases::database(pair.subscriber.admin(), dbname)? {
        Some(target) => fill(&pair.subscriber, &target, &situation, login, run)?,
        None => create(pair, dbname, &situation, login, run)?,
    };
    Ok(ExtensionsChange {
        dbname: dbname.to_owned(),
        extensions: situation.statuses(),
        change,
    })
}

/// Into a database that is there.
fn fill(
    subscriber: &Subscriber,
    target: &Database,
    situation: &Situation,
    login: Login,
    run: &Run,
) -> Result<Change> {
    let plan = situation.plan();
    if plan.is_empty() || run.mode == Mode::DryRun {
        return plan.carry_out(subscriber.admin(), run);
    }
    let session = subscriber
        .connect(login, &target.datname)?
        .with_timeout(Timeout::WhileServerAnswers);
    if login == Login::DbOwner {
        return plan.carry_out(&session, run);
    }
    // Trusted extensions (13+) need CREATE on the database, which its owner has.
    let owner = std::slice::from_ref(&target.owner);
    let borrowed = Borrowed::of(subscriber, foreign_roles(subscriber, owner)?)?;
    borrowed.around(plan).carry_out(&session, run)
}

/// Into a database that is not there yet.
fn create(
    pair: &Pair,
    dbname: &str,
    situation: &Situation,
    login: Login,
    run: &Run,
) -> Result<Change> {
    let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
    let source = database::source(publisher, dbname)?;
    let missing = missing_roles(subscriber.admin(), std::slice::from_ref(&source.owner))?;
    database::refuse_missing_roles(dbname, &missing)?;
    let mut creation = Plan::new(Side::Subscriber, "postgres");
    creation.step(
        format!("create database {dbname:?}"),
        database::create_statement(&source, subscriber.major(), database::Owner::Source)?,
    );
    let created = creation.into_change(run.mode, run.mode == Mode::Apply);
    if run.mode == Mode::DryRun {
        let properties = Properties::read(publisher, subscriber, &source)?;
        let rest = properties.equalise(subscriber, run)?;
        let extensions = situation.plan().carry_out(subscriber.admin(), run)?;
        return Ok(created.and(rest).and(extensions));
    }
    database::create(subscriber, &source, run)?;
    let filled = || -> Result<Change> {
        let extensions = fill(subscriber, &source, situation, login, run)?;
        let properties = Properties::read(publisher, subscriber, &source)?;
        let rest = properties.equalise(subscriber, run)?;
        Ok(created.and(extensions).and(rest))
    };
    filled()
        .wrap_err_with(|| format!("install the extensions of database {dbname:?}"))
        .map_err(|report| database::undone(subscriber, &source, report))
}
