//! What would go wrong, before anything is touched and at any later point.

use super::Flare;
use super::direction::oriented;
use crate::error::{Advise, Error, Failure, Result};
use crate::journal::Direction;
use crate::preflight::{self, Before, Later, Preflight, Schemas, Scope};
use crate::progress::{Progress, Silent};
use crate::replicate::options::Options;
use crate::server::{Opened, Pair, Server};
use crate::value::ShellWord;

impl Flare {
    /// Looks at everything that is known to go wrong in such migrations, on both servers: in these databases, or in all
    /// that are configured. Changes nothing.
    ///
    /// # Errors
    /// When a server cannot be looked at.
    pub fn preflight(&self, dbnames: &[String]) -> Result<Preflight, Error> {
        let declared: Vec<&str> = match dbnames {
            [] => self
                .config
                .publications
                .keys()
                .map(String::as_str)
                .collect(),
            some => some.iter().map(String::as_str).collect(),
        };
        if declared.is_empty() {
            return Failure::usage(
                "look before the start: the configuration declares no publication",
            )
            .hint("name the databases that move in publications")
            .err();
        }
        for dbname in &declared {
            self.config.publication(dbname)?;
        }
        let opened = self.open_visiting(declared.iter().copied());
        let pair = opened.both()?;
        let opened = Opened::from(pair.clone());
        for dbname in &declared {
            self.check_options(&pair.subscriber, dbname)?;
        }
        let journals = self.journals(&opened)?;
        let back = |dbname: &&str| journals.flow(dbname).direction == Direction::Back;
        let (back, forward): (Vec<&str>, Vec<&str>) = declared.into_iter().partition(back);
        let mut found: Option<Preflight> = None;
        for (direction, dbnames) in [(Direction::Forward, forward), (Direction::Back, back)] {
            if dbnames.is_empty() {
                continue;
            }
            let pair = oriented(&pair, direction);
            let more = preflight::check(&Scope {
                config: &self.config,
                publisher: Some(&pair.publisher),
                subscriber: Some(&pair.subscriber),
                direction,
                dbnames: &dbnames,
                before: Before::Cutover,
                reverse: self.config.cutover.reverse,
                schemas: Schemas::Compare,
                later: Later::WarnsAtFirst,
            })?;
            found = Some(match found {
                Some(found) => found.and(more),
                None => more,
            });
        }
        Ok(found.unwrap_or_default())
    }

    /// The checks of a command on the way forward, before its first change: blockers refuse it, warnings are said, once,
    /// and what was found is returned.
    pub(super) fn clear(
        &self,
        publisher: &Server,
        subscriber: Option<&Server>,
        dbname: &str,
        before: Before,
    ) -> Result<Preflight> {
        if let Some(subscriber) = subscriber {
            self.check_options(subscriber, dbname)?;
        }
        let scope = Scope {
            config: &self.config,
            publisher: Some(publisher),
            subscriber,
            direction: Direction::Forward,
            dbnames: &[dbname],
            before,
            reverse: self.config.cutover.reverse,
            schemas: Schemas::Compare,
            later: Later::Warns,
        };
        let progress: &dyn Progress = if self.warned {
            &Silent
        } else {
            &*self.run.progress
        };
        preflight::clear(&scope, progress).hint(|| format!("flare preflight {}", ShellWord(dbname)))
    }

    /// Fails when a subscription of the database is to have an option that the subscriber does not take.
    fn check_options(&self, subscriber: &Server, dbname: &str) -> Result<()> {
        let subscriptions = self.config.subscriptions.iter();
        for (subname, declared) in subscriptions.filter(|(_, it)| it.dbname == dbname) {
            Options::read(subname, &declared.options, subscriber.major())?;
        }
        Ok(())
    }

    /// What blocks a cutover or a fallback, for `status`, which compares the schemas itself.
    pub(super) fn blocks_switch(
        &self,
        pair: &Pair,
        direction: Direction,
        dbname: &str,
    ) -> Result<()> {
        let pair = oriented(pair, direction);
        let found = preflight::check(&Scope {
            config: &self.config,
            publisher: Some(&pair.publisher),
            subscriber: Some(&pair.subscriber),
            direction,
            dbnames: &[dbname],
            before: Before::Cutover,
            reverse: self.config.cutover.reverse,
            schemas: Schemas::Leave,
            later: Later::WarnsAtFirst,
        })?;
        found.for_switch().refuse()
    }
}
