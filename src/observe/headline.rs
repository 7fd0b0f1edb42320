//! The top of the monitor: who can write where, and whether it could be cut over now. Filled in by whoever knows.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{CauseKind, Sample, Sampler, span};
use crate::config::Lag;
use crate::journal::Direction;

/// What the monitor watches.
pub(crate) struct Watch {
    pub(crate) name: String,
    pub(crate) limits: Lag,
    pub(crate) sampler: Sampler,
    /// Asks in sessions of its own; may be called often.
    pub(crate) headline: Box<dyn FnMut() -> Headline + Send>,
}

/// The line on top.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Headline {
    /// Who can write where.
    pub(crate) writable: String,
    /// Which way the data flows.
    pub(crate) direction: Direction,
    /// Whether it could be cut over, or fall back, now.
    pub(crate) cut_over: Ready,
    /// What is not as it should be.
    pub(crate) warnings: Vec<String>,
    /// What is behind by more than this cannot be drained in a pause.
    #[serde(skip)]
    pub(crate) max_pause: Duration,
}

/// Whether the application could be moved now.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "answer", content = "because")]
pub(crate) enum Ready {
    Yes,
    No(String),
    /// There is nothing to move any more.
    Done(String),
}

impl Headline {
    /// When it could not be found out.
    pub(crate) fn unknown(direction: Direction, why: String) -> Headline {
        Headline {
            writable: "Who can write is unknown.".to_owned(),
            direction,
            cut_over: Ready::No(why),
            warnings: Vec::new(),
            max_pause: Duration::ZERO,
        }
    }

    /// The same at the moment of a sample, which is newer: what does not flow cannot be drained.
    pub(crate) fn at(mut self, sample: &Sample) -> Headline {
        if self.cut_over == Ready::Yes
            && let Some(why) = in_the_way(sample, self.max_pause)
        {
            self.cut_over = Ready::No(why);
        }
        self
    }

    /// What `cut_over` answers.
    pub(crate) fn question(&self) -> &'static str {
        match self.direction {
            Direction::Forward => "Cut over now",
            Direction::Back => "Fall back now",
        }
    }
}

fn in_the_way(sample: &Sample, max_pause: Duration) -> Option<String> {
    let (from, to) = sample.sides();
    let unanswered = [
        (from, &sample.publisher_error),
        (to, &sample.subscriber_error),
    ];
    for (side, error) in unanswered {
        if let Some(error) = error {
            return Some(format!("the {side} {}", error.verb()));
        }
    }
    let cause = sample.causes.iter().find_map(|it| match it.cause {
        CauseKind::WorkerRestarts => Some("a worker of the subscription has just ended"),
        CauseKind::WaitsForLock => Some("a worker waits for a lock"),
        CauseKind::HugeTransactionDecoded | CauseKind::HugeTransactionApplied => {
            Some("a huge transaction is under way")
        }
        _ => None,
    });
    let behind = sample
        .lag_seconds
        .filter(|it| *it > max_pause.as_secs_f64());
    let behind = behind.map(|it| format!("it is {} behind, longer than max_pause", span(it)));
    cause.map(str::to_owned).or(behind)
}

impl fmt::Display for Headline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = match &self.cut_over {
            Ready::Yes => "yes".to_owned(),
            Ready::No(why) => format!("no, because {why}"),
            Ready::Done(what) => what.clone(),
        };
        writeln!(f, "{}  {}: {answer}", self.writable, self.question())?;
        for warning in self.warnings.iter().filter(|it| !answer.contains(*it)) {
            writeln!(f, "WARNING: {warning}")?;
        }
        Ok(())
    }
}
