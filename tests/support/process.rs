//! Processes as /proc shows them, and signals to them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: kill takes no pointer.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// The processes whose parent is `parent`. A server's are all children of its postmaster.
pub fn children_of(parent: u32) -> Vec<u32> {
    pids()
        .filter(|pid| stat(*pid).is_some_and(|(_, ppid)| ppid == parent))
        .collect()
}

/// Whether it exists and is more than an entry that nobody has waited for.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// Whether it was stopped, and waits for SIGCONT.
pub fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == 'T')
}

/// The processes that have `path` on their command line.
pub fn naming(path: &Path) -> Vec<u32> {
    let path = path.as_os_str().as_bytes();
    pids()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(path.len()).any(|part| part == path))
        })
        .collect()
}

/// The processes that have this setting in their environment.
pub fn with_setting(setting: &str) -> usize {
    let has = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|it| it == setting.as_bytes())
        })
    };
    pids().filter(has).count()
}

/// All processes.
pub fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
