//! Data directories: initdb runs once per version and set of options; a server gets a copy that
//! bears an identifier of its own, which takes a tenth of the time.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::super::{fetch, files, run};
use super::programs::server_user;
use super::{Cluster, PASSWORD};

/// Generous, so that tests share a server. Durability is left to those who ask for it.
const SETTINGS: [(&str, &str); 14] = [
    ("listen_addresses", "127.0.0.1"),
    ("password_encryption", "scram-sha-256"),
    ("wal_level", "logical"),
    ("max_connections", "200"),
    ("max_wal_senders", "60"),
    ("max_replication_slots", "60"),
    ("max_logical_replication_workers", "60"),
    ("max_worker_processes", "80"),
    ("max_prepared_transactions", "10"),
    ("wal_retrieve_retry_interval", "500ms"),
    ("shared_buffers", "32MB"),
    ("dynamic_shared_memory_type", "mmap"), // a killed server leaves none in /dev/shm
    ("fsync", "off"),
    ("full_page_writes", "off"),
];

const ACCESS: &str = "\
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

impl Cluster {
    /// Makes the data directory and its configuration.
    pub(super) fn furnish(&self, initdb: &[&str], settings: &[(&str, &str)]) {
        let template = self.template(initdb);
        self.copy_of(&template)
            .unwrap_or_else(|error| panic!("make {}: {error}", self.data_dir().display()));
        let socket = self.home.display().to_string();
        self.configure(&[("unix_socket_directories", &socket)]);
        self.configure(&SETTINGS);
        if self.version >= 18 {
            self.configure(&[("max_active_replication_origins", "60")]);
        }
        self.configure(settings);
    }

    /// Adds settings, which count from the next `reload` or `start`.
    pub fn configure(&self, settings: &[(&str, &str)]) {
        let mut text = String::new();
        for (name, value) in settings {
            let value = value.replace('\'', "''");
            writeln!(text, "{name} = '{value}'").expect("write to a string");
        }
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.data_dir().join("postgresql.conf"))
            .expect("open postgresql.conf");
        file.write_all(text.as_bytes())
            .expect("write postgresql.conf");
    }

    fn template(&self, more: &[&str]) -> PathBuf {
        let username = format!("--username={}", self.superuser());
        let mut options = vec!["--no-sync", "--encoding=UTF8", "--locale=C"];
        options.extend(["--auth-host=scram-sha-256", "--auth-local=trust", &username]);
        options.extend(more);
        let mut made_by = DefaultHasher::new();
        (fetch::release(self.version), &options, PASSWORD, ACCESS).hash(&mut made_by);
        let name = format!("data-{}-{:016x}", self.version, made_by.finish());
        fetch::once(&name, |dir| {
            self.initdb(&options, dir)
                .map_err(|error| error.to_string())
        })
        .unwrap_or_else(|error| panic!("{error}"))
    }

    /// In the run's directory first: its user may have no way to the cache.
    fn initdb(&self, options: &[&str], into: &Path) -> io::Result<()> {
        let made = run::subdir("initdb");
        let password = made.join("password");
        fs::write(&password, PASSWORD)?;
        let data = made.join("data");
        fs::create_dir(&data)?;
        give_to_server(&made)?;
        let mut initdb = self.programs.command("initdb", &made);
        initdb
            .args(options)
            .arg(format!("--pwfile={}", password.display()))
            .arg("-D")
            .arg(&data);
        let output = initdb.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let message = format!("run {initdb:?}: {}\n{said}", output.status);
            return Err(io::Error::other(message));
        }
        fs::write(data.join("pg_hba.conf"), ACCESS)?;
        files::copy_tree(&data, into, files::copy)?;
        fs::remove_dir_all(&made)
    }

    fn copy_of(&self, template: &Path) -> io::Result<()> {
        let data = self.data_dir();
        fs::create_dir(&data)?;
        files::copy_tree(template, &data, files::copy)?;
        // The server refuses to start in a directory that others can read.
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
        identify(&data, RandomState::new().build_hasher().finish() >> 1)?;
        give_to_server(&self.home)
    }
}

fn give_to_server(dir: &Path) -> io::Result<()> {
    match server_user() {
        Some((uid, gid)) => files::walk(dir, &|path| chown(path, Some(uid), Some(gid))),
        None => Ok(()),
    }
}

/// Gives a data directory that no server has used yet another system identifier. It is the first
/// field of pg_control, and stands in the long header of each WAL segment's first page.
fn identify(data: &Path, identifier: u64) -> io::Result<()> {
    const IN_SEGMENT: u64 = 24;
    let identifier = identifier.to_ne_bytes();
    let path = data.join("global/pg_control");
    let mut control = fs::read(&path)?;
    let sum_at = checksum_at(&control).ok_or_else(|| io::Error::other("no checksum found"))?;
    control[..identifier.len()].copy_from_slice(&identifier);
    let sum = crc32c(&control[..sum_at]).to_ne_bytes();
    control[sum_at..sum_at + sum.len()].copy_from_slice(&sum);
    fs::write(&path, &control)?;

    for segment in fs::read_dir(data.join("pg_wal"))? {
        let segment = segment?;
        if segment.file_type()?.is_file() {
            let segment = OpenOptions::new().write(true).open(segment.path())?;
            segment.write_all_at(&identifier, IN_SEGMENT)?;
        }
    }
    Ok(())
}

/// Where pg_control ends with the checksum of all before it. That differs between versions.
fn checksum_at(control: &[u8]) -> Option<usize> {
    const SHORTEST: usize = 128;
    let words = (SHORTEST..control.len().min(512)).step_by(4);
    words
        .into_iter()
        .find(|at| control[*at..].starts_with(&crc32c(&control[..*at]).to_ne_bytes()))
}

/// Castagnoli's, as the server computes it.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (POLYNOMIAL * (sum & 1))
        })
    })
}
