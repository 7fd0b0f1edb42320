//! Statements that change the schema, brought to both sides.

use super::direction::oriented;
use super::{Change, Flare};
use crate::catalog::subscriptions;
use crate::config::{DdlMode, Subscription};
use crate::cutover::Wanted;
use crate::ddl::{self, DdlReport, Decision, Script, Sides, StuckStatement};
use crate::error::{Error, Failure, Result};
use crate::journal::{Direction, Stream};
use crate::replicate::Mode;
use crate::server::{Pair, Server};
use crate::value::ShellWord;

impl Flare {
    /// Runs statements on both sides of a database that is being moved, each so that no row of the old shape arrives after
    /// it and none of the new shape before.
    ///
    /// # Errors
    /// When a statement is none that both sides can have, or a server refuses it: then neither side has it. An error
    /// between the two commits says so; the next call finishes the statement.
    pub fn ddl(
        &self,
        dbname: &str,
        script: &Script,
        role: Option<&str>,
    ) -> Result<DdlReport, Error> {
        Ok(self.at_both_sides(dbname, |sides| ddl::run(sides, script, role, &self.run))?)
    }

    /// Finishes statements that an earlier run has left on one side.
    ///
    /// # Errors
    /// When the side that lacks one refuses it.
    pub fn ddl_retry(&self, target: &str) -> Result<DdlReport, Error> {
        Ok(self.at_both_sides(target, |sides| ddl::retry(sides, &self.run))?)
    }

    /// Decides about a carried statement that fails on the receiving side.
    ///
    /// # Errors
    /// When there is nothing to decide, or what is run instead fails, too.
    pub fn ddl_decide(
        &self,
        target: &str,
        id: i64,
        decision: &Decision,
    ) -> Result<DdlReport, Error> {
        Ok(self.at_both_sides(target, |sides| ddl::decide(sides, id, decision, &self.run))?)
    }

    /// `target` is a database, or a subscription of one.
    fn at_both_sides(
        &self,
        target: &str,
        work: impl FnOnce(&Sides<'_>) -> Result<DdlReport>,
    ) -> Result<DdlReport> {
        let by_name = self.config.subscriptions.get(target);
        let dbname = match (self.config.publications.contains_key(target), by_name) {
            (false, Some(subscription)) => subscription.dbname.as_str(),
            _ => target,
        };
        self.config.publication(dbname)?;
        let (subname, declared) = self.config.subscription_of(dbname, None)?;
        let pair = self.open().both()?;
        let journals = self.settle(&pair, &[dbname])?;
        let direction = journals.standing(dbname).direction;
        self.begin_in(direction, &[&pair.publisher, &pair.subscriber], &[dbname])?;
        let oriented = oriented(&pair, direction);
        let stream = Stream::of(dbname, subname, &declared.pubname, direction);
        let sides = Sides::enter(&oriented, &self.config, stream, direction)?;
        work(&sides)
    }

    /// Has statements refused or carried from now on, as the configuration says; `pair` is the configuration's, and the
    /// subscription is there.
    pub(super) fn arm(
        &self,
        pair: &Pair,
        subname: &str,
        declared: &Subscription,
    ) -> Result<Change> {
        let mode = self.config.ddl;
        if self.run.mode == Mode::DryRun {
            let change = Change::none(&self.run);
            return Ok(match mode {
                DdlMode::Watch => change,
                mode => {
                    change.with_note(format!("statements would be handled as ddl: {mode} says"))
                }
            });
        }
        let Subscription {
            dbname, pubname, ..
        } = declared;
        let forward = Stream::of(dbname, subname, pubname, Direction::Forward);
        ddl::arm(pair, &forward, Direction::Forward, mode, &self.run)
    }

    /// Takes the event triggers of a database away, on the sides that answer.
    pub(super) fn disarm<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a Server>,
        dbname: &str,
    ) -> Result<Change> {
        let mut change = Change::none(&self.run);
        for server in servers {
            change = change.and(ddl::disarm(server, dbname, &self.run)?);
        }
        Ok(change)
    }

    /// Where statements are carried: has the subscription take new tables, and says which statements the other side lacks.
    pub(super) fn carried(
        &self,
        pair: &Pair,
        direction: Direction,
        subname: &str,
        declared: &Subscription,
    ) -> Result<Vec<StuckStatement>> {
        if self.config.ddl != DdlMode::Carry {
            return Ok(Vec::new());
        }
        let dbname = declared.dbname.as_str();
        let pair = oriented(pair, direction);
        let open = pair.publisher.visit(dbname)?;
        let receiving = pair.subscriber.visit(dbname)?;
        let stuck = ddl::stuck(&open, &receiving)?;
        if stuck.is_empty() {
            self.follow(&pair, direction, subname, declared)?;
        }
        Ok(stuck)
    }

    /// Has the subscription take tables that carried statements have made; `pair` has the open side as its publisher.
    fn follow(
        &self,
        pair: &Pair,
        direction: Direction,
        subname: &str,
        declared: &Subscription,
    ) -> Result<()> {
        let stream = Stream::of(&declared.dbname, subname, &declared.pubname, direction);
        let receiving = pair.subscriber.visit(&declared.dbname)?;
        let there = subscriptions::find(&receiving, &stream.subname)?;
        if self.run.mode == Mode::DryRun || !there.is_some_and(|it| it.subenabled) {
            return Ok(());
        }
        let sides = Sides::enter(pair, &self.config, stream, direction)?;
        for table in ddl::follow(&sides, &self.run)? {
            self.run
                .progress
                .step(&format!("{} replicates from now on", table.plain()));
        }
        Ok(())
    }

    /// Before a switch: tables that carried statements have made are copied.
    pub(super) fn follow_all(
        &self,
        pair: &Pair,
        direction: Direction,
        wanted: &[Wanted],
    ) -> Result<()> {
        if self.config.ddl != DdlMode::Carry || self.run.mode == Mode::DryRun {
            return Ok(());
        }
        for wanted in wanted {
            let declared = self.config.subscription(&wanted.subname)?;
            self.follow(pair, direction, &wanted.subname, declared)?;
            let stream = Stream::of(&wanted.dbname, &wanted.subname, &wanted.pubname, direction);
            Sides::enter(pair, &self.config, stream, direction)?.copied()?;
        }
        Ok(())
    }

    /// Refuses a switch while a statement may be on one side only.
    pub(super) fn refuse_unsettled(&self, pair: &Pair, dbname: &str) -> Result<()> {
        let unsettled = ddl::unsettled(pair, &self.config, dbname)?;
        let Some(first) = unsettled.first() else {
            return Ok(());
        };
        Failure::new(format!(
            "{} {dbname:?}: a statement may be on one side only: {first}",
            self.command
        ))
        .hint(format!(
            "flare ddl {} --retry finishes it, or says what is in its way",
            ShellWord(dbname)
        ))
        .err()
    }
}
