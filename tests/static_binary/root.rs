//! A directory that a program takes for the whole file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::flare::Invocation;
use crate::support::output::Output;
use crate::support::pair::Passwords;
use crate::support::run;

/// What shuts a program in: `unshare` where user namespaces may be had, else `chroot` for root.
#[derive(Clone, Copy)]
enum Gaol {
    Unshare,
    Chroot,
}

pub struct Root {
    dir: PathBuf,
    gaol: Gaol,
}

impl Root {
    /// With a copy of the program at `/flare`; none where nothing can be shut in.
    pub fn new(program: &Path) -> Option<Self> {
        let dir = run::subdir("root");
        let inside = dir.join("flare");
        fs::copy(program, &inside)
            .unwrap_or_else(|error| panic!("copy {}: {error}", program.display()));
        fs::create_dir(dir.join("etc")).expect("make etc");
        let works = |gaol: &Gaol| {
            let status = gaol
                .command(&dir, &["--version"])
                .stdout(Stdio::null())
                .stderr(Stdio::inherit())
                .status();
            status.is_ok_and(|status| status.success())
        };
        let gaol = [Gaol::Unshare, Gaol::Chroot].into_iter().find(works)?;
        Some(Self { dir, gaol })
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::write(&path, text).expect("write into the root");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("close it");
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        let command = self.gaol.command(&self.dir, args);
        let args: Vec<&str> = command.get_args().filter_map(|arg| arg.to_str()).collect();
        Invocation::of(command.get_program(), &args)
            .secrets([Passwords::ADMIN.to_owned(), Passwords::OWNER.to_owned()])
            .run()
    }
}

impl Gaol {
    fn command(self, dir: &Path, args: &[&str]) -> Command {
        let mut command;
        match self {
            Gaol::Unshare => {
                command = Command::new("unshare");
                command.arg("--map-root-user").arg("--root").arg(dir);
            }
            Gaol::Chroot => {
                command = Command::new("chroot");
                command.arg(dir);
            }
        }
        command.arg("/flare").args(args);
        command
    }
}
