//! What `replicate_schema` says it did.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Work;
use crate::replicate::{Change, Done, Mode, Run};
use crate::schema::DumpReport;
use crate::value::counted;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SchemaOutcome {
    /// The database was created and filled.
    Created,
    /// The database was there, without objects, and was filled.
    Loaded,
    /// The database holds this schema already.
    Already,
}

/// How many statements of the dump were treated in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Treated {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// What `replicate_schema` did, or in a dry run would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SchemaChange {
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// The database.
    pub dbname: String,
    /// How it ended, or would end.
    pub outcome: SchemaOutcome,
    /// Statements of the dump.
    pub statements: u64,
    /// Statements that were left out.
    pub removed: Vec<Treated>,
    /// Statements that were written differently for the subscriber's version.
    pub rewritten: Vec<Treated>,
    /// What was done to the database itself.
    pub database: Vec<Done>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl fmt::Display for SchemaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            dbname, statements, ..
        } = self;
        let would = if self.dry_run { "would be " } else { "" };
        match self.outcome {
            SchemaOutcome::Created => writeln!(
                f,
                "database {dbname:?} {would}created and its schema {would}loaded ({})",
                counted(statements, "statement")
            )?,
            SchemaOutcome::Loaded => writeln!(
                f,
                "schema of database {dbname:?} {would}loaded ({})",
                counted(statements, "statement")
            )?,
            SchemaOutcome::Already => {
                writeln!(f, "database {dbname:?} holds the same schema already")?;
            }
        }
        for Done { what, .. } in &self.database {
            if self.dry_run {
                writeln!(f, "would {what}")?
            } else {
                writeln!(f, "done: {what}")?
            }
        }
        for (done, list) in [("left out", &self.removed), ("rewritten", &self.rewritten)] {
            for Treated { reason, count } in list {
                writeln!(f, "{done}: {count} ({reason})")?;
            }
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

impl SchemaChange {
    pub(super) fn new(
        work: &Work,
        outcome: SchemaOutcome,
        report: &DumpReport,
        run: &Run,
    ) -> SchemaChange {
        SchemaChange {
            changed: false,
            dry_run: run.mode == Mode::DryRun,
            dbname: work.dbname.to_owned(),
            outcome,
            statements: report.statements,
            removed: treated(&report.removed),
            rewritten: treated(&report.rewritten),
            database: Vec::new(),
            notes: work.notes.clone(),
        }
    }

    /// Adds what was done to the database beside its schema.
    pub(super) fn follow(&mut self, equalised: Change) {
        self.changed |= equalised.changed;
        self.database.extend(equalised.statements);
        self.notes.extend(equalised.notes);
    }
}

fn treated(counts: &BTreeMap<String, u64>) -> Vec<Treated> {
    let treated = |(reason, count): (&String, &u64)| Treated {
        reason: reason.clone(),
        count: *count,
    };
    counts.iter().map(treated).collect()
}
