//! Who can write where, and whether it could be cut over now: the top of the monitor.

use super::Flare;
use super::standing::{Stage, Standing};
use crate::cutover::Writable;
use crate::error::{Result, message_of};
use crate::journal::Direction;
use crate::observe::{Headline, Ready, Watch};

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
            Ok(Some(standing)) => of(&standing),
            Ok(None) => Headline::unknown(direction, "nothing is known of it".into()),
            Err(report) => Headline::unknown(direction, message_of(&report)),
        }
    }
}

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
