//! What `cutover` and `fallback` end with. The first line says who can write where.

use std::fmt;

use serde::Serialize;

use crate::config::DdlMode;
use crate::cutover::before::plan::{self, Plan};
use crate::cutover::report::{StepName, StepTime, Writable, cause_of};
use crate::cutover::state::{Pause, PauseRequest};
use crate::error::{Error, Failure, Report};
use crate::journal::Direction;
use crate::preflight::{Checked, Preflight, Severity};
use crate::value::{Lsn, counted};
use crate::verify::LastVerification;

/// How a switch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SwitchOutcome {
    /// The application can write on the other server.
    Switched,
    /// Everything is as before.
    Undone,
    /// Nothing was changed; this is what would be done.
    DryRun,
    /// It had been switched before.
    Already,
    /// It could be neither completed nor undone: the guard goes on with it, or the next command.
    Unfinished,
}

/// One database of a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SwitchedDatabase {
    /// The database.
    pub dbname: String,
    /// The subscription of the configuration.
    pub subname: String,
    /// Sessions that were ended on the server that was left.
    pub terminated_backends: usize,
    /// Tables that were locked until everything had arrived.
    pub tables: usize,
    /// Sequences that were carried over.
    pub sequences: usize,
    /// Where the server that was left stood when everything of it had arrived.
    pub drained_lsn: Option<Lsn>,
}

/// Round trips in milliseconds, to the server that was left and to the one that was moved to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RoundTripMs {
    /// To the server that was left.
    pub from: f64,
    /// To the one that was moved to.
    pub to: f64,
}

/// What `cutover` and `fallback` end with.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SwitchReport {
    /// How it ended.
    pub outcome: SwitchOutcome,
    /// Which way the data flowed before.
    pub direction: Direction,
    /// The run, as the journal has it.
    pub run_id: Option<String>,
    /// Milliseconds from PAUSE, or the REVOKE of CONNECT, to the open target, or RESUME; until it failed, for one
    /// that was undone.
    pub pause_ms: Option<f64>,
    /// What an answer of either server took at least, from this machine.
    pub round_trip_ms: Option<RoundTripMs>,
    /// The same as `pause_ms`, as a dry run expects it.
    pub estimated_pause_ms: Option<f64>,
    /// Each step; in a dry run with the time that is expected.
    pub steps: Vec<StepTime>,
    /// Each database.
    pub databases: Vec<SwitchedDatabase>,
    /// The subscription that brings the data back from now on.
    pub reverse_subscription: Option<String>,
    /// Where the application can write now; none: that is not known.
    pub writable: Option<Writable>,
    /// In a dry run, what stands in the way of the switch, and what else the checks of `preflight` have found.
    pub checks: Vec<Checked>,
    /// When the rows of each database were last compared; none: that was not looked at.
    pub verified: Vec<LastVerification>,
    /// What else there is to know.
    pub warnings: Vec<String>,
    /// Why it was undone, or what is left to do.
    #[serde(skip)]
    pub(crate) cause: Option<Failure>,
    #[serde(skip)]
    command: &'static str,
    /// The server that was left could not be shut.
    #[serde(skip)]
    abandoned: bool,
}

impl SwitchReport {
    pub(super) fn of(
        pause: &Pause<'_>,
        request: &PauseRequest,
        outcome: SwitchOutcome,
    ) -> SwitchReport {
        let databases = pause.databases.iter().zip(&request.databases);
        let databases = databases.map(|(database, wanted)| SwitchedDatabase {
            dbname: wanted.dbname.clone(),
            subname: wanted.subname.clone(),
            terminated_backends: database.ended.len(),
            tables: database.published.len(),
            sequences: database.on_from.len(),
            drained_lsn: database.drained,
        });
        let back: Vec<String> = pause
            .members()
            .iter()
            .map(|member| member.stream(request.direction.flipped()).subname)
            .collect();
        SwitchReport {
            outcome,
            run_id: (outcome != SwitchOutcome::DryRun).then(|| pause.run().to_string()),
            pause_ms: pause.pause_ms(),
            round_trip_ms: pause.began_at.is_some().then_some(RoundTripMs {
                from: pause.round_trip.from.as_secs_f64() * 1000.0,
                to: pause.round_trip.to.as_secs_f64() * 1000.0,
            }),
            steps: pause.steps.clone(),
            databases: databases.collect(),
            reverse_subscription: (pause.way_back_runs && outcome == SwitchOutcome::Switched)
                .then(|| back.join(", ")),
            writable: match outcome {
                SwitchOutcome::Switched => Some(written_after(request.direction)),
                SwitchOutcome::Unfinished => None,
                _ => Some(written_before(request.direction)),
            },
            warnings: pause.warnings.clone(),
            ..SwitchReport::already(request)
        }
    }

