//! The schema of one database: dumped, rewritten for the subscriber, loaded as one transaction into a database that
//! flare creates, or compared with what is there.

mod checks;
mod comparison;
mod halves;
mod outcome;
mod printed;
mod script;
mod shadow;

use std::collections::BTreeSet;

pub(crate) use self::halves::{Halves, Place};
pub use self::outcome::{SchemaChange, SchemaOutcome, Treated};
pub(crate) use self::printed::print;
use self::script::Script;
pub(crate) use self::shadow::{Shadowed, compare_in_shadow, drop_left_overs};
use super::database::{self, Owner};
use super::load::load;
use super::properties::Properties;
use super::{Change, Done, Mode, Run, identity, not_valid};
use crate::catalog::databases::{self, Database};
use crate::catalog::objects::{self, NamedRoles};
use crate::catalog::withdrawn;
use crate::config::Tools;
use crate::error::{Result, WrapErr};
use crate::schema::{Difference, DumpReport, KEYWORDS_SINCE_10};
use crate::server::{Login, Pair, Session, Side};
use crate::tools::{DumpProgram, Job, Toolbox};
use crate::value::counted;

/// Has pg_dump quote every name.
const QUOTED: &str = "--quote-all-identifiers";
/// Has everything go to the default tablespace.
const WITHOUT_TABLESPACES: &str = "--no-tablespaces";

/// What one run works with.
struct Work<'a> {
    pair: &'a Pair,
    tools: &'a Tools,
    dbname: &'a str,
    login: Login,
    source: Database,
    roles: NamedRoles,
    /// Arguments of pg_dump that hold for both sides.
    args: Vec<String>,
    /// Privileges on what the subscriber's version has no more.
    without_object: BTreeSet<(String, String)>,
    notes: Vec<String>,
}

impl<'a> Work<'a> {
    fn read(pair: &'a Pair, tools: &'a Tools, dbname: &'a str, login: Login) -> Result<Self> {
        let source = database::source(&pair.publisher, dbname)?;
        let session = pair.publisher.visit_as(login, dbname)?;
        let mut work = Work {
            pair,
            tools,
            dbname,
            login,
            source,
            roles: objects::named_roles(&session)?,
            args: [
                "--schema-only",
                "--no-password",
                "--no-publications",
                "--no-subscriptions",
                "--exclude-schema=flare",
                "--lock-wait-timeout=30000",
            ]
            .map(str::to_owned)
            .to_vec(),
            without_object: withdrawn::privileges_without_object(
                &session,
                pair.subscriber.admin(),
                pair.subscriber.major(),
            )?,
            notes: Vec::new(),
        };
        // What an older server prints of them unquoted is a syntax error on a newer one.
        if pair.publisher.major() != pair.subscriber.major()
            && objects::is_named(&session, &KEYWORDS_SINCE_10)?
        {
            work.args.push(QUOTED.to_owned());
        }
        let offered = objects::all_tablespaces(pair.subscriber.admin())?;
        let mut lacking = objects::tablespaces(&session)?;
        lacking.retain(|tablespace| !offered.contains(tablespace));
        if !lacking.is_empty() {
            work.args.push(WITHOUT_TABLESPACES.to_owned());
            work.notes.push(format!(
                "the subscriber has no tablespace {}: everything goes to the default one",
                lacking.join(", ")
            ));
        }
        Ok(work)
    }

    fn toolbox(&self, newest: i32) -> Result<Toolbox> {
        let job = Job {
            dump: DumpProgram::PgDump,
            publisher: newest,
            subscriber: self.pair.subscriber.release(),
        };
        Toolbox::find(self.tools, job)
    }

    fn load(&self, script: &Script, run: &Run) -> Result<()> {
        run.progress.step(&format!(
            "loading the schema of database {:?} ({})",
            self.dbname,
            counted(script.report.statements, "statement")
        ));
        load(
            &script.toolbox,
            &self.pair.subscriber,
            Login::Superuser,
            self.dbname,
            &script.file,
        )
        .wrap_err_with(|| format!("load the schema of database {:?}", self.dbname))
    }

    /// Owner, privileges, settings and comment of the database itself.
    fn equalise(&self, run: &Run) -> Result<Change> {
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        Properties::read(publisher, subscriber, &self.source)
            .and_then(|properties| properties.equalise(subscriber, run))
            .wrap_err_with(|| format!("equalise database {:?} itself", self.dbname))
    }

