//! PgBouncer: the one that is installed, where it is new enough, or the distribution's, unpacked.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{debian, once};

/// flare's README asks for it.
const OLDEST: (u32, u32) = (1, 18);

/// Where PgBouncer is.
pub enum PgBouncer {
    Installed(PathBuf),
    /// A directory with `bin/pgbouncer`, and in `lib` those of its libraries that the machine may lack.
    Unpacked(PathBuf),
}

/// PgBouncer 1.18 or newer.
pub fn pgbouncer() -> Result<PgBouncer, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    for program in dirs.map(|dir| dir.join("pgbouncer")) {
        if version(&program, None).is_ok_and(|version| version >= OLDEST) {
            return Ok(PgBouncer::Installed(program));
        }
    }
    let unpacked = once("pgbouncer", unpack).map_err(|error| {
        format!(
            "PgBouncer 1.18 or newer is needed: install it, or have apt-get and dpkg-deb find a package of it \
             (Debian 12, Ubuntu 24.04 or newer)\n{error}"
        )
    })?;
    Ok(PgBouncer::Unpacked(unpacked))
}

fn unpack(dir: &Path) -> Result<(), String> {
    let (major, minor) = debian::program(dir, "pgbouncer", "usr/sbin/pgbouncer", version)?;
    if (major, minor) < OLDEST {
        Err(format!("the package has PgBouncer {major}.{minor}"))
    } else {
        Ok(())
    }
}

/// What it says of itself, or why it says nothing.
fn version(program: &Path, libraries: Option<&Path>) -> Result<(u32, u32), String> {
    let mut command = Command::new(program);
    command.arg("--version");
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let said = super::run(&mut command)?;
    let numbers = said.lines().next().and_then(|line| {
        let numbers = line.strip_prefix("PgBouncer ")?;
        let (major, rest) = numbers.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    numbers.ok_or_else(|| format!("{}: no version in {said:?}", program.display()))
}
