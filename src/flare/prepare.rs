//! Everything up to "ready to cut over", one command after the other.

use std::fmt;
use std::time::Instant;

use serde::Serialize;

use super::{Change, CopyOptions, Flare, RolesOptions, SchemaOutcome, Target, Wait};
use crate::catalog::tables;
use crate::copy;
use crate::error::{Advise, Error, Result, WrapErr};
use crate::preflight::Before;
use crate::replicate::Mode;
use crate::server::{Login, Opened};
use crate::value::ShellWord;

/// Sessions that vacuum at once.
const JOBS: usize = 2;

/// How the rows come to the subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrepareCopy {
    /// By `initial_copy`, where the subscriber's database holds nothing yet and its administrator is a superuser; else by
    /// PostgreSQL itself.
    #[default]
    Fast,
    /// By PostgreSQL itself.
    Native,
}

/// A command of the preparation, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PrepareStep {
    /// Both servers answer, and are the declared ones.
    VerifyConnectivity,
    /// Roles with their passwords and memberships.
    ReplicateRoles,
    /// The extensions the schema needs.
    InstallExtensions,
    /// CREATE for who makes the publication.
    GrantCreate,
    /// SELECT for who reads the tables.
    GrantReplication,
    /// The schema.
    ReplicateSchema,
    /// The publication.
    CreatePublication,
    /// The table that probes travel in.
    CreateReplicationStatusTable,
    /// The subscription, and the copy of every table.
    CreateSubscription,
    /// Sequences, which replication leaves out.
    ReplicateSequences,
    /// Statistics on the subscriber.
    VacuumAnalyze,
}

impl PrepareStep {
    /// All, in their order.
    pub const ALL: [PrepareStep; 11] = [
        PrepareStep::VerifyConnectivity,
        PrepareStep::ReplicateRoles,
        PrepareStep::InstallExtensions,
        PrepareStep::GrantCreate,
        PrepareStep::GrantReplication,
        PrepareStep::ReplicateSchema,
        PrepareStep::CreatePublication,
        PrepareStep::CreateReplicationStatusTable,
        PrepareStep::CreateSubscription,
        PrepareStep::ReplicateSequences,
        PrepareStep::VacuumAnalyze,
    ];

    /// The command that does it alone.
    pub fn command(self) -> &'static str {
        match self {
            PrepareStep::VerifyConnectivity => "verify_connectivity",
            PrepareStep::ReplicateRoles => "replicate_roles",
            PrepareStep::InstallExtensions => "install_extensions",
            PrepareStep::GrantCreate => "grant_create",
            PrepareStep::GrantReplication => "grant_replication",
            PrepareStep::ReplicateSchema => "replicate_schema",
            PrepareStep::CreatePublication => "create_publication",
            PrepareStep::CreateReplicationStatusTable => "create_replication_status_table",
            PrepareStep::CreateSubscription => "create_subscription",
            PrepareStep::ReplicateSequences => "replicate_sequences",
            PrepareStep::VacuumAnalyze => "vacuum_analyze",
        }
    }
}

/// One step, done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PreparedStep {
    /// Which.
    pub step: PrepareStep,
    /// Whether it changed something; in a dry run, whether it would.
    pub changed: bool,
    /// Milliseconds.
    pub ms: f64,
    /// In a dry run, why it cannot be looked at before the steps above it are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What the preparation ends with.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PrepareReport {
    /// The subscription.
    pub subname: String,
    /// Its database.
    pub dbname: String,
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Each step, in order.
    pub steps: Vec<PreparedStep>,
    /// What to type next.
    pub next: String,
}

impl Flare {
    /// Does everything up to the cutover. Each step can be repeated, so an interrupted preparation goes on where it
    /// stopped.
    ///
    /// # Errors
    /// When a step fails; those before it are done, and the same call goes on from there.
    pub fn prepare(&self, subname: &str, copy: PrepareCopy) -> Result<PrepareReport, Error> {
        let dbname = self.config.subscription(subname)?.dbname.clone();
        self.config.publication(&dbname)?;
        // What cannot be reached is said by the first step.
        if let Ok(opened) = self.open().any() {
            self.check_forward(&opened, &[&dbname])?;
            if let Opened {
                publisher: Ok(publisher),
                subscriber: Ok(subscriber),
            } = &opened
            {
                self.clear(publisher, Some(subscriber), &dbname, Before::Cutover)?;
            }
        }
        let dry_run = self.run.mode == Mode::DryRun;
        let copy = match copy {
            PrepareCopy::Fast if self.may_copy_fast(subname, &dbname)? => PrepareCopy::Fast,
            _ => PrepareCopy::Native,
        };
        let mut steps: Vec<PreparedStep> = Vec::new();
        for (at, step) in PrepareStep::ALL.into_iter().enumerate() {
            let (total, command) = (PrepareStep::ALL.len(), step.command());
            self.run
                .progress
                .step(&format!("step {} of {total}: {command}", at + 1));
            let begun = Instant::now();
            let done = self.prepare_step(step, subname, &dbname, copy);
            let waits_for_others = dry_run && steps.iter().any(|it| it.changed);
            let (changed, note) = match done {
                Ok(changed) => (changed, None),
                Err(report) if waits_for_others => (true, Some(report.message())),
                Err(report) => Err(report)
                    .wrap_err_with(|| format!("{command}, step {} of {total}", at + 1))
                    .hint(|| {
                        format!(
                            "mend it, then run flare prepare {} again: it goes on from there",
                            ShellWord(subname)
                        )
                    })?,
            };
            let ms = (begun.elapsed().as_secs_f64() * 1e5).round() / 100.0;
            let step = PreparedStep {
                step,
                changed,
                ms,
                note,
            };
            self.run.progress.step(&step.to_string());
            steps.push(step);
        }
        Ok(PrepareReport {
            next: match dry_run {
                true => format!("flare prepare {}", ShellWord(subname)),
                false => format!("flare cutover {}", ShellWord(subname)),
            },
            subname: subname.to_owned(),
            dbname,
            changed: !dry_run && steps.iter().any(|it| it.changed),
            dry_run,
            steps,
        })
    }

