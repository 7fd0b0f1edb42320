//! Who can write where, and whether it could be cut over now: the top of the monitor.

use serde::Serialize;

use super::Flare;
use super::standing::{Stage, Standing};
use crate::config::Lag;
use crate::cutover::Writable;
use crate::error::{Result, message_of};
use crate::journal::Direction;
use crate::observe::Sampler;

/// What the monitor watches.
pub(crate) struct Watch {
    pub(crate) name: String,
    pub(crate) limits: Lag,
    pub(crate) sampler: Sampler,
    /// Asks anew each time, in sessions of its own.
    pub(crate) headline: Box<dyn Fn() -> Headline + Send>,
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

impl Flare {
    /// What the monitor of a subscription needs.
    ///
    /// # Errors
    /// As [`Flare::sampler`].
    pub(crate) fn watch(&self, dbname: &str, subname: &str) -> Result<Watch> {
        let sampler = self.sampler(dbname, subname)?;
        let (flare, name) = (self.clone(), subname.to_owned());
        let direction = sampler.direction();
        Ok(Watch {
            name: format!("{dbname} / {subname}"),
            limits: self.config.lag,
            sampler,
            headline: Box::new(move || flare.headline(&name, direction)),
        })
    }

    fn headline(&self, subname: &str, direction: Direction) -> Headline {
        let standing = self.standing_of(subname);
        match standing {
            Ok(Some(standing)) => Headline::of(&standing),
            Ok(None) => Headline::unknown(direction, "nothing is known of it".into()),
            Err(report) => Headline::unknown(direction, message_of(&report)),
        }
    }
}

impl Headline {
    fn of(standing: &Standing) -> Headline {
        let writable = match standing.writable {
            Some(Writable::Publisher) => "The application writes on the publisher.",
            Some(Writable::Subscriber) => "The application writes on the subscriber.",
            Some(Writable::None) => "Nobody can write: paused.",
            None => "Who can write is unknown.",
        };
        let obstacle = standing.obstacle.clone();
        let cut_over = match (standing.stage, obstacle) {
            (_, Some(obstacle)) => Ready::No(obstacle),
            (Stage::Replicating | Stage::FallenBack | Stage::CutOver, None) => Ready::Yes,
            (Stage::CleanedUp | Stage::OneWay, None) => Ready::Done(standing.in_words().into()),
            (Stage::Broken, None) => Ready::No(
                standing
                    .message
                    .clone()
                    .unwrap_or_else(|| "it is broken".into()),
            ),
            (_, None) => Ready::No(standing.in_words().to_owned()),
        };
        Headline {
            writable: writable.to_owned(),
            direction: standing.direction,
            cut_over,
            warnings: standing.sides.warnings.clone(),
        }
    }

    fn unknown(direction: Direction, why: String) -> Headline {
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
