//! The directory of this run, and the watcher that ends everything in it when the run ends.

use std::env;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

const REAPER: &str = include_str!("reaper.sh");

/// Unix socket paths end at 107 bytes; a socket lies two short names below the run's directory.
const LONGEST_PARENT: usize = 50;

/// A file system in memory, where Linux has it.
const MEMORY: &str = "/dev/shm";

/// Bytes that a whole run takes at most, and as many again for everything else.
const ROOM: u64 = 8 << 30;

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

/// In memory, where there is plenty: tests make and drop some hundred databases, which are files above all. Measurements and
/// the demo stay on the disk.
fn parent() -> PathBuf {
    let wanted = match env::var_os("TMPDIR") {
        None if cfg!(test) && is_roomy(Path::new(MEMORY)) => PathBuf::from(MEMORY),
        _ => env::temp_dir(),
    };
    if can_be_passed(&wanted) && wanted.as_os_str().len() <= LONGEST_PARENT {
        wanted
    } else {
        PathBuf::from("/tmp")
    }
}

/// The server's user must be able to pass through every directory on the way.
fn can_be_passed(path: &Path) -> bool {
    path.ancestors().all(|dir| {
        fs::metadata(dir).is_ok_and(|found| found.is_dir() && found.permissions().mode() & 1 == 1)
    })
}

/// Whether programs may be run from there, and there is room for a whole run, in the machine's memory too.
fn is_roomy(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: the structure holds numbers, for which zeros are a value; the path ends with a zero and outlives the call.
    let found = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut found) == 0).then_some(found)
    };
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    found.is_some_and(|found| {
        found.f_bavail * found.f_frsize >= ROOM && found.f_flag & libc::ST_NOEXEC == 0
    }) && available.is_some_and(|kilobytes| kilobytes * 1024 >= ROOM)
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
