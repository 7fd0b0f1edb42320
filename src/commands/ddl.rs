//! `ddl`: statements that change the schema, on both sides.

use std::path::PathBuf;

use crate::error::{Advise, Failure, Result, WrapErr};
use crate::flare::{Decision, Flare, Script};
use crate::report::Outcome;

/// Run a statement that changes the schema on both sides, while the application writes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: what the statement says, on both servers. It runs in a transaction on the side that the application writes on; \
when everything written before has arrived, it runs on the other side, and both commit. A statement that fails on either \
side is on neither. Rows that a file changes (INSERT, UPDATE, DELETE) are changed on the side that is written alone, and \
replication carries them. New tables are published, readable for the replication user, and taken by the subscription. \
Each statement is on record in flare.statement of the database postgres until flare cleanup: a file goes on where it \
stopped, and what was interrupted between the two commits is finished by the next flare ddl.

Example:
  flare ddl bench 'ALTER TABLE orders ADD COLUMN note text'
  flare ddl bench --file db/migrate/20261126_notes.sql --dry-run
  flare ddl bench --retry
  flare ddl bench --replace 12 'ALTER TABLE orders ADD COLUMN note text'")]
pub(crate) struct Ddl {
    /// The database, a key of `publications`; or a subscription
    #[arg(value_name = "DB")]
    dbname: String,
    /// One statement
    #[arg(required_unless_present_any = ["file", "retry", "skip"], conflicts_with_all = ["file", "retry", "skip"])]
    statement: Option<String>,
    /// A file of statements, each a transaction of its own; known by its name, it goes on where it stopped
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Finish what an earlier run has left on one side, and try carried statements again that failed
    #[arg(long, conflicts_with = "file")]
    retry: bool,
    /// Leave a carried statement out on the receiving side
    #[arg(long, value_name = "ID", conflicts_with_all = ["file", "retry"])]
    skip: Option<i64>,
    /// Run STATEMENT there instead of a carried one
    #[arg(long, value_name = "ID", requires = "statement", conflicts_with_all = ["file", "retry", "skip"])]
    replace: Option<i64>,
    /// Run as this role; by default db_owner
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Say how each statement would be run, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Ddl {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let flare = flare.dry_run_if(self.dry_run);
        if self.retry {
            let report = flare.ddl_retry(&self.dbname)?;
            return Ok(Outcome::of(&report)?.changed(report.changed()));
        }
        if let Some((id, decision)) = self.decision() {
            let report = flare.ddl_decide(&self.dbname, id, &decision)?;
            return Ok(Outcome::of(&report)?.changed(report.changed()));
        }
        let script = self.script()?;
        let report = flare.ddl(&self.dbname, &script, self.role.as_deref())?;
        Ok(Outcome::of(&report)?.changed(report.changed()))
    }

    fn decision(&self) -> Option<(i64, Decision)> {
        let replaced = self.replace.zip(self.statement.clone());
        let replaced = replaced.map(|(id, text)| (id, Decision::Replace(text)));
        replaced.or(self.skip.map(|id| (id, Decision::Skip)))
    }

    fn script(&self) -> Result<Script> {
        let Some(path) = &self.file else {
            return Script::statement(self.statement.as_deref().unwrap_or_default());
        };
        let text = std::fs::read_to_string(path)
            .wrap_err_with(|| format!("read {}", path.display()))
            .hint(|| "--file names a file of SQL in UTF-8".into())?;
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name else {
            return Failure::usage(format!("read {}: it has no name", path.display())).err();
        };
        Script::file(name, &text)
    }
}
