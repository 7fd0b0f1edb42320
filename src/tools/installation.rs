//! The client programs on this machine, each with its version.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::Tools;

/// The programs that flare runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProgramName {
    PgDump,
    PgDumpall,
    PgRestore,
    Psql,
}

impl ProgramName {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ProgramName::PgDump => "pg_dump",
            ProgramName::PgDumpall => "pg_dumpall",
            ProgramName::PgRestore => "pg_restore",
            ProgramName::Psql => "psql",
        }
    }
}

impl fmt::Display for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `major.minor`, as `pg_dump --version` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProgramVersion {
    pub(crate) major: i32,
    pub(crate) minor: i32,
}

impl fmt::Display for ProgramVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// One program that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: ProgramName,
    pub(crate) path: PathBuf,
    pub(crate) version: ProgramVersion,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ({})",
            self.name,
            self.version,
            self.path.display()
        )
    }
}

impl Program {
    /// The one that was installed with this one, of the same version.
    pub(crate) fn beside(&self, name: ProgramName) -> Option<Program> {
        let directory = self.path.parent()?.to_owned();
        let found = find(&[directory], &[name]);
        found.into_iter().find(|it| it.version == self.version)
    }
}

/// Where the distributions put each version: `/usr/lib/postgresql/17/bin` (Debian), `/usr/pgsql-17/bin` (Red Hat), ...
const VERSIONED: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

/// The directories to look in: the configured one alone, else those of PATH and the distributions' versioned ones.
pub(crate) fn directories(tools: &Tools) -> Vec<PathBuf> {
    if let Some(path) = &tools.path {
        return vec![path.clone()];
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&on_path).collect();
    for (parent, prefix, bin) in VERSIONED {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        let versions: BTreeSet<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| {
                let name = entry.file_name();
                let version = name.to_str().and_then(|name| name.strip_prefix(prefix));
                version.is_some_and(|version| version.chars().all(|c| c.is_ascii_digit()))
            })
            .map(|entry| entry.path().join(bin))
            .collect();
        directories.extend(versions);
    }
    directories
}

/// Every program in these directories that runs and says its version, the first found first.
pub(crate) fn find(directories: &[PathBuf], names: &[ProgramName]) -> Vec<Program> {
    let mut paths: Vec<(ProgramName, PathBuf)> = Vec::new();
    // `/bin` is `/usr/bin` on most machines: one file is asked once.
    let mut files: BTreeSet<(&str, PathBuf)> = BTreeSet::new();
    for directory in directories {
        for name in names {
            let found = which::which_in_global(name.as_str(), Some(directory));
            if let Some(path) = found.ok().and_then(|mut found| found.next())
                && files.insert((name.as_str(), file_of(&path)))
            {
                paths.push((*name, path));
            }
        }
    }
    let (wrapped, plain): (Vec<_>, Vec<_>) = paths
        .into_iter()
        .partition(|(_, path)| file_of(path).ends_with(WRAPPER));
    let paths = if plain.is_empty() { wrapped } else { plain };
    std::thread::scope(|scope| {
        let asked: Vec<_> = paths
            .iter()
            .map(|(name, path)| scope.spawn(move || ask_version(*name, path)))
            .collect();
        asked
            .into_iter()
            .filter_map(|thread| thread.join().ok().flatten())
            .collect()
    })
}

/// What Debian calls instead of a client program: a script that takes a tenth of a second to find one of those that are looked
/// for in their own directories anyway.
const WRAPPER: &str = "pg_wrapper";

fn file_of(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn ask_version(name: ProgramName, path: &Path) -> Option<Program> {
    let said = duct::cmd!(path, "--version")
        .stdin_null()
        .stderr_capture()
        .read();
    match said {
        Ok(said) => Some(Program {
            name,
            path: path.to_owned(),
            version: parse_version(&said)?,
        }),
        Err(error) => {
            log::warn!("ask {} for its version: {error}", path.display());
            None
        }
    }
}

/// The version in `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `psql (PostgreSQL) 19beta1`.
fn parse_version(said: &str) -> Option<ProgramVersion> {
    let (_, rest) = said.split_once("(PostgreSQL) ")?;
    let number = |text: &str| {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        text[..end].parse::<i32>().ok()
    };
    let major = number(rest)?;
    let minor = rest
        .strip_prefix(&format!("{major}."))
        .and_then(number)
        .unwrap_or(0);
    Some(ProgramVersion { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_the_programs_print_them() {
        let read = |said: &str| parse_version(said).map(|version| version.to_string());
        assert_eq!(
            read("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)").as_deref(),
            Some("15.18")
        );
        assert_eq!(read("psql (PostgreSQL) 19beta1").as_deref(), Some("19.0"));
        assert_eq!(
            read("pg_dumpall (PostgreSQL) 9.6.24").as_deref(),
            Some("9.6")
        );
        assert_eq!(read("busybox"), None);
    }

    #[test]
    fn a_file_is_asked_once_and_debians_wrapper_only_when_it_is_alone() {
        use std::fs;
        use std::os::unix::fs::{PermissionsExt, symlink};

        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let program = |path: &Path, version: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                path,
                format!("#!/bin/sh\necho 'psql (PostgreSQL) {version}'\n"),
            )
            .unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let found = |directories: &[&str]| -> Vec<String> {
            let directories: Vec<PathBuf> = directories.iter().map(|name| at(name)).collect();
            let found = find(&directories, &[ProgramName::Psql]);
            found.iter().map(|it| it.version.to_string()).collect()
        };
        program(&at("share/pg_wrapper"), "15.1");
        fs::create_dir_all(at("usr")).unwrap();
        symlink(at("share/pg_wrapper"), at("usr/psql")).unwrap();
        assert_eq!(found(&["usr"]), ["15.1"]);
        program(&at("15/psql"), "15.2");
        symlink(at("15"), at("link")).unwrap();
        assert_eq!(found(&["usr", "15", "link"]), ["15.2"]);
    }
}
