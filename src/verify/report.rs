//! What a verification of rows has come to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::findings::{ColumnDifference, Kind, RowDifference, Shown};
use super::table::Incomparable;
use crate::error::{Error, Failure};
use crate::journal::Direction;
use crate::server::Side;
use crate::value::{Size, TableName, counted};

/// How a table was gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Walk {
    /// Ranges of the key.
    Ranges,
    /// One pass in buckets of the key's hash: its values are random.
    Buckets,
    /// Key by key: the two sides order it differently.
    Lookup,
    /// By the rows' hashes: there is no key.
    Rows,
}

/// What is known of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableStatus {
    /// Every row that was compared is equal.
    Equal,
    /// Rows differ.
    Different,
    /// None is known to differ, some could not be decided.
    Undecided,
    /// It could not be compared.
    Failed,
    /// It was left out, for a reason that comparing does not change: not all of its rows are replicated, or the copy of it
    /// is still to come.
    Unverified,
}

impl TableStatus {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            TableStatus::Equal => "equal",
            TableStatus::Different => "different",
            TableStatus::Undecided => "undecided",
            TableStatus::Failed => "failed",
            TableStatus::Unverified => "unverified",
        }
    }
}

/// One table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifiedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// What is known of it.
    pub status: TableStatus,
    /// Rows that were compared, as the side that is written has them.
    pub rows: i64,
    /// What it takes on the disk of the side that is written, without indexes; in a sample, what was compared of that.
    pub bytes: i64,
    /// How it was gone through; none: not at all.
    pub walk: Option<Walk>,
    /// Rows that differ.
    pub differences: u64,
    /// Rows that are neither known to be equal nor to differ.
    pub undecided: u64,
    /// Some of them.
    pub examples: Vec<RowDifference>,
    /// What is not compared, and why.
    pub notes: Vec<String>,
    /// Why it could not be compared.
    pub error: Option<String>,
    /// What to do about that.
    #[serde(skip)]
    pub(super) hint: String,
}

impl VerifiedTable {
    fn name(&self) -> TableName {
        TableName::new(&self.schema, &self.table)
    }

    /// One that is left out.
    pub(super) fn left_out(name: &TableName, why: &Incomparable) -> VerifiedTable {
        VerifiedTable {
            schema: name.schema.as_str().to_owned(),
            table: name.table.as_str().to_owned(),
            status: TableStatus::Unverified,
            rows: 0,
            bytes: 0,
            walk: None,
            differences: 0,
            undecided: 0,
            examples: Vec::new(),
            notes: Vec::new(),
            error: Some(why.words.clone()),
            hint: why.hint.clone(),
        }
    }
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataVerification {
    /// The subscription that carries the rows.
    pub subname: String,
    /// The database.
    pub dbname: String,
    /// Which way the rows flow.
    pub direction: Direction,
    /// Whether every row of every published table is equal.
    pub equal: bool,
    /// The tables, largest first.
    pub tables: Vec<VerifiedTable>,
    /// Rows that were compared.
    pub rows_compared: i64,
    /// What the tables take on the disk of the side that is written, as far as they were compared.
    pub bytes_compared: i64,
    /// Rows that differ.
    pub differences: u64,
    /// Rows that are undecided.
    pub undecided: u64,
    /// The part of each table that was compared, in percent; none: all of it.
    pub sample_percent: Option<f64>,
    /// Whether it went on where an earlier run was cut off.
    pub resumed: bool,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// When it ended, by this machine's clock.
    pub finished_at: String,
    /// How long it took.
    pub seconds: f64,
    /// How much of that nothing was compared, so that writers keep their rate.
    pub paused_seconds: f64,
}

impl DataVerification {
    /// Why the answer is no, if it is.
    pub fn verdict(&self) -> Option<Error> {
        self.failure().map(Error::from)
    }

    fn of_status(&self, status: TableStatus) -> impl Iterator<Item = &VerifiedTable> {
        self.tables.iter().filter(move |it| it.status == status)
    }