    /// Whether it changed something, or in a dry run would.
    fn prepare_step(
        &self,
        step: PrepareStep,
        subname: &str,
        dbname: &str,
        copy: PrepareCopy,
    ) -> Result<bool, Error> {
        let changes = |change: Change| change.changed || !change.statements.is_empty();
        match step {
            PrepareStep::VerifyConnectivity => match self.verify_connectivity()?.verdict() {
                Some(error) => Err(error),
                None => Ok(false),
            },
            PrepareStep::ReplicateRoles => {
                let change = self.replicate_roles(RolesOptions::default())?;
                Ok(change.changed
                    || !change.roles_created.is_empty()
                    || !change.roles_updated.is_empty())
            }
            PrepareStep::InstallExtensions => self
                .install_extensions(dbname, Login::Superuser)
                .map(|extensions| changes(extensions.change)),
            PrepareStep::GrantCreate => self.grant_create(dbname, self.owner_login()?).map(changes),
            PrepareStep::GrantReplication => match self.replication_login() {
                // There is nobody to grant anything to.
                Login::Superuser | Login::DbOwner => Ok(false),
                Login::Replication => self
                    .grant_replication(dbname, self.owner_login()?)
                    .map(changes),
            },
            // The copy brings the schema as of its snapshot.
            PrepareStep::ReplicateSchema if copy == PrepareCopy::Fast => Ok(false),
            PrepareStep::CreateSubscription if copy == PrepareCopy::Fast => self
                .initial_copy(subname, self.replication_login(), CopyOptions::default())
                .map(|copied| copied.changed || copied.dry_run),
            PrepareStep::ReplicateSchema => self
                .replicate_schema(dbname, self.owner_login()?)
                .map(|change| change.outcome != SchemaOutcome::Already),
            PrepareStep::CreatePublication => self.create_publication(dbname).map(changes),
            PrepareStep::CreateReplicationStatusTable => {
                self.create_replication_status_table(dbname).map(changes)
            }
            PrepareStep::CreateSubscription => self
                .create_subscription(
                    subname,
                    self.replication_login(),
                    Target::Closed,
                    Wait::UntilReady,
                )
                .map(changes),
            PrepareStep::ReplicateSequences => Ok(self.replicate_sequences(subname)?.changed),
            PrepareStep::VacuumAnalyze => {
                let subscriber = self.open().subscriber()?;
                let session = subscriber.connect(Login::Superuser, dbname)?;
                match tables::lack_statistics(&session)? {
                    true => Ok(self.vacuum_analyze(dbname, JOBS)?.tables > 0),
                    false => Ok(false),
                }
            }
        }
    }

    /// Whether the copy may be flare's own: for a database that is not there yet or holds nothing, or one whose copy goes on.
    fn may_copy_fast(&self, subname: &str, dbname: &str) -> Result<bool> {
        // What cannot be reached is said by the first step.
        match self.open().subscriber() {
            Ok(subscriber) => copy::may_begin(&subscriber, subname, dbname),
            Err(_) => Ok(false),
        }
    }

    /// Who acts for the database: an administrator that is no superuser (RDS) leaves it to the owner.
    fn owner_login(&self) -> Result<Login> {
        let publisher = self.open().publisher()?;
        Ok(Login::owner_if(!publisher.facts().superuser))
    }

    /// Whom the subscriber connects as.
    fn replication_login(&self) -> Login {
        match self.config.publisher.repl {
            Some(_) => Login::Replication,
            None => Login::Superuser,
        }
    }
}

impl fmt::Display for PreparedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match (&self.note, self.changed) {
            (Some(note), _) => format!("after the steps before it ({note})"),
            (None, true) => "changed".to_owned(),
            (None, false) => "as wanted already".to_owned(),
        };
        let step = self.step.command();
        write!(f, "{step}: {outcome}, {:.0} ms", self.ms)
    }
}

impl fmt::Display for PrepareReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PrepareReport {
            subname,
            dbname,
            next,
            ..
        } = self;
        match self.dry_run {
            true => writeln!(f, "Nothing was changed; next: {next}")?,
            false => writeln!(
                f,
                "{subname:?} replicates {dbname:?}, every table is ready; next: {next}"
            )?,
        }
        self.steps
            .iter()
            .try_for_each(|step| writeln!(f, "  {step}"))
    }
}