    /// Into a database that is not there yet.
    fn create(&mut self, run: &Run) -> Result<SchemaChange> {
        self.check()?;
        let subscriber = &self.pair.subscriber;
        let creation = database::create_statement(&self.source, subscriber.major(), Owner::Source)?;
        let script = self.script(BTreeSet::from(["public".to_owned()]), false)?;
        let mut change = SchemaChange::new(self, SchemaOutcome::Created, &script.report, run);
        change.database.push(Done {
            side: Side::Subscriber,
            dbname: "postgres".to_owned(),
            what: format!("create database {:?}", self.dbname),
            sql: creation,
        });
        if run.mode == Mode::DryRun {
            change.follow(self.equalise(run)?);
            return Ok(change);
        }
        database::create(subscriber, &self.source, run)?;
        let filled = || -> Result<Change> {
            self.load(&script, run)?;
            self.equalise(run)
        };
        match filled() {
            Ok(equalised) => {
                change.changed = true;
                change.follow(equalised);
                Ok(change)
            }
            Err(report) => Err(database::undone(subscriber, &self.source, report)),
        }
    }

    /// Into a database that is there.
    fn fill(&mut self, target: &Database, run: &Run) -> Result<SchemaChange> {
        let session = self
            .pair
            .subscriber
            .connect(Login::Superuser, self.dbname)?;
        self.refuse_another_load(&session)?;
        self.compare_locale(target);
        match objects::first_object(&session)? {
            None => self.fill_empty(session, run),
            Some(object) => {
                // An earlier run has taken some off for the copy, and was stopped before it made them again.
                let made_again = not_valid::make_again(&self.pair.subscriber, self.dbname, run)?;
                let waiting = not_valid::is_copying(&session)?
                    || run.mode == Mode::DryRun && !made_again.statements.is_empty();
                drop(session);
                let (statements, differences) = self.differences(waiting)?;
                let is_awaited = |it: &Difference| waiting && it.is_of_not_valid();
                let mut printed = self.not_of_flare(differences);
                printed.retain(|it| !is_awaited(it));
                let mut theirs = self.not_of_spelling(printed, run)?;
                theirs.retain(|it| !is_awaited(it));
                if theirs.is_empty() {
                    let mut change = self.already(statements, run)?;
                    change.changed |= made_again.changed;
                    change.follow(made_again);
                    Ok(change)
                } else {
                    Err(self.refusal(&object, &theirs).into())
                }
            }
        }
    }

    /// Into a database that has no objects.
    fn fill_empty(&mut self, session: Session, run: &Run) -> Result<SchemaChange> {
        if let Some(statements) = self.both_empty()? {
            return self.already(statements, run);
        }
        self.check()?;
        let schemas = objects::schemas(&session)?.into_iter().collect();
        let script = self.script(schemas, objects::has_status_table(&session)?)?;
        drop(session);
        let mut change = SchemaChange::new(self, SchemaOutcome::Loaded, &script.report, run);
        if run.mode == Mode::Apply {
            self.load(&script, run)?;
            change.changed = true;
        }
        change.follow(self.equalise(run)?);
        Ok(change)
    }

    fn already(&self, statements: u64, run: &Run) -> Result<SchemaChange> {
        let report = DumpReport {
            statements,
            ..DumpReport::default()
        };
        let mut change = SchemaChange::new(self, SchemaOutcome::Already, &report, run);
        change.follow(identity::equalise(self.pair, self.dbname, None, run)?);
        change.follow(self.equalise(run)?);
        Ok(change)
    }

    /// The statements of a dump without objects, when the subscriber, which has none, has the same schemas and extensions.
    fn both_empty(&mut self) -> Result<Option<u64>> {
        let session = self.pair.publisher.visit_as(self.login, self.dbname)?;
        if objects::first_object(&session)?.is_some() {
            return Ok(None);
        }
        drop(session);
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        let cannot_read = self
            .toolbox(publisher.release().max(subscriber.release()))
            .is_err();
        match self.differences(false) {
            Ok((statements, differences)) => Ok(differences.is_empty().then_some(statements)),
            // What is missing is created, and what is there stays.
            Err(_) if cannot_read => Ok(None),
            Err(report) => Err(report),
        }
    }
}

/// Creates the database on the subscriber with the publisher's schema, or finds that it is there.
pub(crate) fn replicate(
    pair: &Pair,
    tools: &Tools,
    dbname: &str,
    login: Login,
    run: &Run,
) -> Result<SchemaChange> {
    let mut work = Work::read(pair, tools, dbname, login)?;
    match databases::database(pair.subscriber.admin(), dbname)? {
        None => work.create(run),
        Some(target) => work.fill(&target, run),
    }
}
