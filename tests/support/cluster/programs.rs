//! A server's programs, run as a user they agree to run as.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::super::{fetch, files, run};

/// initdb and postgres of one version, where the server's user can run them.
#[derive(Clone)]
pub struct Programs(PathBuf);

impl Programs {
    pub fn of(version: u32) -> Self {
        let cached = fetch::server(version).unwrap_or_else(|error| panic!("{error}"));
        if server_user().is_none() {
            return Self(cached);
        }
        static REACHABLE: Mutex<Option<HashMap<u32, Programs>>> = Mutex::new(None);
        let mut reachable = REACHABLE.lock().unwrap_or_else(PoisonError::into_inner);
        let reachable = reachable.get_or_insert_default();
        let programs = reachable.entry(version).or_insert_with(|| {
            let cached = Self(cached);
            if cached.run() {
                cached
            } else {
                cached.nearby()
            }
        });
        programs.clone()
    }

    /// A command in that directory, as the server's user, out of reach of the terminal's signals.
    pub fn command(&self, program: &str, dir: &Path) -> Command {
        let mut command = Command::new(self.0.join("bin").join(program));
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("PATH", "/usr/bin:/bin")
            .current_dir(dir)
            .stdin(Stdio::null())
            .process_group(0);
        if let Some((uid, gid)) = server_user() {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Whether the server's user can pass through the directories above.
    fn run(&self) -> bool {
        self.command("postgres", Path::new("/"))
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
    }

    /// The same in the run's directory, where everybody can pass.
    fn nearby(&self) -> Self {
        let copy = run::subdir("programs");
        files::copy_tree(&self.0, &copy, files::link_or_copy)
            .unwrap_or_else(|error| panic!("copy {}: {error}", self.0.display()));
        Self(copy)
    }
}

/// `nobody`, when the tests run as root: servers refuse to.
pub fn server_user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        // SAFETY: no arguments; getpwnam's static answer is read before anybody asks again.
        unsafe {
            if libc::geteuid() != 0 {
                return None;
            }
            let nobody = libc::getpwnam(c"nobody".as_ptr());
            assert!(!nobody.is_null(), "there is no user nobody to run servers");
            Some(((*nobody).pw_uid, (*nobody).pw_gid))
        }
    })
}
