//! Where the migrations of several configurations stand: one line each.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Flare;
use super::migration_status::MigrationStatus;
use crate::cutover::Writable;
use crate::error::{Result, message_of};
use crate::observe::seconds_in_words;
use crate::value::Size;

/// So many configurations are asked at once.
const AT_ONCE: usize = 8;

/// The migrations of several configurations.
#[derive(Clone, Debug, Serialize)]
pub struct Fleet {
    /// Each subscription of each file, in the order of the files.
    pub migrations: Vec<Migration>,
}

/// One subscription, or a file that could not be asked.
#[derive(Clone, Debug, Serialize)]
pub struct Migration {
    /// The configuration.
    pub file: PathBuf,
    /// Where it stands.
    #[serde(flatten)]
    pub standing: Option<MigrationStatus>,
    /// Why that is not known.
    pub error: Option<String>,
}

impl Fleet {
    /// Asks all of them, several at once. Changes nothing: what was left half-way stays as it is.
    pub(crate) fn ask(flares: Vec<(PathBuf, Result<Flare>)>) -> Fleet {
        let mut migrations = Vec::new();
        for some in flares.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let asked: Vec<_> = some
                    .iter()
                    .map(|(file, flare)| scope.spawn(move || of(file, flare)))
                    .collect();
                for ((file, _), thread) in some.iter().zip(asked) {
                    let ended = || vec![failed(file, "its thread has ended".into())];
                    migrations.extend(thread.join().unwrap_or_else(|_| ended()));
                }
            });
        }
        Fleet { migrations }
    }

    /// How many could not be asked.
    pub fn failed(&self) -> usize {
        self.migrations
            .iter()
            .filter(|it| it.error.is_some())
            .count()
    }
}

fn of(file: &Path, flare: &Result<Flare>) -> Vec<Migration> {
    let standings = match flare {
        Ok(flare) => flare.standings(),
        Err(report) => return vec![failed(file, message_of(report))],
    };
    match standings {
        Ok(standings) => standings
            .into_iter()
            .map(|standing| Migration {
                file: file.to_owned(),
                standing: Some(standing),
                error: None,
            })
            .collect(),
        Err(report) => vec![failed(file, message_of(&report))],
    }
}

fn failed(file: &Path, why: String) -> Migration {
    Migration {
        file: file.to_owned(),
        standing: None,
        error: Some(why),
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<Vec<String>> = self.migrations.iter().map(row).collect();
        // What stands last in its row, such as an error, widens no column.
        let widths: Vec<usize> = (0..4)
            .map(|at| {
                let cells = rows.iter().filter(|row| at + 1 < row.len());
                let cells = cells.map(|row| row[at].chars().count());
                cells.max().unwrap_or(0)
            })
            .collect();
        for row in &rows {
            let (last, cells) = row.split_last().unwrap_or((const { &String::new() }, &[]));
            for (cell, width) in cells.iter().zip(&widths) {
                write!(f, "{cell:width$}  ")?;
            }
            writeln!(f, "{last}")?;
        }
        Ok(())
    }
}

fn row(migration: &Migration) -> Vec<String> {
    let file = migration.file.display().to_string();
    let Some(standing) = &migration.standing else {
        let why = migration.error.as_deref().unwrap_or_default();
        let words: Vec<&str> = why.split_whitespace().collect();
        return vec![file, format!("UNKNOWN: {}", words.join(" "))];
    };
    let writable = match standing.writable {
        Some(Writable::Publisher) => "writes on the publisher",
        Some(Writable::Subscriber) => "writes on the subscriber",
        Some(Writable::None) => "nobody can write",
        None => "who can write is unknown",
    };
    let lag = match (standing.lag_bytes, standing.lag_seconds) {
        (Some(bytes), Some(_)) => format!(
            "lag {}, {}",
            Size(bytes).rounded(),
            seconds_in_words(standing.lag_seconds, standing.lag_seconds_at_most)
        ),
        (Some(bytes), None) => format!("lag {}", Size(bytes).rounded()),
        (None, _) => "lag unknown".to_owned(),
    };
    vec![
        file,
        format!("{} {}", standing.dbname, standing.subname),
        writable.to_owned(),
        lag,
        standing.in_words().to_owned(),
    ]
}
