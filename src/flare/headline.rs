//! Who can write where, and whether it could be cut over now: the top of the monitor.

use std::time::{Duration, Instant};

use super::Flare;
use super::direction::oriented;
use super::migration_status::{MigrationStatus, statements_in_words};
use super::stage::Stage;
use crate::config::DdlMode;
use crate::cutover::Writable;
use crate::ddl;
use crate::error::{Result, message_of};
use crate::journal::Direction;
use crate::observe::{Headline, Ready, Watch};
use crate::server::{Login, Session, Timeout, untested};

/// How often it is looked who can write where, which takes several sessions and compares the schemas.
const ANEW_EVERY: Duration = Duration::from_secs(30);
/// Where there are thousands of tables less often, so that it is no load: so many times what it took.
const SHARE: u32 = 100;
const SELDOM: Duration = Duration::from_secs(300);

impl Flare {
    /// What the monitor of a subscription needs.
    ///
    /// # Errors
    /// As [`Flare::sampler`].
    pub(crate) fn watch(&self, dbname: &str, subname: &str) -> Result<Watch> {
        let sampler = self.sampler(dbname, subname)?;
        let mut headlines = Headlines {
            flare: self.clone(),
            dbname: dbname.to_owned(),
            subname: subname.to_owned(),
            direction: sampler.direction(),
            last: None,
            took: Duration::ZERO,
            sides: None,
        };
        Ok(Watch {
            name: format!("{dbname} / {subname}"),
            limits: self.config.lag,
            sampler,
            headline: Box::new(move || headlines.next()),
        })
    }

    fn headline(&self, subname: &str, direction: Direction) -> Headline {
        let standing = self.standing_of(subname);
        match standing {
            Ok(Some(standing)) => of(&standing, self.config.cutover.max_pause),
            Ok(None) => Headline::unknown(direction, "nothing is known of it".into()),
            Err(report) => Headline::unknown(direction, message_of(&report)),
        }
    }
}

/// Asks anew when it is time; which carried statements fail each time, in two sessions that stay.
struct Headlines {
    flare: Flare,
    dbname: String,
    subname: String,
    direction: Direction,
    last: Option<(Instant, Headline)>,
    took: Duration,
    sides: Option<(Session, Session)>,
}

impl Headlines {
    fn next(&mut self) -> Headline {
        let every = (self.took * SHARE).clamp(ANEW_EVERY, SELDOM);
        let fresh = self.last.take().filter(|(at, _)| at.elapsed() < every);
        let (_, known) = self.last.insert(match fresh {
            Some(fresh) => fresh,
            None => {
                let begun = Instant::now();
                let headline = self.flare.headline(&self.subname, self.direction);
                self.took = begun.elapsed();
                (Instant::now(), headline)
            }
        });
        let mut headline = known.clone();
        // A server that does not answer is in the samples.
        let statements = self.statements().unwrap_or_default();
        headline.warnings.extend(untested());
        if let Some(first) = statements.first() {
            headline.cut_over = Ready::No(first.clone());
            headline.warnings.extend(statements);
        }
        headline
    }

    fn statements(&mut self) -> Result<Vec<String>> {
        if self.flare.config.ddl != DdlMode::Carry {
            return Ok(Vec::new());
        }
        let (open, receiving) = match self.sides.take() {
            Some(sides) => sides,
            None => {
                let pair = self.flare.open().both()?;
                let pair = oriented(&pair, self.direction);
                let session = |server: &crate::server::Server| {
                    let session = server.connect(Login::Superuser, &self.dbname)?;
                    session.set_timeout(Timeout::For(Duration::from_secs(5)));
                    Ok::<_, crate::error::Report>(session)
                };
                (session(&pair.publisher)?, session(&pair.subscriber)?)
            }
        };
        let stuck = ddl::stuck(&open, &receiving)?;
        self.sides = Some((open, receiving));
        let failing = stuck.into_iter().filter(|it| it.error.is_some());
        Ok(statements_in_words(
            &failing.collect::<Vec<_>>(),
            &self.dbname,
        ))
    }
}

fn of(standing: &MigrationStatus, max_pause: Duration) -> Headline {
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
        max_pause,
    }
}
