//! Temporary files for dumps and scripts. None has a name, so that even `kill -9` leaves nothing of it: dumps hold
//! password hashes.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use crate::error::{Advise, Result, WrapErr};

/// An empty file without a name.
pub(crate) fn unlinked() -> Result<File> {
    let directory = std::env::temp_dir();
    tempfile::tempfile()
        .wrap_err_with(|| format!("create a temporary file in {}", directory.display()))
        .hint(|| "set TMPDIR to a directory that can be written, and has room for the dump".into())
}

/// The same file once more: both share one position.
pub(crate) fn share(file: &File) -> Result<File> {
    file.try_clone().wrap_err("share the temporary file")
}

/// Back to its start.
pub(crate) fn rewind(file: &mut File) -> Result<()> {
    file.seek(SeekFrom::Start(0))
        .map(drop)
        .wrap_err("rewind the temporary file")
}

/// A new file with what is written into it, positioned at its start.
pub(crate) fn written<T>(
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T>,
) -> Result<(File, T)> {
    let mut file = unlinked()?;
    let mut output = BufWriter::new(share(&file)?);
    let said = write(&mut output)?;
    output.flush().wrap_err(WRITING)?;
    rewind(&mut file)?;
    Ok((file, said))
}

/// What a write of [`written`] that fails was for.
pub(crate) const WRITING: &str = "write the temporary file";
