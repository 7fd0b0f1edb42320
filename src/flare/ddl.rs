//! Statements that change the schema, brought to both sides.

use serde::Serialize;

use super::direction::oriented;
use super::migration_status::MigrationStatus;
use super::{Change, Flare};
use crate::catalog::{publications, subscriptions};
use crate::config::{DdlMode, Subscription};
use crate::cutover::Wanted;
use crate::ddl::{self, DdlReport, Decision, Script, Sides, StuckStatement};
use crate::error::{Error, Failure, Result, WrapErr};
use crate::journal::{Direction, Stream};
use crate::replicate::{Mode, refresh};
use crate::server::{Pair, Server, Session};
use crate::value::{ShellWord, TableName};

/// Whether a look at the migration has the subscription take tables that carried statements have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewTables {
    Taken,
    Left,
}

/// How far tables are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Whole,
    /// Statements are still to come: only foreign keys that would be in the way of them.
    Cleared,
}

/// What a repair has made for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Repaired {
    /// The subscription.
    pub subname: String,
    /// The statements that were run on the receiving side.
    pub made: Vec<String>,
    /// Tables that replicate from now on.
    pub tables: Vec<TableName>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

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
        Ok(self.at_both_sides(target, |sides| self.retry_at(sides))?)
    }

    /// With what is installed for `refuse` or `carry` as it was made.
    fn retry_at(&self, sides: &Sides<'_>) -> Result<DdlReport> {
        let mut notes = Vec::new();
        if self.run.mode == Mode::Apply {
            notes = ddl::put_back(sides, self.config.ddl, &self.run)?;
        }
        let mut report = ddl::retry(sides, &self.run)?;
        if !notes.is_empty() {
            report.notes.splice(0..0, notes);
        }
        Ok(report)
    }

    /// What of `ddl: refuse` or `carry` is not at work.
    pub(super) fn ddl_gaps(&self, pair: &Pair, standing: &MigrationStatus) -> Result<Vec<String>> {
        let dbname = standing.dbname.as_str();
        if self.config.ddl == DdlMode::Watch || standing.subscription != Some(true) {
            return Ok(Vec::new());
        }
        let pair = oriented(pair, standing.direction);
        let (open, receiving) = pair.visit(dbname)?;
        ddl::gaps(&pair, (&open, &receiving), dbname, self.config.ddl)
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

    /// Makes what the receiving side of each subscription only lacks (tables, partitions, columns and the like), has new
    /// tables taken, and awaits their rows. What differs is left as it is, and in the report of [`Flare::status`].
    ///
    /// # Errors
    /// When a server refuses it; or when the rows do not come in time: the next call goes on.
    pub fn repair(&self, subnames: &[String]) -> Result<Vec<Repaired>, Error> {
        let mut repaired = Vec::new();
        for (subname, declared) in self.declared(subnames)? {
            let mut on_the_way = Vec::new();
            if self.config.ddl == DdlMode::Carry && self.run.mode == Mode::Apply {
                let pair = self.open().both()?;
                let direction = self
                    .settle(&pair, &[&declared.dbname])?
                    .flow(&declared.dbname)
                    .direction;
                let pair = oriented(&pair, direction);
                // Statements that are yet to come may wait for what is made here; one that fails is decided about first.
                on_the_way = self.on_the_way(&pair, &declared.dbname)?;
                if on_the_way.is_empty() {
                    self.refuse_unsettled(&pair, &declared.dbname)?;
                } else {
                    self.refuse_half_done(&pair, &declared.dbname)?;
                }
            }
            let made = self.make_missing(&declared.dbname, |_| Ok(on_the_way))?;
            let (tables, notes) = match self.run.mode {
                Mode::DryRun => Default::default(),
                Mode::Apply => {
                    self.at_both_sides(subname, |sides| ddl::take_over(sides, &self.run))?
                }
            };
            repaired.push(Repaired {
                subname: subname.to_owned(),
                made: made.statements.into_iter().map(|it| it.sql).collect(),
                tables,
                notes,
            });
        }
        Ok(repaired)
    }

    /// `target` is a database, or a subscription of one.
    fn at_both_sides<T>(
        &self,
        target: &str,
        work: impl FnOnce(&Sides<'_>) -> Result<T>,
    ) -> Result<T> {
        let by_name = self.config.subscriptions.get(target);
        let dbname = match (self.config.publications.contains_key(target), by_name) {
            (false, Some(subscription)) => subscription.dbname.as_str(),
            _ => target,
        };
        self.config.publication(dbname)?;
        let (subname, declared) = self.config.subscription_of(dbname, None)?;
        let pair = self.open().both()?;
        let journals = self.settle(&pair, &[dbname])?;
        let direction = journals.flow(dbname).direction;
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
        ddl::arm(
            pair,
            (subname, declared),
            Direction::Forward,
            mode,
            &self.run,
        )
    }

    /// Takes the event triggers of a database away, on the sides that answer.
    pub(super) fn disarm<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a Server>,
        dbname: &str,
    ) -> Result<Change> {
        let mut change = Change::none(&self.run);
        for server in servers {
            change = change
                .and(ddl::disarm(server, dbname, &self.run)?)
                .and(ddl::lift_barriers(server, dbname, &self.run)?);
        }
        Ok(change)
    }

    /// Where statements are carried: which of them the other side lacks; and the subscription takes new tables, when asked:
    /// those that it has taken.
    pub(super) fn carried(
        &self,
        pair: &Pair,
        direction: Direction,
        subname: &str,
        declared: &Subscription,
        new_tables: NewTables,
    ) -> Result<(Vec<StuckStatement>, Vec<TableName>)> {
        if self.config.ddl != DdlMode::Carry {
            return Ok(Default::default());
        }
        let dbname = declared.dbname.as_str();
        let pair = oriented(pair, direction);
        let (open, receiving) = pair.visit(dbname)?;
        let Some(stuck) = ddl::stuck_where_carried(&open, &receiving)? else {
            let stream = Stream::of(dbname, subname, &declared.pubname, direction);
            if subscriptions::find(&receiving, &stream.subname)?.is_some() {
                log::warn!(
                    "statements of {dbname:?} are not carried yet, as ddl: carry asks: flare create_subscription {} has them carried",
                    ShellWord(subname)
                );
            }
            return Ok(Default::default());
        };
        // What only has not come yet may wait for a TRUNCATE that cannot be. What was passed over keeps no table waiting.
        let stops = stuck.iter().any(|it| it.stops);
        let on_the_way = stuck.iter().all(|it| !it.stops || it.error.is_none());
        if new_tables == NewTables::Taken {
            self.sweep(&pair, (&open, &receiving), direction, subname, declared);
        }
        let mut taken = Vec::new();
        if on_the_way && new_tables == NewTables::Taken {
            let way = if stops { Way::Cleared } else { Way::Whole };
            taken = self.follow(
                &pair,
                (&open, &receiving),
                direction,
                subname,
                declared,
                way,
            )?;
        }
        Ok((stuck, taken))
    }

    /// Takes away what copies of tables that were dropped meanwhile have left over. Nothing waits for it.
    fn sweep(
        &self,
        pair: &Pair,
        (open, receiving): (&Session, &Session),
        direction: Direction,
        subname: &str,
        declared: &Subscription,
    ) {
        let stream = Stream::of(&declared.dbname, subname, &declared.pubname, direction);
        if self.run.mode == Mode::Apply
            && let Err(report) = ddl::sweep(
                open,
                receiving,
                &stream.subname,
                pair.subscriber.identifier(),
            )
        {
            log::warn!("{report:#}");
        }
    }

    /// Has the subscription take tables that carried statements have made; `pair` has the open side as its publisher, and
    /// the sessions are in the database of both sides.
    fn follow(
        &self,
        pair: &Pair,
        (open, receiving): (&Session, &Session),
        direction: Direction,
        subname: &str,
        declared: &Subscription,
        way: Way,
    ) -> Result<Vec<TableName>> {
        let stream = Stream::of(&declared.dbname, subname, &declared.pubname, direction);
        let there = subscriptions::find(receiving, &stream.subname)?;
        if self.run.mode == Mode::DryRun || !there.is_some_and(|it| it.subenabled) {
            return Ok(Vec::new());
        }
        let published = publications::tables(open, &stream.pubname)?;
        let relations = subscriptions::relations(receiving, &stream.subname)?;
        if refresh::missing(&published, &relations).is_empty()
            && !ddl::leaves_unvalidated(receiving)?
        {
            return Ok(Vec::new());
        }
        let sides = Sides::enter(pair, &self.config, stream, direction)?;
        if way == Way::Cleared {
            ddl::clear_the_way(&sides, &self.run)?;
            return Ok(Vec::new());
        }
        let taken = ddl::follow(&sides, &self.run)?;
        for table in &taken {
            self.run
                .progress
                .step(&format!("{} replicates from now on", table.plain()));
        }
        Ok(taken)
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
            // Those of an older flare are as good as they were.
            let configured = (wanted.subname.as_str(), declared);
            if let Err(report) = ddl::renew(pair, configured, direction, self.config.ddl, &self.run)
            {
                log::warn!("{report:#}");
            }
            let (open, receiving) = pair.visit(&wanted.dbname)?;
            let sessions: (&Session, &Session) = (&open, &receiving);
            self.sweep(pair, sessions, direction, &wanted.subname, declared);
            self.follow(
                pair,
                sessions,
                direction,
                &wanted.subname,
                declared,
                Way::Whole,
            )?;
            let stream = Stream::of(&wanted.dbname, &wanted.subname, &wanted.pubname, direction);
            let sides = Sides::enter(pair, &self.config, stream, direction)?;
            sides.copied()?;
            if !sides.validate()? {
                drop(sides);
                self.refuse_unsettled(pair, &wanted.dbname)?;
            }
        }
        Ok(())
    }

    /// Carried statements that have not come, as [`ddl::on_the_way`] has them; `pair` has the open side as its publisher.
    pub(super) fn on_the_way(&self, pair: &Pair, dbname: &str) -> Result<Vec<String>> {
        if self.config.ddl != DdlMode::Carry {
            return Ok(Vec::new());
        }
        let (open, receiving) = pair.visit(dbname)?;
        ddl::on_the_way(&open, &receiving)
    }

    /// Refuses a switch while a statement may be on one side only.
    pub(super) fn refuse_unsettled(&self, pair: &Pair, dbname: &str) -> Result<()> {
        let unsettled = ddl::unsettled(pair, &self.config, dbname)?;
        on_both_sides(&unsettled, dbname).wrap_err_with(|| format!("{} {dbname:?}", self.command))
    }

    /// Fails where a statement of `flare ddl` may be on one side only; what is carried is looked at elsewhere.
    pub(super) fn refuse_half_done(&self, pair: &Pair, dbname: &str) -> Result<()> {
        on_both_sides(&ddl::half_done(pair, &self.config, dbname)?, dbname)
    }
}

fn on_both_sides(unsettled: &[String], dbname: &str) -> Result<()> {
    let Some(first) = unsettled.first() else {
        return Ok(());
    };
    Failure::new(format!("a statement may be on one side only: {first}"))
        .hint(format!(
            "flare ddl {} --retry finishes it, or says what is in its way",
            ShellWord(dbname)
        ))
        .err()
}
