//! A file that others read at any moment: they see the old one or the new one, never half of it.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Advise, Result, WrapErr};

/// Whoever collects it is another user.
const READABLE: u32 = 0o644;

/// Replaces the file at once.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    said(path, replace(path, text))
}

/// Whether [`write`] could do it, before the work whose result is to be written.
pub(crate) fn check(path: &Path) -> Result<()> {
    let checked = if path.is_dir() {
        Err(std::io::ErrorKind::IsADirectory.into())
    } else {
        beside(path).map(drop)
    };
    said(path, checked)
}

fn said(path: &Path, outcome: std::io::Result<()>) -> Result<()> {
    outcome
        .wrap_err_with(|| format!("write {}", path.display()))
        .hint(|| "its directory has to be there, and writable for who runs flare".into())
}

/// Beside it, since only within one file system a rename is one step.
fn beside(path: &Path) -> std::io::Result<NamedTempFile> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".flare-")
        .tempfile_in(directory)
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = beside(path)?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(READABLE))?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flare.prom");
        for text in ["one\n", "two\n"] {
            check(&path).unwrap();
            write(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, READABLE);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        for unwritable in [
            directory.path().join("no/flare.prom"),
            directory.path().into(),
        ] {
            assert!(check(&unwritable).is_err() && write(&unwritable, "").is_err());
        }
    }
}