    /// With what does not come back to *from*: where statements are carried or refused, so is this one.
    pub(super) fn leaving_out(mut self, pause: &Pause<'_>, ddl: DdlMode) -> SwitchReport {
        let (from, to) = (&pause.pair.publisher, &pause.pair.subscriber);
        if pause.entry.reverse && from.major() < 11 && ddl == DdlMode::Watch {
            self.warnings.push(format!(
                "TRUNCATE on the {} is not carried back: the {} is a PostgreSQL 10, which dies of it",
                to.side(),
                from.side()
            ));
        }
        self
    }

    /// With what a dry run has found out.
    pub(super) fn planned(mut self, plan: Plan) -> SwitchReport {
        for (database, sequences) in self.databases.iter_mut().zip(plan.sequences) {
            database.sequences = sequences;
        }
        SwitchReport {
            estimated_pause_ms: Some(plan.pause_ms),
            steps: plan.steps,
            ..self
        }
    }

    /// With where the application can write, if that is known, and why it is not complete.
    pub(super) fn unfinished(self, writable: Option<Writable>, cause: &Report) -> SwitchReport {
        let opened = matches!(writable, Some(Writable::Publisher | Writable::Subscriber));
        SwitchReport {
            // The pause of an application that cannot write yet is not over.
            pause_ms: self.pause_ms.filter(|_| opened),
            writable,
            cause: Some(cause_of(cause)),
            ..self
        }
    }

    /// It would be refused: all that stands in the way.
    pub(super) fn blocked(request: &PauseRequest, found: &Preflight) -> SwitchReport {
        let command = request.command();
        let ids: Vec<&str> = found.found(Severity::Blocker).map(|it| it.id).collect();
        SwitchReport {
            outcome: SwitchOutcome::DryRun,
            writable: Some(written_before(request.direction)),
            checks: found.worth_a_word(),
            cause: Some(
                Failure::no(format!(
                    "the {command} would be refused: {}",
                    ids.join(", ")
                ))
                .hint("each finding has the statement that mends it"),
            ),
            ..SwitchReport::already(request)
        }
    }

    /// The run had switched before; `request` has the direction that it had.
    pub(crate) fn already(request: &PauseRequest) -> SwitchReport {
        let databases = request.databases.iter().map(|wanted| SwitchedDatabase {
            dbname: wanted.dbname.clone(),
            subname: wanted.subname.clone(),
            terminated_backends: 0,
            tables: 0,
            sequences: 0,
            drained_lsn: None,
        });
        SwitchReport {
            outcome: SwitchOutcome::Already,
            direction: request.direction,
            run_id: None,
            pause_ms: None,
            round_trip_ms: None,
            estimated_pause_ms: None,
            steps: Vec::new(),
            databases: databases.collect(),
            reverse_subscription: None,
            writable: Some(written_after(request.direction)),
            checks: Vec::new(),
            verified: Vec::new(),
            warnings: Vec::new(),
            cause: None,
            command: request.command(),
            abandoned: false,
        }
    }

    /// The side that the data would flow to was given up.
    pub(crate) fn abandoned(request: &PauseRequest, lost: Vec<String>, dry_run: bool) -> Self {
        let mut warnings = lost;
        let side = in_words(written_before(request.direction));
        warnings.push(match request.direction {
            Direction::Back => format!("should the {side} come back, it is open, and both servers take writes: one that is frozen or cut off does not answer either; keep clients away from it, and begin a new migration with an empty one"),
            Direction::Forward => format!("should the {side} come back, it may be open, and both servers take writes: one that is frozen or cut off does not answer either; keep clients away from it"),
        });
        SwitchReport {
            outcome: if dry_run {
                SwitchOutcome::DryRun
            } else {
                SwitchOutcome::Switched
            },
            writable: Some(if dry_run {
                Writable::None
            } else {
                written_after(request.direction)
            }),
            warnings,
            abandoned: true,
            command: "fallback",
            ..SwitchReport::already(request)
        }
    }

    /// Why it was undone, or is not complete.
    pub fn verdict(&self) -> Option<Error> {
        self.cause.clone().map(Error::from)
    }
}

