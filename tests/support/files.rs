//! Trees of files, copied.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Copies what is in `from` into the directory `to`, each file by `put`.
pub fn copy_tree(
    from: &Path,
    to: &Path,
    put: fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&to)?;
            copy_tree(&from, &to, put)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else {
            put(&from, &to)?;
        }
    }
    Ok(())
}

/// A file of its own, with the same permissions.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to).map(drop)
}

/// The same file where the two directories share a disk.
pub fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| copy(from, to))
}

/// Calls `act` for the directory and everything in it.
pub fn walk(dir: &Path, act: &impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    act(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), act)?;
        } else {
            act(&entry.path())?;
        }
    }
    Ok(())
}
