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
        Self(reachable(&cached, "postgres"))
    }

    /// A command in that directory, as the server's user.
    pub fn command(&self, program: &str, dir: &Path) -> Command {
        as_server_user(&self.0.join("bin").join(program), dir)
    }
}

/// A command in that directory, as the server's user, out of reach of the terminal's signals.
pub fn as_server_user(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
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

/// This directory, or a copy of it in the run's own, where the server's user can run `bin/<program>`.
pub fn reachable(home: &Path, program: &str) -> PathBuf {
    if server_user().is_none() {
        return home.to_owned();
    }
    static REACHABLE: Mutex<Option<HashMap<PathBuf, PathBuf>>> = Mutex::new(None);
    let mut reachable = REACHABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let reachable = reachable.get_or_insert_default();
    let found = reachable.entry(home.to_owned()).or_insert_with(|| {
        let mut program = as_server_user(&home.join("bin").join(program), Path::new("/"));
        // It fails to start where the user cannot pass through the directories above.
        match program.arg("--version").output() {
            Ok(_) => home.to_owned(),
            Err(_) => nearby(home),
        }
    });
    found.clone()
}

/// The same in the run's directory, where everybody can pass.
fn nearby(home: &Path) -> PathBuf {
    let copy = run::subdir("programs");
    files::copy_tree(home, &copy, files::link_or_copy)
        .unwrap_or_else(|error| panic!("copy {}: {error}", home.display()));
    copy
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
