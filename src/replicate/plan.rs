//! Statements that are decided before any of them runs: the dry run shows them, the real run is one transaction.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::error::Result;
use crate::progress::{Progress, Silent};
use crate::server::{Ddl, Session, Side, Statement};

/// Whether a plan is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Apply,
    /// Only shown.
    DryRun,
}

/// What every change of a run shares.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) mode: Mode,
    pub(crate) ddl: Ddl,
    pub(crate) progress: Arc<dyn Progress>,
    /// The program that guards a pause; none: this one.
    pub(crate) guard_program: Option<PathBuf>,
}

impl Run {
    /// One that nobody looks at.
    pub(crate) fn quiet() -> Run {
        Run {
            mode: Mode::Apply,
            ddl: Ddl::default(),
            progress: Arc::new(Silent),
            guard_program: None,
        }
    }
}

/// Statements for one database of one server.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    side: Side,
    dbname: String,
    statements: Vec<Statement>,
    notes: Vec<String>,
}

/// A statement as it was run, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Done {
    /// On which server.
    pub side: Side,
    /// In which database.
    pub dbname: String,
    /// What it is for.
    pub what: String,
    /// The statement, without secrets.
    pub sql: String,
}

/// What a command changed, or in a dry run would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// The statements, in order.
    pub statements: Vec<Done>,
    /// What else there is to know: what was as wanted already, what was left alone, what to do by hand.
    pub notes: Vec<String>,
}

impl Plan {
    pub(crate) fn new(side: Side, dbname: &str) -> Self {
        Plan {
            side,
            dbname: dbname.to_owned(),
            statements: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a statement: what it is for, and its SQL.
    pub(crate) fn step(&mut self, what: impl Into<String>, sql: impl Into<String>) {
        self.statements.push(Statement::new(what, sql));
    }

    /// Adds a statement that carries a secret.
    pub(crate) fn push(&mut self, statement: Statement) {
        self.statements.push(statement);
    }

    /// Adds something to know.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// The same plan with other statements before and after its own.
    pub(crate) fn between(mut self, before: Vec<Statement>, after: Vec<Statement>) -> Plan {
        self.statements.splice(0..0, before);
        self.statements.extend(after);
        self
    }

    /// The statements, in order.
    pub(crate) fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Runs the statements as one transaction, or in a dry run only shows them.
    pub(crate) fn carry_out(self, session: &Session, run: &Run) -> Result<Change> {
        self.carry_out_by(run, |statements| run.ddl.run(session, statements))
    }

    /// Runs the statements one by one, each a transaction of its own: for those that PostgreSQL allows in none.
    pub(crate) fn carry_out_singly(self, session: &Session, run: &Run) -> Result<Change> {
        self.carry_out_by(run, |statements| {
            statements
                .iter()
                .try_for_each(|statement| statement.run(session))
        })
    }

    /// Lets `act` run the statements, where they are more than one transaction of one session.
    pub(crate) fn carry_out_by(
        self,
        run: &Run,
        act: impl FnOnce(&[Statement]) -> Result<()>,
    ) -> Result<Change> {
        let apply = run.mode == Mode::Apply && !self.statements.is_empty();
        if apply {
            act(&self.statements)?;
        }
        Ok(self.into_change(run.mode, apply))
    }

    pub(crate) fn into_change(self, mode: Mode, changed: bool) -> Change {
        let Plan {
            side,
            dbname,
            statements,
            notes,
        } = self;
        let done = |statement: Statement| Done {
            side,
            dbname: dbname.clone(),
            what: statement.what,
            sql: statement.shown,
        };
        Change {
            changed,
            dry_run: mode == Mode::DryRun,
            statements: statements.into_iter().map(done).collect(),
            notes,
        }
    }
}

impl Change {
    /// Nothing was to be changed.
    pub(crate) fn none(run: &Run) -> Change {
        Change {
            dry_run: run.mode == Mode::DryRun,
            ..Change::default()
        }
    }

    /// Both changes, one after the other.
    pub(crate) fn and(mut self, other: Change) -> Change {
        self.changed |= other.changed;
        self.dry_run |= other.dry_run;
        self.statements.extend(other.statements);
        self.notes.extend(other.notes);
        self
    }

    /// Something else to know.
    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Change {
        self.notes.push(note.into());
        self
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, nothing) = if self.dry_run {
            ("would", "nothing to change")
        } else {
            ("done:", "nothing to change: everything is as wanted")
        };
        for Done {
            side,
            dbname,
            what,
            sql,
        } in &self.statements
        {
            writeln!(f, "{verb} {what} (on the {side}, database {dbname:?})")?;
            if self.dry_run {
                writeln!(f, "    {sql};")?;
            }
        }
        if self.statements.is_empty() {
            writeln!(f, "{nothing}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
