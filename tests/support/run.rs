//! The directory of this run, and the watcher that ends everything in it when the run ends.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

const REAPER: &str = include_str!("reaper.sh");

/// Unix socket paths end at 107 bytes; a socket lies two short names below the run's directory.
const LONGEST_PARENT: usize = 50;

static WATCHER: Mutex<Option<Child>> = Mutex::new(None);

/// The directory that holds everything of this run. Made, and watched, on first use.
pub fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::Builder::new()
            .prefix("flare-test-")
            .tempdir_in(parent())
            .expect("make the run's directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .expect("open the run's directory to the server's user");
        watch(dir.path());
        dir.keep()
    })
}

/// A new, empty directory of the run.
pub fn subdir(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = dir().join(format!("{name}-{number}"));
    fs::create_dir(&dir).unwrap_or_else(|error| panic!("make {}: {error}", dir.display()));
    dir
}

/// The server's user must be able to pass through every directory on the way.
fn parent() -> PathBuf {
    let wanted = env::temp_dir();
    let open = wanted.ancestors().all(|dir| {
        fs::metadata(dir).is_ok_and(|found| found.is_dir() && found.permissions().mode() & 1 == 1)
    });
    if open && wanted.as_os_str().len() <= LONGEST_PARENT {
        wanted
    } else {
        PathBuf::from("/tmp")
    }
}

fn watch(dir: &Path) {
    let mut command = Command::new("sh");
    command
        .args(["-c", REAPER])
        .env("RUN", dir)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: setsid is async-signal-safe. A session of its own keeps Ctrl-C and hang-ups away.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    let watcher = command.spawn().expect("start the watcher");
    *WATCHER.lock().expect("watcher") = Some(watcher);
    // SAFETY: `end` is an ordinary function that lives as long as the program.
    let registered = unsafe { libc::atexit(end) };
    assert_eq!(registered, 0, "register the end of the run");
}

/// Runs at every orderly exit, so that nothing is left at the moment the program has ended.
extern "C" fn end() {
    if let Ok(mut watcher) = WATCHER.try_lock()
        && let Some(mut watcher) = watcher.take()
    {
        drop(watcher.stdin.take());
        let _ = watcher.wait();
    }
}
