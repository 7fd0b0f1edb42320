//! This program itself, for processes that it starts to outlive it.

use std::path::{Path, PathBuf};

use crate::error::{Advise, Result, WrapErr};

/// This program, or the one that the library was told; a program that merely uses the library is not flare.
pub(crate) fn own_program(declared: Option<&Path>) -> Result<PathBuf> {
    if let Some(declared) = declared {
        return Ok(declared.to_owned());
    }
    let own = std::env::current_exe().wrap_err("find this program")?;
    // One that was replaced or renamed while it runs is still there under this name.
    let running = Path::new("/proc/self/exe");
    let name = own.file_name().unwrap_or_default().to_string_lossy();
    match name.starts_with("flare") {
        true if running.exists() => Ok(running.to_owned()),
        true => Ok(own),
        false => which::which("flare")
            .wrap_err("find the program flare")
            .hint(|| "put flare on PATH, or name it with Flare::guarded_by".into()),
    }
}
