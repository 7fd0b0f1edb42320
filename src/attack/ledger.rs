//! The ledger: one JSON line for every operation that a server acknowledged, or may have carried out.
//!
//! Lines reach the operating system before the operation counts, so that a killed generator has written what it counted.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::history;
use super::underway::{self, Underway};
use crate::error::{Advise, Result, WrapErr};

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Op {
    Insert,
    Update,
    Delete,
    /// The row was there before the generator began.
    Existing,
    /// The row is the heartbeat's: its value moves on, and is not recorded each time.
    Heartbeat,
}

/// The generator's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Table {
    Items,
    Sessions,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Items => "items",
            Table::Sessions => "sessions",
        }
    }

    /// The column that `name` in the ledger stands for.
    pub(super) fn column(self) -> &'static str {
        match self {
            Table::Items => "name",
            Table::Sessions => "last_keepalive_at",
        }
    }

    /// The same column as text that does not depend on the session's settings.
    pub(super) fn as_text(self) -> &'static str {
        match self {
            Table::Items => "name",
            Table::Sessions => {
                r#"to_char(last_keepalive_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#
            }
        }
    }
}

/// What is known of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// The server said that it is committed.
    Acknowledged,
    /// The connection was lost, or the generator ended, before the server said anything.
    Unknown,
    /// The row is there; nothing was done to it.
    Existing,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) op: Op,
    pub(super) table: Table,
    pub(super) id: String,
    /// The row's value afterwards; none where it was deleted.
    #[serde(default)]
    pub(super) name: Option<String>,
    pub(super) client: usize,
    pub(super) seq: u64,
    pub(super) outcome: Outcome,
}

#[cfg(test)]
impl Entry {
    /// The first operation of the first client, on `items`.
    pub(super) fn item(op: Op, id: &str, name: Option<&str>, outcome: Outcome) -> Entry {
        Entry {
            op,
            table: Table::Items,
            id: id.to_owned(),
            name: name.map(str::to_owned),
            client: 0,
            seq: 1,
            outcome,
        }
    }
}

/// The open file; all clients write to it, each transaction's lines at once.
#[derive(Debug)]
pub(super) struct Ledger {
    file: Mutex<File>,
    path: PathBuf,
    /// None beside what is no file, like a pipe.
    underway: OnceLock<Underway>,
}

impl Ledger {
    /// Opens it at its end: what is there stays, as the beginning of the same history.
    pub(super) fn open(path: &Path) -> Result<Ledger> {
        let attempt = || format!("open the ledger {}", path.display());
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .read(true)
            .open(path)
            .wrap_err_with(attempt)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .wrap_err_with(attempt)
            .hint(|| {
                "when another attack writes to it, give this one a ledger of its own".into()
            })?;
        end_last_line(&mut file).wrap_err_with(attempt)?;
        let ledger = Ledger {
            file: Mutex::new(file),
            path: path.to_owned(),
            underway: OnceLock::new(),
        };
        let unheard = history::unheard_of(path)?;
        ledger.append(&with_outcome(unheard, Outcome::Unknown))?;
        underway::forget(path)?;
        Ok(ledger)
    }

    /// From now on what these clients send is noted first.
    pub(super) fn begins_with(&self, clients: usize) -> Result<()> {
        if self.path.is_file() {
            let underway = Underway::create(&self.path, clients)?;
            self.underway.get_or_init(|| underway);
        }
        Ok(())
    }

    /// A client is about to send these: known from now on, even when the generator is killed.
    pub(super) fn begins(&self, entries: &[Entry]) -> Result<()> {
        let underway = self.underway.get();
        underway.map_or(Ok(()), |underway| underway.begins(entries))
    }

    /// What came of everything that was sent is in it.
    pub(super) fn is_complete(&self) -> Result<()> {
        match self.underway.get() {
            Some(_) => underway::forget(&self.path),
            None => Ok(()),
        }
    }

    /// Appends entries, in one piece.
    pub(super) fn append(&self, entries: &[Entry]) -> Result<()> {
        let mut lines = Vec::with_capacity(entries.len() * 200);
        for entry in entries {
            serde_json::to_writer(&mut lines, entry).wrap_err("write a line of the ledger")?;
            lines.push(b'\n');
        }
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        file.write_all(&lines).wrap_err("write to the ledger")
    }
}

/// A generator that was killed may have left half a line.
fn end_last_line(file: &mut File) -> std::io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    match &last {
        b"\n" => Ok(()),
        _ => file.write_all(b"\n"),
    }
}

/// The entries with what became known of them.
pub(super) fn with_outcome(mut entries: Vec<Entry>, outcome: Outcome) -> Vec<Entry> {
    for entry in &mut entries {
        entry.outcome = outcome;
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry {
            seq,
            ..Entry::item(Op::Insert, "a", Some("b"), Outcome::Acknowledged)
        }
    }

    #[test]
    fn lines_are_appended_after_what_is_there_even_after_half_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let ledger = Ledger::open(&path).unwrap();
        ledger.append(&[entry(1)]).unwrap();
        assert!(Ledger::open(&path).is_err(), "two write to it");
        drop(ledger);
        let line = r#"{"op":"insert","table":"items","id":"a","name":"b","client":0,"seq":1,"outcome":"acknowledged"}"#;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{line}\n"));
        std::fs::write(&path, format!("{line}\n{{\"op\":")).unwrap();
        Ledger::open(&path).unwrap().append(&[entry(1)]).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{line}\n{{\"op\":\n{line}\n")
        );
    }
}
