//! Statements that change the schema, brought to both sides.

use super::Flare;
use super::direction::oriented;
use crate::ddl::{self, DdlReport, Script, Sides};
use crate::error::{Error, Failure, Result};
use crate::journal::Stream;
use crate::server::Pair;
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
    pub fn ddl_retry(&self, dbname: &str) -> Result<DdlReport, Error> {
        Ok(self.at_both_sides(dbname, |sides| ddl::retry(sides, &self.run))?)
    }

    fn at_both_sides(
        &self,
        dbname: &str,
        work: impl FnOnce(&Sides<'_>) -> Result<DdlReport>,
    ) -> Result<DdlReport> {
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
