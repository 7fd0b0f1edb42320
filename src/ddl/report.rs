//! What became of statements.

use std::fmt;

use serde::Serialize;

use super::script::shortened;
use crate::journal::Direction;
use crate::value::TableName;

/// What `flare ddl` did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DdlReport {
    /// The database.
    pub dbname: String,
    /// Which way the data flows: the open side runs statements first.
    pub direction: Direction,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Each statement, in order.
    pub statements: Vec<DdlStatement>,
    /// Tables that the subscription has taken: their rows are copied now.
    pub tables: Vec<TableName>,
    /// Whether a decision about a carried statement was carried out.
    #[serde(skip)]
    pub(super) decided: bool,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// One statement.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DdlStatement {
    /// On one line, without passwords.
    pub statement: String,
    /// What became of it.
    pub outcome: DdlOutcome,
    /// How long its locks were held on the open side, or how long it took where it holds none.
    pub ms: Option<f64>,
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DdlOutcome {
    /// Both sides have it now.
    Done,
    /// Both sides had it.
    Already,
    /// It changed rows on the open side, and replication carries them.
    Rows,
    /// A setting for the statements after it.
    Setting,
    /// What a dry run would run on both sides in transactions.
    Both,
    /// What a dry run would run on both sides outside of transactions.
    Outside,
}

impl DdlReport {
    /// Whether anything was run.
    pub fn changed(&self) -> bool {
        let ran = |it: &DdlStatement| matches!(it.outcome, DdlOutcome::Done | DdlOutcome::Rows);
        let changed = self.decided || !self.tables.is_empty() || self.statements.iter().any(ran);
        changed && !self.dry_run
    }
}

impl fmt::Display for DdlReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for it in &self.statements {
            let words = match (it.outcome, self.dry_run) {
                (DdlOutcome::Done, _) => "on both sides",
                (DdlOutcome::Already, _) => "already on both sides",
                (DdlOutcome::Rows, false) => "on the open side, replication carries it",
                (DdlOutcome::Rows, true) => "would run on the open side, replication carries it",
                (DdlOutcome::Setting, _) => "setting",
                (DdlOutcome::Both, _) => "would run on both sides",
                (DdlOutcome::Outside, _) => {
                    "would run on both sides, one after the other, outside of transactions"
                }
            };
            let statement = shortened(&it.statement);
            match it.ms {
                Some(ms) => writeln!(f, "{words} ({ms:.0} ms): {statement}")?,
                None => writeln!(f, "{words}: {statement}")?,
            }
        }
        for table in &self.tables {
            writeln!(f, "replicates from now on: {}", table.plain())?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
