//! Everything up to "ready to cut over", one command after the other.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

use serde::Serialize;

use super::{Change, CopyOptions, Flare, RolesOptions, SchemaOutcome, Target, Wait};
use crate::catalog::tables;
use crate::copy;
use crate::error::{Advise, Error, Result, WrapErr};
use crate::preflight::{Before, Preflight};
use crate::replicate::Mode;
use crate::replicate::watch::truncated;
use crate::server::{Login, Opened, Pair};
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

impl PrepareCopy {
    /// What a command says for it.
    fn option(self) -> &'static str {
        match self {
            PrepareCopy::Fast => "",
            PrepareCopy::Native => " --copy native",
        }
    }
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
    /// What else there is to know, as the command itself says it; what a step before it has said is not repeated.
    pub notes: Vec<String>,
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
    /// What the checks of `preflight` warn of.
    pub warnings: Vec<String>,
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
        let mut found = Preflight::default();
        let mut lent = None;
        // What cannot be reached is said by the first step.
        if let Ok(opened) = self.open().any() {
            self.check_forward(&opened, &[&dbname])?;
            if let Opened {
                publisher: Ok(publisher),
                subscriber: Ok(subscriber),
            } = &opened
            {
                found = self.clear(publisher, Some(subscriber), &dbname, Before::Cutover)?;
                lent = Some(Pair {
                    publisher: publisher.clone(),
                    subscriber: subscriber.clone(),
                });
            }
        }
        let dry_run = self.run.mode == Mode::DryRun;
        let stepping = self.as_steps(lent);
        let copy = match copy {
            PrepareCopy::Fast if stepping.may_copy_fast(subname, &dbname)? => PrepareCopy::Fast,
            _ => PrepareCopy::Native,
        };
        let (mut steps, mut said) = (Vec::<PreparedStep>::new(), BTreeSet::new());
        for (at, step) in PrepareStep::ALL.into_iter().enumerate() {
            let (total, command) = (PrepareStep::ALL.len(), step.command());
            self.run
                .progress
                .step(&format!("step {} of {total}: {command}", at + 1));
            let begun = Instant::now();
            let done = stepping.prepare_step(step, subname, &dbname, copy);
            let waits_for_others = dry_run && steps.iter().any(|it| it.changed);
            let (did, note) = match done {
                Ok(did) => (did, None),
                Err(report) if waits_for_others => (Did::changed(true), Some(report.message())),
                Err(report) => Err(report)
                    .wrap_err_with(|| format!("{command}, step {} of {total}", at + 1))
                    .hint(|| {
                        format!(
                            "flare prepare{} {} goes on from there, once nothing is in its way",
                            copy.option(),
                            ShellWord(subname)
                        )
                    })?,
            };
            let ms = (begun.elapsed().as_secs_f64() * 1e5).round() / 100.0;
            let mut notes = did.notes;
            notes.retain(|note| said.insert(note.clone()));
            for note in &notes {
                log::info!("{command}: {note}");
            }
            let step = PreparedStep {
                step,
                changed: did.changed,
                ms,
                note,
                notes,
            };
            self.run.progress.step(&step.to_string());
            steps.push(step);
        }
        if !dry_run {
            found = stepping.anew(found, &dbname).after_prepare();
        }
        Ok(PrepareReport {
            next: if dry_run {
                format!("flare prepare {}", ShellWord(subname))
            } else {
                format!("flare cutover {}", ShellWord(subname))
            },
            subname: subname.to_owned(),
            dbname,
            changed: !dry_run && steps.iter().any(|it| it.changed),
            dry_run,
            warnings: found.warnings(),
            steps,
        })
    }

    /// What the checks find once the copy has ended that they had found under way.
    fn anew(&self, found: Preflight, dbname: &str) -> Preflight {
        if !found.is_of_a_copy() {
            return found;
        }
        let looked = self.open().both().and_then(|pair| {
            let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
            self.clear(publisher, Some(subscriber), dbname, Before::Cutover)
        });
        looked.unwrap_or(found)
    }

    /// What it did, or in a dry run would do.
    fn prepare_step(
        &self,
        step: PrepareStep,
        subname: &str,
        dbname: &str,
        copy: PrepareCopy,
    ) -> Result<Did, Error> {
        match step {
            PrepareStep::VerifyConnectivity => match self.verify_connectivity()?.verdict() {
                Some(error) => Err(error),
                None => Ok(Did::changed(false)),
            },
            PrepareStep::ReplicateRoles => {
                let change = self.replicate_roles(RolesOptions::default())?;
                let created = !change.roles_created.is_empty();
                Ok(Did {
                    changed: change.changed || created || !change.roles_updated.is_empty(),
                    notes: change.notes,
                })
            }
            PrepareStep::InstallExtensions => self
                .install_extensions(dbname, Login::Superuser)
                .map(|extensions| extensions.change.into()),
            PrepareStep::GrantCreate => self
                .grant_create(dbname, self.owner_login()?)
                .map(Did::from),
            PrepareStep::GrantReplication => match self.replication_login() {
                // There is nobody to grant anything to.
                Login::Superuser | Login::DbOwner => Ok(Did::changed(false)),
                Login::Replication => self
                    .grant_replication(dbname, self.owner_login()?)
                    .map(Did::from),
            },
            PrepareStep::ReplicateSchema if copy == PrepareCopy::Fast => Ok(Did {
                changed: false,
                notes: vec![
                    "initial_copy brings it as of its snapshot, in the step create_subscription"
                        .to_owned(),
                ],
            }),
            PrepareStep::CreateSubscription if copy == PrepareCopy::Fast => {
                let options = CopyOptions::default();
                let copied = self.initial_copy(subname, self.replication_login(), options)?;
                Ok(Did {
                    changed: copied.changed || copied.dry_run,
                    notes: copied.notes,
                })
            }
            PrepareStep::ReplicateSchema => {
                truncated::free_now(&self.open().subscriber()?, subname, dbname, &self.run)?;
                let change = self.replicate_schema(dbname, self.owner_login()?)?;
                Ok(Did {
                    changed: change.outcome != SchemaOutcome::Already,
                    notes: change.notes,
                })
            }
            PrepareStep::CreatePublication => self.create_publication(dbname).map(Did::from),
            PrepareStep::CreateReplicationStatusTable => {
                self.create_replication_status_table(dbname).map(Did::from)
            }
            PrepareStep::CreateSubscription => self
                .create_subscription(
                    subname,
                    self.replication_login(),
                    Target::Closed,
                    Wait::UntilReady,
                )
                .map(Did::from),
            PrepareStep::ReplicateSequences => {
                Ok(Did::changed(self.replicate_sequences(subname)?.changed))
            }
            PrepareStep::VacuumAnalyze => {
                let subscriber = self.open().subscriber()?;
                let session = subscriber.visit(dbname)?;
                if !tables::lack_statistics(&session)? {
                    return Ok(Did::changed(false));
                }
                let vacuumed = self.vacuum_analyze(dbname, JOBS)?;
                Ok(Did {
                    changed: vacuumed.tables > 0,
                    notes: vacuumed.notes(),
                })
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

/// What a step did.
struct Did {
    changed: bool,
    notes: Vec<String>,
}

impl Did {
    fn changed(changed: bool) -> Did {
        Did {
            changed,
            notes: Vec::new(),
        }
    }
}

impl From<Change> for Did {
    fn from(change: Change) -> Did {
        Did {
            changed: change.changed || !change.statements.is_empty(),
            notes: change.notes,
        }
    }
}

impl fmt::Display for PreparedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match (&self.note, self.changed) {
            (Some(note), _) => format!("after the steps before it ({note})"),
            (None, true) => "changed".to_owned(),
            (None, false) => "nothing to do".to_owned(),
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
        if self.dry_run {
            writeln!(f, "Nothing was changed; next: {next}")?
        } else {
            writeln!(
                f,
                "{subname:?} replicates {dbname:?}, every table is ready; next: {next}"
            )?
        }
        for step in &self.steps {
            writeln!(f, "  {step}")?;
            for note in &step.notes {
                writeln!(f, "    note: {note}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
