//! One server: made, started, asked, frozen, killed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use postgres::{Client, Config, Error};

use super::sql::{self, Row};
use super::{fetch, process, rds, run, wait};

/// The administrator's password on every server. Quoting has to get it right.
pub const PASSWORD: &str = "admin's \"secret\" \\ %41@:/#";

const STARTED_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const PORTS_TRIED: u32 = 20;

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

/// Which side of a migration a shared server stands on. The two are never the same server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Publisher,
    Subscriber,
}

/// Whether the administrator is a superuser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    Vanilla,
    Rds,
}

/// Whether other tests use it at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Shared,
    Private,
}

/// A server of some version in a directory of the run. A private one ends with its value.
pub struct Cluster {
    version: u32,
    flavour: Flavour,
    used: Use,
    programs: PathBuf,
    home: PathBuf,
    port: u16,
    postmaster: Mutex<Option<Child>>,
}

impl Cluster {
    /// The old server of this version, shared by all tests of the program.
    pub fn publisher(version: u32) -> Arc<Self> {
        Self::shared(Role::Publisher, version, Flavour::Vanilla)
    }

    /// The new server of this version, shared by all tests of the program.
    pub fn subscriber(version: u32) -> Arc<Self> {
        Self::shared(Role::Subscriber, version, Flavour::Vanilla)
    }

    /// A shared server whose administrator `master` is no superuser.
    pub fn rds(role: Role, version: u32) -> Arc<Self> {
        Self::shared(role, version, Flavour::Rds)
    }

    /// A server for one test, which may stop, freeze or kill it. Later settings win.
    pub fn private(version: u32, settings: &[(&str, &str)]) -> Arc<Self> {
        Arc::new(Self::new(
            version,
            Flavour::Vanilla,
            Use::Private,
            "own",
            settings,
        ))
    }

    /// The same without a superuser for its administrator.
    pub fn private_rds(version: u32, settings: &[(&str, &str)]) -> Arc<Self> {
        Arc::new(Self::new(
            version,
            Flavour::Rds,
            Use::Private,
            "own-rds",
            settings,
        ))
    }

