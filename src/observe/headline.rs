//! The top of the monitor: who can write where, and whether it could be cut over now. Filled in by whoever knows.

use std::fmt;

use serde::Serialize;

use super::Sampler;
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
        }
    }

    /// What `cut_over` answers.
    pub(crate) fn question(&self) -> &'static str {
        match self.direction {
            Direction::Forward => "Cut over now",
            Direction::Back => "Fall back now",
        }
    }
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
