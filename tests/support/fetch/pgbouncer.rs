//! PgBouncer: the one that is installed, where it is new enough, or the distribution's, unpacked.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::debian::Packages;
use super::once;

/// flare's README asks for it.
const OLDEST: (u32, u32) = (1, 18);
/// Each round unpacks the libraries that those of the round before need.
const ROUNDS: usize = 5;

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
    let apt = dir.join("apt");
    let mut packages = Packages::listed(apt.clone())?;
    let mut wanted = packages.unpack(&["pgbouncer".to_owned()])?;
    let program = dir.join("bin/pgbouncer");
    let put = || {
        fs::create_dir(dir.join("bin"))?;
        fs::create_dir(dir.join("lib"))?;
        fs::copy(packages.root().join("usr/sbin/pgbouncer"), &program)
    };
    put().map_err(|error| format!("unpack pgbouncer: {error}"))?;
    let mut found = version(&program, Some(&dir.join("lib")));
    for _ in 0..ROUNDS {
        if found.is_ok() || wanted.is_empty() {
            break;
        }
        wanted = packages.unpack(&wanted)?;
        put_libraries(&packages.root(), &dir.join("lib"))
            .map_err(|error| format!("unpack the libraries of pgbouncer: {error}"))?;
        found = version(&program, Some(&dir.join("lib")));
    }
    let (major, minor) = found?;
    if (major, minor) < OLDEST {
        return Err(format!("the package has PgBouncer {major}.{minor}"));
    }
    fs::remove_dir_all(apt).map_err(|error| error.to_string())
}

/// All shared libraries below a directory, with the links by which they are found.
fn put_libraries(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, kind, name) = (entry.path(), entry.file_type()?, entry.file_name());
        let target = to.join(&name);
        let name = name.to_string_lossy();
        let is_library = name.starts_with("lib") && name.contains(".so.");
        if kind.is_dir() {
            put_libraries(&path, to)?;
        } else if !is_library || target.symlink_metadata().is_ok() {
            continue;
        } else if kind.is_symlink() {
            let leads_to = fs::read_link(&path)?;
            symlink(leads_to.file_name().unwrap_or(leads_to.as_os_str()), target)?;
        } else {
            fs::copy(&path, target)?;
        }
    }
    Ok(())
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
