//! What a pause ends with. The first line says who can write where.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, Failure, Report, exit_of, hint_of, message_of};
use crate::value::{ShellWord, counted};

/// How a pause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PauseOutcome {
    /// Writes are paused until `resume_write`.
    Paused,
    /// They were paused already.
    Already,
    /// It could not be done in time; everything is as before.
    Undone,
    /// Nothing was changed; this is what would be done.
    DryRun,
    /// It could be neither completed nor undone: the guards go on with it.
    Unfinished,
}

/// Where the application can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Writable {
    /// On the publisher.
    Publisher,
    /// On the subscriber.
    Subscriber,
    /// Nowhere.
    None,
}

/// A step of the pause, by its name in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepName {
    /// What undoes the pause is armed.
    Guard,
    /// The poolers were told to PAUSE.
    Poolers,
    /// CONNECT is revoked, and sessions are read-only by default.
    Revoke,
    /// Sessions are terminated.
    Terminate,
    /// Published tables are locked.
    Lock,
    /// The last row has arrived on the other side.
    Drain,
    /// Sequences are set on the other side.
    Sequences,
    /// The subscription is disabled.
    Disable,
    /// The LSN where the way back starts.
    Mark,
    /// The switch hook.
    Route,
    /// The point of no return.
    Switching,
    /// The other side is open.
    Open,
    /// The server that was left answers again, read-only.
    Answer,
    /// The poolers were told to RELOAD and RESUME.
    Resume,
}

impl StepName {
    /// As reports and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            StepName::Guard => "guard",
            StepName::Poolers => "poolers",
            StepName::Revoke => "revoke",
            StepName::Terminate => "terminate",
            StepName::Lock => "lock",
            StepName::Drain => "drain",
            StepName::Sequences => "sequences",
            StepName::Disable => "disable",
            StepName::Mark => "mark",
            StepName::Route => "route",
            StepName::Switching => "switching",
            StepName::Open => "open",
            StepName::Answer => "answer",
            StepName::Resume => "resume",
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One step with its duration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepTime {
    /// Which step.
    pub step: StepName,
    /// Milliseconds.
    pub ms: f64,
}

/// What `pause_write` ends with.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PauseReport {
    /// How it ended.
    pub outcome: PauseOutcome,
    /// The run, as the journal has it.
    pub run_id: Option<String>,
    /// The database.
    pub dbname: String,
    /// The subscription.
    pub subname: String,
    /// Where the application can write now; none: that is not known.
    pub writable: Option<Writable>,
    /// Milliseconds from the guards to the last row on the subscriber.
    pub pause_ms: Option<f64>,
    /// Each step.
    pub steps: Vec<StepTime>,
    /// Sessions that were ended.
    pub terminated_backends: usize,
    /// Tables that were locked until everything had arrived.
    pub tables: usize,
    /// Roles that may go on connecting.
    pub kept_users: Vec<String>,
    /// What else there is to know.
    pub warnings: Vec<String>,
    /// Why it was undone.
    #[serde(skip)]
    pub(crate) cause: Option<Failure>,
}

impl PauseReport {
    /// Why the pause was undone.
    pub fn verdict(&self) -> Option<Error> {
        self.cause.clone().map(Error::from)
    }
}

/// The error as a verdict beside the report's fields.
pub(crate) fn cause_of(report: &Report) -> Failure {
    let failure = Failure::new(message_of(report)).exit(exit_of(report));
    match hint_of(report) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

impl fmt::Display for PauseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PauseReport {
            dbname, subname, ..
        } = self;
        match self.outcome {
            PauseOutcome::Paused => {
                writeln!(
                    f,
                    "Nobody but superusers can write to {dbname:?}: nobody can connect to it on the publisher until `flare resume_write {}`.",
                    ShellWord(dbname)
                )?;
                writeln!(
                    f,
                    "Every write has arrived on the subscriber ({subname:?}). It's time to switch!"
                )?;
            }
            PauseOutcome::Already => {
                writeln!(
                    f,
                    "Nobody but superusers can write to {dbname:?}: it was paused already; `flare resume_write {}` opens it.",
                    ShellWord(dbname)
                )?;
            }
            PauseOutcome::Undone => {
                writeln!(
                    f,
                    "The application can write to {dbname:?} on the publisher, as before: the pause was undone."
                )?;
            }
            PauseOutcome::Unfinished => match self.writable {
                Some(_) => writeln!(
                    f,
                    "Nobody can write to {dbname:?}: the pause could not be undone."
                )?,
                None => writeln!(
                    f,
                    "Who can write to {dbname:?} is not known: the pause could not be undone."
                )?,
            },
            PauseOutcome::DryRun => {
                writeln!(
                    f,
                    "The application can write to {dbname:?} on the publisher; nothing was changed."
                )?;
                writeln!(
                    f,
                    "pause_write would arm the guards, revoke CONNECT, end the application's sessions, lock {}, and wait for a probe row on the subscriber.",
                    counted(self.tables, "table")
                )?;
            }
        }
        if let Some(pause_ms) = self.pause_ms {
            let steps: Vec<String> = self
                .steps
                .iter()
                .map(|step| format!("{} {:.1} ms", step.step, step.ms))
                .collect();
            writeln!(f, "took {pause_ms:.1} ms: {}", steps.join(", "))?;
            writeln!(
                f,
                "sessions ended: {}, tables locked meanwhile: {}",
                self.terminated_backends, self.tables
            )?;
        }
        if !self.kept_users.is_empty() {
            writeln!(f, "may go on connecting: {}", self.kept_users.join(", "))?;
        }
        for warning in &self.warnings {
            writeln!(f, "note: {warning}")?;
        }
        Ok(())
    }
}

/// What `resume_write` ends with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ResumeReport {
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// The run that was ended.
    pub run_id: Option<String>,
    /// The database.
    pub dbname: String,
    /// Where the application can write now.
    pub writable: Writable,
    /// The statements that gave the privileges back.
    pub statements: Vec<String>,
    /// What else there is to know.
    pub warnings: Vec<String>,
}

impl fmt::Display for ResumeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dbname = &self.dbname;
        match (self.dry_run, self.writable) {
            (true, _) if !self.statements.is_empty() => {
                writeln!(f, "Nothing was changed; resume_write would run:")?
            }
            (_, Writable::Publisher) => writeln!(
                f,
                "The application can write to {dbname:?} on the publisher, with its privileges as they were."
            )?,
            (_, _) => writeln!(f, "The privileges of {dbname:?} were left as they are.")?,
        }
        if self.dry_run {
            for statement in &self.statements {
                writeln!(f, "    {statement};")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "note: {warning}")?;
        }
        Ok(())
    }
}
