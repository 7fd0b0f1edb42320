//! What is under way, beside the ledger: a generator that is killed cannot say any more what it had asked for.
//!
//! Each client has a place of its own in the file, where its newest transaction is before it is sent. What the ledger has
//! not heard the end of is of unknown outcome. A run that ends in peace takes the file away.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ledger::Entry;
use crate::error::{Failure, Result, WrapErr};

/// Room for a transaction. A kill -9 does not tear a write within a page.
const PLACE: usize = 1024;

/// The open file; no two clients write to the same place.
#[derive(Debug)]
pub(super) struct Underway {
    file: File,
}

/// The file beside a ledger.
fn path_of(ledger: &Path) -> PathBuf {
    let mut path = ledger.as_os_str().to_owned();
    path.push(".underway");
    path.into()
}

impl Underway {
    /// A place for each client, empty. The room on the disk is taken now, so that it does not run out later.
    pub(super) fn create(ledger: &Path, clients: usize) -> Result<Underway> {
        let path = path_of(ledger);
        let attempt = || format!("write {}, which holds what is under way", path.display());
        let mut file = File::create(&path).wrap_err_with(attempt)?;
        file.write_all(&vec![b'\n'; clients * PLACE])
            .wrap_err_with(attempt)?;
        Ok(Underway { file })
    }

    /// A client is about to send these.
    pub(super) fn begins(&self, entries: &[Entry]) -> Result<()> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let mut place = Vec::with_capacity(PLACE);
        for entry in entries {
            serde_json::to_writer(&mut place, entry).wrap_err("note what is under way")?;
            place.push(b'\n');
        }
        if place.len() > PLACE {
            return Failure::new("note what is under way: the transaction is too large").err();
        }
        place.resize(PLACE, b'\n');
        self.file
            .write_all_at(&place, (first.client * PLACE) as u64)
            .wrap_err("note what is under way")
    }
}

/// Nothing is under way any more.
pub(super) fn forget(ledger: &Path) -> Result<()> {
    let path = path_of(ledger);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.wrap_err_with(|| format!("remove {}", path.display())),
    }
}

/// The newest transaction of each client of a run that was killed; nothing after one that ended in peace.
pub(super) fn left_behind(ledger: &Path) -> Result<Vec<Entry>> {
    let path = path_of(ledger);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.wrap_err_with(|| format!("read {}", path.display()))?,
    };
    // What is not whole was never sent.
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::generator::{Generator, Mix};

    #[test]
    fn the_newest_transaction_of_each_client_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = directory.path().join("ledger");
        assert_eq!(left_behind(&ledger).unwrap(), []);
        let underway = Underway::create(&ledger, 3).unwrap();
        assert_eq!(left_behind(&ledger).unwrap(), []);
        let mut generators = [0, 2].map(|client| Generator::new(client, Mix::Everything));
        let mut newest = Vec::new();
        for _ in 0..50 {
            newest.clear();
            for generator in &mut generators {
                let entries = generator.next(uuid::Uuid::new_v4());
                underway.begins(&entries).unwrap();
                newest.extend(entries.clone());
                generator.applied(entries);
            }
        }
        assert_eq!(left_behind(&ledger).unwrap(), newest);
        forget(&ledger).unwrap();
        assert_eq!(left_behind(&ledger).unwrap(), []);
    }

    #[test]
    fn the_longest_transaction_has_room() {
        let mut generator = Generator::new(9_999, Mix::Everything);
        let mut entry = generator.next(uuid::Uuid::new_v4()).remove(0);
        (entry.client, entry.seq) = (9_999, u64::MAX);
        let line = serde_json::to_string(&entry).unwrap();
        assert!(4 * (line.len() + "sessions\n".len()) < PLACE, "{line}");
    }
}
