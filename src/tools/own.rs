//! The program flare, for processes that outlive the one that starts them.

use std::path::{Path, PathBuf};

use crate::error::{Advise, Result, WrapErr};

/// The one that was declared, else the one on PATH: a program that merely uses the library is not flare.
pub(crate) fn flare_program(declared: Option<&Path>) -> Result<PathBuf> {
    match declared {
        Some(declared) => Ok(declared.to_owned()),
        None => which::which("flare")
            .wrap_err("find the program flare, a process of which outlives this one")
            .hint(|| "put flare on PATH, or name it with Flare::guarded_by".into()),
    }
}

/// The program that runs, by a name that it keeps when its file is renamed or replaced.
#[cfg(feature = "cli")]
pub(crate) fn this_program() -> Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        Ok(running.to_owned())
    } else {
        std::env::current_exe().wrap_err("find this program")
    }
}