    fn shared(role: Role, version: u32, flavour: Flavour) -> Arc<Self> {
        type Key = (Role, u32, Flavour);
        type Slot = Arc<OnceLock<Arc<Cluster>>>;
        static SHARED: Mutex<Option<HashMap<Key, Slot>>> = Mutex::new(None);
        // Servers of different versions start side by side: the map is not locked meanwhile.
        let slot = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = shared.get_or_insert_default();
            Arc::clone(shared.entry((role, version, flavour)).or_default())
        };
        let name = match (role, flavour) {
            (Role::Publisher, Flavour::Vanilla) => "pub",
            (Role::Subscriber, Flavour::Vanilla) => "sub",
            (Role::Publisher, Flavour::Rds) => "pub-rds",
            (Role::Subscriber, Flavour::Rds) => "sub-rds",
        };
        Arc::clone(
            slot.get_or_init(|| Arc::new(Self::new(version, flavour, Use::Shared, name, &[]))),
        )
    }

    fn new(
        version: u32,
        flavour: Flavour,
        used: Use,
        name: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut cluster = Self {
            version,
            flavour,
            used,
            programs: programs(version),
            home: run::subdir(&format!("{name}-{version}")),
            port: 0,
            postmaster: Mutex::new(None),
        };
        cluster.initialise(settings);
        for _ in 0..PORTS_TRIED {
            cluster.port = any_port();
            match cluster.launch() {
                Ok(()) => {
                    if flavour == Flavour::Rds {
                        rds::furnish(&cluster);
                    }
                    return cluster;
                }
                Err(log) if log.contains("could not bind") => {}
                Err(log) => panic!("start a server of version {version}:\n{log}"),
            }
        }
        panic!("start a server of version {version}: no port is free");
    }

    fn initialise(&self, settings: &[(&str, &str)]) {
        let told = |error: io::Error| panic!("prepare {}: {error}", self.home.display());
        if let Some((uid, gid)) = server_user() {
            chown(&self.home, Some(uid), Some(gid)).unwrap_or_else(told);
        }
        let password = self.home.join("password");
        fs::write(&password, PASSWORD).unwrap_or_else(told);
        let mut initdb = self.command("initdb");
        initdb
            .args(["--no-sync", "--encoding=UTF8", "--locale=C"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg(format!("--username={}", self.superuser()))
            .arg(format!("--pwfile={}", password.display()))
            .arg("-D")
            .arg(self.data_dir());
        let output = initdb
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| {
                panic!("run {initdb:?}: {error}");
            });
        assert!(
            output.status.success(),
            "run {initdb:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        fs::remove_file(&password).unwrap_or_else(told);
        fs::write(self.data_dir().join("pg_hba.conf"), ACCESS).unwrap_or_else(told);
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
        let path = self.data_dir().join("postgresql.conf");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("open postgresql.conf");
        io::Write::write_all(&mut file, text.as_bytes()).expect("write postgresql.conf");
    }

    /// Has the server read its settings and `pg_hba.conf` again, and returns when it has.
    pub fn reload(&self) {
        let before = self.log().matches("received SIGHUP").count();
        process::signal(self.postmaster_pid(), libc::SIGHUP);
        wait::for_("the server to reload", STARTED_WITHIN, || {
            self.log().matches("received SIGHUP").count() > before
        });
    }

    /// Starts a server that was stopped or killed, on its old port.
    pub fn start(&self) {
        if let Err(log) = self.launch() {
            panic!("start {self:?}:\n{log}");
        }
    }

    /// Starts the postmaster and returns when it answers, or the end of its log.
    fn launch(&self) -> Result<(), String> {
        let log = self.home.join("log");
        let log = || {
            let options = OpenOptions::new().create(true).append(true).open(&log);
            options.expect("open the server's log")
        };
        let read_before = log().metadata().map_or(0, |found| found.len());
        let mut child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data_dir())
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .spawn()
            .unwrap_or_else(|error| panic!("start {self:?}: {error}"));
        let ended = || {
            let log = self.log();
            let new = usize::try_from(read_before)
                .ok()
                .and_then(|at| log.get(at..));
            new.unwrap_or(&log).to_owned()
        };
        let mut failure = None;
        let up = wait::until(STARTED_WITHIN, || {
            if self.try_superuser_session("postgres").is_ok() {
                return true;
            }
            if child.try_wait().expect("look at the server").is_some() {
                failure = Some(ended());
            }
            failure.is_some()
        });
        match failure {
            Some(log) => Err(log),
            None if up => {
                *self.postmaster() = Some(child);
                Ok(())
            }
            None => {
                process::signal(child.id(), libc::SIGQUIT);
                let _ = child.wait();
                Err(ended())
            }
        }
    }

    /// A program of the server, run as a user it agrees to run as.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join("bin").join(program));
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("PATH", "/usr/bin:/bin")
            .current_dir(&self.home)
            .process_group(0);
        if let Some((uid, gid)) = server_user() {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// An orderly shutdown that does not wait for clients.
    pub fn stop(&self) {
        self.must_be_private();
        self.shut_down(libc::SIGINT);
    }

    fn shut_down(&self, how: i32) {
        let Some(mut child) = self.postmaster().take() else {
            return;
        };
        let backends = process::children_of(child.id());
        for pid in backends.into_iter().chain([child.id()]) {
            process::signal(pid, libc::SIGCONT);
        }
        process::signal(child.id(), how);
        let mut gone = || child.try_wait().expect("look at the server").is_some();
        if !wait::until(STOPPED_WITHIN, &mut gone) {
            process::signal(child.id(), libc::SIGQUIT);
            child.wait().expect("wait for the server");
        }
    }

    /// As a power failure: all of the server's processes at once.
    pub fn kill_9(&self) {
        self.must_be_private();
        let Some(mut child) = self.postmaster().take() else {
            return;
        };
        let all = stop_all(child.id());
        for pid in &all {
            process::signal(*pid, libc::SIGKILL);
        }
        child.wait().expect("wait for the server");
        wait::for_("killed processes to go", STOPPED_WITHIN, || {
            !all.iter().any(|pid| process::is_running(*pid))
        });
    }

    /// Stops all of the server's processes where they stand; the kernel still accepts connections.
    pub fn freeze(&self) {
        self.must_be_private();
        stop_all(self.postmaster_pid());
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        let postmaster = self.postmaster_pid();
        for pid in process::children_of(postmaster) {
            process::signal(pid, libc::SIGCONT);
        }
        process::signal(postmaster, libc::SIGCONT);
    }

    fn must_be_private(&self) {
        assert!(self.is_private(), "{self:?} belongs to all tests");
    }

    fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        self.postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that all others of this server are children of.
    pub fn postmaster_pid(&self) -> u32 {
        let child = self.postmaster();
        child.as_ref().expect("the server is not running").id()
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    pub fn is_private(&self) -> bool {
        self.used == Use::Private
    }

    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Who owns the server and may do anything.
    pub fn superuser(&self) -> &'static str {
        match self.flavour {
            Flavour::Vanilla => "postgres",
            Flavour::Rds => rds::SUPERUSER,
        }
    }

    /// Who flare connects as: the superuser, but on RDS. The password is `PASSWORD`.
    pub fn admin(&self) -> &'static str {
        match self.flavour {
            Flavour::Vanilla => "postgres",
            Flavour::Rds => rds::MASTER,
        }
    }

    pub fn system_identifier(&self) -> String {
        self.value(
            "postgres",
            "SELECT system_identifier FROM pg_control_system()",
        )
    }

    /// Everything the server has written to its log.
    pub fn log(&self) -> String {
        fs::read(self.home.join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// A session over TCP, as a client of the migration would have.
    pub fn connect(&self, db: &str, user: &str, password: &str) -> Result<Client, Error> {
        sql::connect(
            Config::new()
                .host(self.host())
                .port(self.port)
                .dbname(db)
                .user(user)
                .password(password),
        )
    }

    /// A superuser's session, through the server's socket: no password to compute.
    #[track_caller]
    pub fn superuser_session(&self, db: &str) -> Client {
        match self.try_superuser_session(db) {
            Ok(client) => client,
            Err(error) => panic!("connect to {db} of {self:?}: {}", sql::words(&error)),
        }
    }

    pub(super) fn try_superuser_session(&self, db: &str) -> Result<Client, Error> {
        sql::connect(
            Config::new()
                .host_path(&self.home)
                .port(self.port)
                .dbname(db)
                .user(self.superuser()),
        )
    }

    /// Runs statements as the superuser.
    #[track_caller]
    pub fn sql(&self, db: &str, sql: &str) {
        self.rows(db, sql);
    }

    /// What the superuser gets to see, all as text.
    #[track_caller]
    pub fn rows(&self, db: &str, sql: &str) -> Vec<Row> {
        match self.try_rows(db, sql) {
            Ok(rows) => rows,
            Err(error) => panic!("run on {self:?}, database {db}: {error}\n{sql}"),
        }
    }

    /// The same, or the server's own words.
    pub fn try_rows(&self, db: &str, sql: &str) -> Result<Vec<Row>, String> {
        self.try_superuser_session(db)
            .and_then(|mut client| sql::rows(&mut client, sql))
            .map_err(|error| sql::words(&error))
    }

    /// The only value of the only row; NULL is the empty string.
    #[track_caller]
    pub fn value(&self, db: &str, sql: &str) -> String {
        let mut rows = self.rows(db, sql);
        assert!(
            rows.len() == 1 && rows[0].len() == 1,
            "one value was expected, not {rows:?}, from\n{sql}"
        );
        rows.remove(0).remove(0).unwrap_or_default()
    }

    /// A `postgres://` address, everything in it escaped.
    pub fn url(&self, db: &str, user: &str, password: &str) -> String {
        let [db, user, password] = [db, user, password].map(percent_encoded);
        format!(
            "postgres://{user}:{password}@{}:{}/{db}",
            self.host(),
            self.port
        )
    }

    /// A `key=value` connection string, everything in it quoted.
    pub fn conninfo(&self, db: &str, user: &str, password: &str) -> String {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        format!(
            "host={} port={} dbname='{}' user='{}' password='{}'",
            self.host(),
            self.port,
            quoted(db),
            quoted(user),
            quoted(password)
        )
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, port, .. } = self;
        write!(f, "server {version} ({:?}) on port {port}", self.flavour)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shut_down(libc::SIGQUIT);
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Stops the postmaster, so that it makes no more children, and then all it has.
fn stop_all(postmaster: u32) -> Vec<u32> {
    process::signal(postmaster, libc::SIGSTOP);
    let mut all = process::children_of(postmaster);
    all.push(postmaster);
    for pid in &all {
        process::signal(*pid, libc::SIGSTOP);
    }
    all
}

/// `nobody`, when the tests run as root: servers refuse to.
fn server_user() -> Option<(u32, u32)> {
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

/// Below the range from which the kernel takes the client ends of connections.
fn any_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7919);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let port = FIRST + start.wrapping_add(next.wrapping_mul(37)) % COUNT;
    u16::try_from(port).expect("a port below 32000")
}

/// The server's programs where the server's user can run them.
fn programs(version: u32) -> PathBuf {
    let cached = fetch::server(version).unwrap_or_else(|error| panic!("{error}"));
    let Some((uid, gid)) = server_user() else {
        return cached;
    };
    static COPIES: Mutex<Option<HashMap<u32, PathBuf>>> = Mutex::new(None);
    let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    let copies = copies.get_or_insert_default();
    let copy = copies.entry(version).or_insert_with(|| {
        let reachable = Command::new(cached.join("bin/postgres"))
            .arg("--version")
            .uid(uid)
            .gid(gid)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if reachable.is_ok_and(|status| status.success()) {
            return cached;
        }
        let copy = run::subdir("programs");
        mirror(&cached, &copy).unwrap_or_else(|error| panic!("copy {}: {error}", cached.display()));
        copy
    });
    copy.clone()
}

/// Links files where the two directories share a disk, and copies them where they do not.
fn mirror(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&to)?;
            mirror(&from, &to)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        } else if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)?;
            File::open(&to)?.set_permissions(fs::metadata(&from)?.permissions())?;
        }
    }
    Ok(())
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("write to a string");
        }
    }
    encoded
}
