//! Client programs by major version, and the `PATH` that finds them.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use super::fetch;

/// The directory of psql, pg_dump, pg_dumpall, pg_restore and pgbench: 17 and 18 always, others
/// where the system has them installed.
pub fn bin(version: u32) -> Option<PathBuf> {
    match version {
        17 | 18 => Some(fetch::clients(version).unwrap_or_else(|error| panic!("{error}"))),
        _ => installed(version),
    }
}

/// `PATH` with those programs first. The system's own directories follow: they hold `sh`.
pub fn path(version: u32) -> OsString {
    let bin = bin(version).unwrap_or_else(|| panic!("client programs {version} are not here"));
    let system = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::join_paths([bin].into_iter().chain(system)).expect("join PATH")
}

fn installed(version: u32) -> Option<PathBuf> {
    let versioned = [
        format!("/usr/lib/postgresql/{version}/bin"),
        format!("/usr/pgsql-{version}/bin"),
    ];
    let on_path = env::var_os("PATH").unwrap_or_default();
    versioned
        .into_iter()
        .map(PathBuf::from)
        .chain(env::split_paths(&on_path))
        .find(|dir| {
            let banner = std::process::Command::new(dir.join("pg_dump"))
                .arg("--version")
                .output();
            banner.is_ok_and(|banner| {
                String::from_utf8_lossy(&banner.stdout)
                    .contains(&format!("(PostgreSQL) {version}."))
            })
        })
}
