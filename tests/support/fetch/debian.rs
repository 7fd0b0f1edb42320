//! Programs of the distribution's packages, unpacked into a directory by `apt-get` and `dpkg-deb`:
//! nothing is installed, nobody has to be root, and the system's own lists are left alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;

/// Each round unpacks the libraries that those of the round before need.
const ROUNDS: usize = 5;

/// Puts a package's program into `dir/bin`, and the libraries that it needs into `dir/lib`; what `version` reads of it.
pub fn program<V>(
    dir: &Path,
    package: &str,
    file: &str,
    version: impl Fn(&Path, Option<&Path>) -> Result<V, String>,
) -> Result<V, String> {
    let (apt, lib) = (dir.join("apt"), dir.join("lib"));
    let mut packages = Packages::listed(apt.clone())?;
    let mut wanted = packages.unpack(&[package.to_owned()])?;
    let program = dir.join("bin").join(package);
    let put = || {
        fs::create_dir(dir.join("bin"))?;
        fs::create_dir(&lib)?;
        fs::copy(packages.root().join(file), &program)
    };
    put().map_err(|error| format!("unpack {package}: {error}"))?;
    let mut found = version(&program, Some(&lib));
    for _ in 0..ROUNDS {
        if found.is_ok() || wanted.is_empty() {
            break;
        }
        wanted = packages.unpack(&wanted)?;
        put_libraries(&packages.root(), &lib)
            .map_err(|error| format!("unpack the libraries of {package}: {error}"))?;
        found = version(&program, Some(&lib));
    }
    let found = found?;
    fs::remove_dir_all(apt).map_err(|error| error.to_string())?;
    Ok(found)
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

/// apt with lists, cache and unpacked packages of its own.
struct Packages {
    home: PathBuf,
    unpacked: BTreeSet<String>,
}

impl Packages {
    /// Reads the lists of the system's sources into this directory.
    fn listed(home: PathBuf) -> Result<Self, String> {
        for dir in ["state/lists/partial", "cache/archives/partial", "root"] {
            fs::create_dir_all(home.join(dir)).map_err(|error| error.to_string())?;
        }
        let packages = Self {
            home,
            unpacked: BTreeSet::new(),
        };
        run(packages.apt().arg("update"))?;
        Ok(packages)
    }

    /// Where the files of all packages so far are.
    fn root(&self) -> PathBuf {
        self.home.join("root")
    }

    /// Unpacks these, and returns the packages of libraries that they depend on and that are not here yet.
    fn unpack(&mut self, names: &[String]) -> Result<Vec<String>, String> {
        run(self.apt().arg("download").args(names))?;
        let mut wanted = BTreeSet::new();
        for archive in self.archives().map_err(|error| error.to_string())? {
            run(Command::new("dpkg-deb")
                .arg("-x")
                .arg(&archive)
                .arg(self.root()))?;
            let depends = run(Command::new("dpkg-deb")
                .arg("-f")
                .arg(&archive)
                .arg("Depends"))?;
            wanted.extend(libraries(&depends));
            fs::remove_file(&archive).map_err(|error| error.to_string())?;
        }
        self.unpacked.extend(names.iter().cloned());
        Ok(wanted.difference(&self.unpacked).cloned().collect())
    }

    fn archives(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.home)?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let paths = paths.collect::<io::Result<Vec<PathBuf>>>()?;
        let is_archive = |path: &PathBuf| path.extension().is_some_and(|it| it == "deb");
        Ok(paths.into_iter().filter(is_archive).collect())
    }

    fn apt(&self) -> Command {
        let setting = |name: &str, path: &Path| format!("{name}={}", path.display());
        let mut apt = Command::new("apt-get");
        apt.current_dir(&self.home)
            .arg("-qq")
            .args(["-o", &setting("Dir::State", &self.home.join("state"))])
            .args(["-o", &setting("Dir::Cache", &self.home.join("cache"))])
            // Its own user for downloads may not write here.
            .args(["-o", "APT::Sandbox::User=root"]);
        apt
    }
}

/// The packages of libraries in a `Depends` field, the first of each choice, but not the C library itself.
fn libraries(depends: &str) -> impl Iterator<Item = String> {
    let names = depends.split(',').filter_map(|wanted| {
        let name = wanted.trim().split([' ', '(', '|', ':']).next()?;
        let is_library = name.starts_with("lib") && name != "libc6";
        is_library.then(|| name.to_owned())
    });
    names.collect::<Vec<String>>().into_iter()
}