    fn failure(&self) -> Option<Failure> {
        let failed: Vec<&VerifiedTable> = self.of_status(TableStatus::Failed).collect();
        if let Some(first) = failed.first() {
            let message = format!(
                "compare {} of {}: {}",
                failed.len(),
                counted(self.tables.len(), "table"),
                first.error.as_deref().unwrap_or_default()
            );
            return Some(Failure::new(message).hint("mend what the server says, and run flare verify_data again; --table names single tables"));
        }
        let unverified: Vec<&VerifiedTable> = self.of_status(TableStatus::Unverified).collect();
        if let (0, Some(first)) = (self.differences, unverified.first()) {
            let message = format!(
                "{} of {} could not be compared: {}: {}",
                unverified.len(),
                counted(self.tables.len(), "table"),
                first.name().plain(),
                first.error.as_deref().unwrap_or_default()
            );
            return Some(Failure::no(message).hint(&first.hint));
        }
        let (_, to) = self.direction.sides();
        match (self.differences, self.undecided) {
            (0, 0) => None,
            (0, undecided) => Some(
                Failure::no(format!("{} could not be decided", rows(undecided)))
                    .hint("run flare verify_data again when the transaction that is named has ended, or when those rows change less"),
            ),
            (differences, _) => Some(
                Failure::no(format!("{} on the two sides", rows_differ(differences)))
                    .hint(format!(
                        "find out what wrote on the {to}, or what its apply has skipped; mend those rows there{}",
                        match self.direction {
                            Direction::Forward => ", or drop the subscription and copy again",
                            Direction::Back => "",
                        }
                    )),
            ),
        }
    }
}

fn rows(count: u64) -> String {
    counted(count, "row")
}

fn rows_differ(count: u64) -> String {
    match count {
        1 => "1 row differs".into(),
        count => format!("{count} rows differ"),
    }
}

impl fmt::Display for DataVerification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            table.write(f, self.direction.sides())?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.paused_seconds >= 1.0 {
            writeln!(
                f,
                "note: paused {:.0} s of that for the application's writes; --jobs N goes on without",
                self.paused_seconds
            )?;
        }
        let part = match self.sample_percent {
            Some(percent) => format!("a sample of {percent} % of "),
            None => String::new(),
        };
        writeln!(
            f,
            "{:?}: {part}{}, {}, {} compared in {:.1} s: {}",
            self.dbname,
            counted(self.tables.len(), "table"),
            counted(self.rows_compared, "row"),
            Size(self.bytes_compared.max(0) as u64),
            self.seconds,
            match (self.differences, self.undecided) {
                (0, 0) if self.tables.iter().all(|it| it.status == TableStatus::Equal) =>
                    "all equal".to_owned(),
                (0, 0) => "not all could be compared".to_owned(),
                (0, undecided) => format!("{} undecided", rows(undecided)),
                (differences, 0) => rows_differ(differences),
                (differences, undecided) => format!(
                    "{}, {} undecided",
                    rows_differ(differences),
                    rows(undecided)
                ),
            }
        )
    }
}

impl VerifiedTable {
    /// For a person; `sides` are the one that is written and the one that follows.
    fn write(&self, f: &mut fmt::Formatter<'_>, sides: (Side, Side)) -> fmt::Result {
        let name = self.name().plain();
        match self.status {
            TableStatus::Equal => writeln!(f, "{name}: {} equal", counted(self.rows, "row"))?,
            TableStatus::Failed | TableStatus::Unverified => writeln!(
                f,
                "{name}: NOT COMPARED: {}",
                self.error.as_deref().unwrap_or_default()
            )?,
            TableStatus::Different | TableStatus::Undecided => {
                write!(f, "{name}: ")?;
                match (self.differences, self.undecided) {
                    (0, undecided) => write!(f, "{} UNDECIDED", rows(undecided))?,
                    (differences, 0) => write!(f, "{}", rows_differ(differences).to_uppercase())?,
                    (differences, undecided) => write!(
                        f,
                        "{}, {} UNDECIDED",
                        rows_differ(differences).to_uppercase(),
                        rows(undecided)
                    )?,
                }
                writeln!(f, " of {}", self.rows)?;
            }
        }
        for example in &self.examples {
            f.write_str("    ")?;
            example.write(f, sides)?;
            writeln!(f)?;
        }
        let named = self.examples.len() as u64;
        if self.differences + self.undecided > named {
            writeln!(
                f,
                "    and {} more",
                self.differences + self.undecided - named
            )?;
        }
        for note in &self.notes {
            writeln!(f, "    note: {note}")?;
        }
        Ok(())
    }
}

impl RowDifference {
    fn write(&self, f: &mut fmt::Formatter<'_>, (from, to): (Side, Side)) -> fmt::Result {
        let key: Vec<String> = self
            .key
            .iter()
            .map(|it| format!("{}={}", it.column, it.value))
            .collect();
        write!(f, "{}", key.join(", "))?;
        if !key.is_empty() {
            f.write_str(": ")?;
        }
        match self.kind {
            Kind::Different => f.write_str("differs")?,
            Kind::Missing => write!(f, "missing on the {to}")?,
            Kind::Extra => write!(f, "only on the {to}")?,
            Kind::Undecided => write!(
                f,
                "undecided: {}",
                self.reason.as_deref().unwrap_or_default()
            )?,
        }
        if let Some((ours, theirs)) = self.occurrences {
            write!(f, " ({ours} times on the {from}, {theirs} on the {to})")?;
        }
        for column in &self.columns {
            f.write_str("; ")?;
            column.write(f, (from, to))?;
        }
        Ok(())
    }
}

impl ColumnDifference {
    fn write(&self, f: &mut fmt::Formatter<'_>, (from, to): (Side, Side)) -> fmt::Result {
        write!(f, "{}", self.column)?;
        for (side, value) in [(from, &self.publisher), (to, &self.subscriber)] {
            match value {
                Shown::Value(text) => write!(f, " {side} {text:?}")?,
                Shown::Null(()) => write!(f, " {side} NULL")?,
                Shown::Hidden => {}
            }
        }
        Ok(())
    }
}
