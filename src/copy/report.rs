//! What a copy says it did.

use std::fmt;

use serde::Serialize;

use crate::value::{Lsn, Size, counted};

/// Seconds of each phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CopySeconds {
    /// Slot, snapshot and tables.
    pub tables: f64,
    /// Rows.
    pub rows: f64,
    /// Indexes, constraints, statistics, triggers, materialized views.
    pub rest: f64,
    /// Sequences and the subscription.
    pub subscription: f64,
}

/// What `initial_copy` did, or in a dry run would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InitialCopy {
    /// The subscription.
    pub subname: String,
    /// Its database.
    pub dbname: String,
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Whether an interrupted copy was continued.
    pub resumed: bool,
    /// The subscription's slot.
    pub slot_name: String,
    /// Where it begins: what committed before was copied, what came after it is streamed.
    pub slot_lsn: Option<Lsn>,
    /// Tables copied.
    pub tables: i64,
    /// Rows copied.
    pub rows: i64,
    /// Bytes copied, as they travelled; in a dry run, what the tables hold on the publisher.
    pub bytes: i64,
    /// Tables and ranges of tables, each of which was one transaction or part of one.
    pub jobs: i64,
    /// Those of them that this run found finished.
    pub jobs_kept: i64,
    /// Seconds of each phase, of this run.
    pub seconds: CopySeconds,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl fmt::Display for InitialCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InitialCopy {
            subname,
            dbname,
            tables,
            rows,
            bytes,
            jobs,
            jobs_kept,
            seconds,
            ..
        } = self;
        let size = Size(bytes.unsigned_abs());
        match (self.dry_run, self.changed) {
            (true, _) => writeln!(
                f,
                "would copy {} of database {dbname:?} ({size}) in {}, {jobs_kept} of them finished, and begin subscription {subname:?}",
                counted(tables, "table"),
                counted(jobs, "part")
            )?,
            (false, false) => {
                writeln!(
                    f,
                    "subscription {subname:?} is there already, nothing was copied"
                )?;
            }
            (false, true) => {
                writeln!(
                    f,
                    "copied {} of database {dbname:?}: {}, {size}; subscription {subname:?} goes on from {}",
                    counted(tables, "table"),
                    counted(rows, "row"),
                    self.slot_lsn
                        .map_or("there".to_owned(), |lsn| lsn.to_string())
                )?;
                if self.resumed {
                    writeln!(
                        f,
                        "an interrupted copy was continued: {jobs_kept} of {} finished before",
                        counted(jobs, "part")
                    )?;
                }
                writeln!(
                    f,
                    "seconds: tables {:.1}, rows {:.1}, indexes and the rest {:.1}, subscription {:.1}",
                    seconds.tables, seconds.rows, seconds.rest, seconds.subscription
                )?;
            }
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
