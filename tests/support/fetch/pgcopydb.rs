//! pgcopydb, which measurements stand beside: the one that `PGCOPYDB` or PATH names, or the distribution's, unpacked.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{debian, once};

/// A pgcopydb.
pub struct Pgcopydb {
    /// Where it is.
    pub program: PathBuf,
    /// What it says of itself.
    pub version: String,
    /// A directory of libraries that the machine may lack.
    pub libraries: Option<PathBuf>,
}

/// The one that is here or can be had; else why there is none.
pub fn pgcopydb() -> Result<Pgcopydb, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let named = env::var_os("PGCOPYDB").map(PathBuf::from);
    let on_path = env::split_paths(&path).map(|dir| dir.join("pgcopydb"));
    for program in named.into_iter().chain(on_path) {
        if let Ok(version) = version(&program, None) {
            return Ok(Pgcopydb {
                program,
                version,
                libraries: None,
            });
        }
    }
    let unpacked = once("pgcopydb", |dir| {
        debian::program(dir, "pgcopydb", "usr/bin/pgcopydb", version).map(drop)
    })?;
    let (program, libraries) = (unpacked.join("bin/pgcopydb"), unpacked.join("lib"));
    Ok(Pgcopydb {
        version: version(&program, Some(&libraries))?,
        program,
        libraries: Some(libraries),
    })
}

impl Pgcopydb {
    /// Whether it can compare rows, which old ones cannot.
    pub fn compares_data(&self) -> bool {
        let mut command = Command::new(&self.program);
        command.args(["compare", "data", "--help"]);
        command.env("LD_LIBRARY_PATH", self.library_path());
        command.output().is_ok_and(|it| it.status.success())
    }

    /// What the loader is to be told.
    pub fn library_path(&self) -> OsString {
        self.libraries
            .as_ref()
            .map(|dir| dir.clone().into_os_string())
            .unwrap_or_default()
    }
}

fn version(program: &Path, libraries: Option<&Path>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--version");
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let said = super::run(&mut command)?;
    let version = said.split("pgcopydb version ").nth(1);
    version
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .ok_or_else(|| format!("{}: no version in {said:?}", program.display()))
}
