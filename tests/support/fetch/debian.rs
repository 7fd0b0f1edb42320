//! Programs of the distribution's packages, unpacked into a directory by `apt-get` and `dpkg-deb`:
//! nothing is installed, nobody has to be root, and the system's own lists are left alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;

/// apt with lists, cache and unpacked packages of its own.
pub struct Packages {
    home: PathBuf,
    unpacked: BTreeSet<String>,
}

impl Packages {
    /// Reads the lists of the system's sources into this directory.
    pub fn listed(home: PathBuf) -> Result<Self, String> {
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
    pub fn root(&self) -> PathBuf {
        self.home.join("root")
    }

    /// Unpacks these, and returns the packages of libraries that they depend on and that are not here yet.
    pub fn unpack(&mut self, names: &[String]) -> Result<Vec<String>, String> {
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