/// Where the application writes while the data flows in a direction.
pub(crate) fn written_before(direction: Direction) -> Writable {
    match direction {
        Direction::Forward => Writable::Publisher,
        Direction::Back => Writable::Subscriber,
    }
}

fn in_words(writable: Writable) -> &'static str {
    match writable {
        Writable::Publisher => "publisher",
        Writable::Subscriber => "subscriber",
        Writable::None => "neither server",
    }
}

pub(super) fn written_after(direction: Direction) -> Writable {
    written_before(direction.flipped())
}

impl fmt::Display for SwitchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .databases
            .iter()
            .map(|database| format!("{:?}", database.dbname))
            .collect();
        let (names, command) = (names.join(", "), self.command);
        match (self.outcome, self.writable) {
            (SwitchOutcome::DryRun, _) if self.abandoned => {
                let writable = in_words(written_after(self.direction));
                write!(f, "The application can write to {names} on the {writable}")?
            }
            (SwitchOutcome::Unfinished, Some(Writable::None)) => {
                write!(f, "Nobody can write to {names}")?
            }
            (_, None) => write!(f, "Who can write to {names} is not known")?,
            (_, Some(writable)) => {
                let writable = in_words(writable);
                write!(f, "The application can write to {names} on the {writable}")?
            }
        }
        match self.outcome {
            SwitchOutcome::Switched if self.abandoned => {
                let abandoned = in_words(written_before(self.direction));
                writeln!(f, "; the {abandoned} was abandoned as it was.")?
            }
            SwitchOutcome::Switched => writeln!(f, ", and nowhere else.")?,
            SwitchOutcome::Undone => writeln!(f, ", as before: the {command} was undone.")?,
            SwitchOutcome::Unfinished => {
                writeln!(f, ": the {command} is neither complete nor undone.")?
            }
            SwitchOutcome::DryRun if self.abandoned => {
                writeln!(f, " afterwards; nothing was changed.")?
            }
            SwitchOutcome::DryRun => writeln!(f, "; nothing was changed.")?,
            SwitchOutcome::Already => writeln!(
                f,
                "{}",
                match self.direction {
                    Direction::Forward => ": it was switched already.",
                    Direction::Back => ": there is nothing to fall back from.",
                }
            )?,
        }
        for found in &self.checks {
            write!(f, "{found}")?;
        }
        if let Some(pause_ms) = self.estimated_pause_ms {
            writeln!(f, "The pause would take about {pause_ms:.0} ms:")?;
            for StepTime { step, ms } in &self.steps {
                writeln!(f, "  {step:<10} {ms:>4.0} ms  {}", plan::in_words(*step))?;
            }
        }
        if let Some(pause_ms) = self.pause_ms {
            write!(f, "paused for {pause_ms:.1} ms")?;
            // The guard is there before the application notices anything.
            let steps = self.steps.iter().filter(|it| it.step != StepName::Guard);
            let steps: Vec<String> = steps
                .map(|step| format!("{} {:.1}", step.step, step.ms))
                .collect();
            match self.outcome {
                SwitchOutcome::Undone | SwitchOutcome::Unfinished => writeln!(f)?,
                _ => writeln!(f, ": {} (ms)", steps.join(", "))?,
            }
        }
        for database in &self.databases {
            let SwitchedDatabase {
                dbname,
                tables,
                sequences,
                terminated_backends,
                ..
            } = database;
            match self.outcome {
                _ if self.abandoned => {}
                SwitchOutcome::Switched => writeln!(
                    f,
                    "{dbname:?}: {} locked, {}, {} ended",
                    counted(tables, "table"),
                    counted(sequences, "sequence"),
                    counted(terminated_backends, "session")
                )?,
                SwitchOutcome::DryRun if self.checks.is_empty() => writeln!(
                    f,
                    "{dbname:?}: {} to lock, {}; every session there would be ended",
                    counted(tables, "table"),
                    counted(sequences, "sequence")
                )?,
                _ => {}
            }
        }
        if let Some(reverse) = &self.reverse_subscription {
            let back = match self.direction {
                Direction::Forward => "fallback",
                Direction::Back => "cutover",
            };
            writeln!(
                f,
                "The other server follows by {reverse}; `flare {back}` leads back: a row has come back already."
            )?;
        }
        if self.outcome != SwitchOutcome::Already {
            for verified in &self.verified {
                writeln!(f, "{verified}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "note: {warning}")?;
        }
        Ok(())
    }
}
