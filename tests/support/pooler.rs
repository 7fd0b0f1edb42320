//! A PgBouncer of the test's own, in front of a pair's publisher until a hook leads it elsewhere.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postgres::{NoTls, SimpleQueryMessage};

use super::cluster::{any_port, as_server_user, reachable, server_user};
use super::fetch::{self, PgBouncer};
use super::pair::Passwords;
use super::{Pair, process, run, wait};

/// May PAUSE and RESUME.
const ADMIN: &str = "flare_admin";
/// May only look.
const WATCHER: &str = "watcher";
const STARTED_WITHIN: Duration = Duration::from_secs(20);
const PORTS_TRIED: u32 = 20;

/// How long a client keeps a session of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Transaction,
    Session,
}

/// It ends with its value.
pub struct Pooler {
    home: PathBuf,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Pooler {
    /// One whose database leads to the pair's on the publisher.
    pub fn start(pair: &Pair, mode: Mode) -> Self {
        let mut pooler = Self {
            home: run::subdir("pooler"),
            port: 0,
            child: Mutex::new(None),
        };
        let publisher = pair.publisher();
        let line = database_line(publisher.host(), &publisher.port().to_string(), pair.db());
        fs::write(pooler.databases(), line).expect("write the pooler's databases");
        for _ in 0..PORTS_TRIED {
            pooler.port = any_port();
            pooler.furnish(pair, mode);
            match pooler.launch() {
                Ok(()) => return pooler,
                Err(log) if log.contains("ddress already in use") => {}
                Err(log) => panic!("start a pooler:\n{log}"),
            }
        }
        panic!("start a pooler: no port is free");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What its clients call the pair's database.
    pub fn database(&self) -> &'static str {
        "bench"
    }

    /// Names these, and the hooks that lead them from one server to the other, in the pair's configuration.
    pub fn configure(pair: &Pair, poolers: &[&Pooler]) {
        pair.configure(|config| {
            let entries: Vec<serde_yaml::Value> = poolers.iter().map(|it| it.entry()).collect();
            config["cutover"]["poolers"] = entries.into();
            let hooks = &mut config["cutover"]["hooks"];
            hooks["switch"] = hook(poolers, "TO").into();
            hooks["on_undo"] = hook(poolers, "FROM").into();
        });
    }

    /// Its entry of `cutover.poolers`.
    fn entry(&self) -> serde_yaml::Value {
        let text = format!(
            "{{admin: {{host: 127.0.0.1, port: {}, user: {ADMIN}}}, database: {}}}",
            self.port,
            self.database()
        );
        let mut entry: serde_yaml::Value = serde_yaml::from_str(&text).expect("an entry");
        entry["admin"]["password"] = Passwords::POOLER.into();
        entry
    }

    /// Starts it again after it was killed, on its port and with what its files say now.
    pub fn start_again(&self) {
        if let Err(log) = self.launch() {
            panic!("start a pooler again:\n{log}");
        }
    }

    /// From now on it takes the options of a connection and keeps them back, instead of refusing them.
    pub fn keep_options_back(&self) {
        let ini = self.home.join("pgbouncer.ini");
        let mut text = fs::read_to_string(&ini).expect("read the pooler's configuration");
        text.push_str("ignore_startup_parameters = options\n");
        fs::write(ini, text).expect("write the pooler's configuration");
        self.ask("RELOAD");
    }

    pub fn kill_9(&self) {
        if let Some(mut child) = self.child().take() {
            child.kill().expect("kill the pooler");
            child.wait().expect("wait for the pooler");
        }
    }

    /// Stops it where it stands; the kernel still accepts connections.
    pub fn freeze(&self) {
        process::signal(self.pid(), libc::SIGSTOP);
        wait::for_("the pooler to stop", STARTED_WITHIN, || {
            process::is_stopped(self.pid())
        });
    }

    pub fn thaw(&self) {
        process::signal(self.pid(), libc::SIGCONT);
    }

    /// Gives a command to the admin console, as somebody else than flare.
    #[track_caller]
    pub fn ask(&self, command: &str) {
        self.try_ask(command).expect("ask the pooler");
    }

    /// Whether its clients wait.
    pub fn is_paused(&self) -> bool {
        self.column("paused").as_deref() == Some("1")
    }

    /// The server that its clients are led to.
    pub fn leads_to(&self) -> Option<u16> {
        self.column("port")?.parse().ok()
    }

    fn column(&self, column: &str) -> Option<String> {
        let answer = self.try_ask("SHOW DATABASES").expect("ask the pooler");
        answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get("name") == Some(self.database()) => {
                row.get(column).map(str::to_owned)
            }
            _ => None,
        })
    }

    fn try_ask(&self, command: &str) -> Result<Vec<SimpleQueryMessage>, postgres::Error> {
        let mut console = postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user(ADMIN)
            .password(Passwords::POOLER)
            .dbname("pgbouncer")
            .connect(NoTls)?;
        console.simple_query(command)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pid(&self) -> u32 {
        self.child()
            .as_ref()
            .expect("the pooler is not running")
            .id()
    }

    /// The file that the configuration includes and the hooks rewrite.
    fn databases(&self) -> PathBuf {
        self.home.join("databases.ini")
    }

    fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    fn furnish(&self, pair: &Pair, mode: Mode) {
        let mode = match mode {
            Mode::Transaction => "transaction",
            Mode::Session => "session",
        };
        let home = self.home.display();
        let (host, port) = (pair.publisher().host(), pair.publisher().port());
        let ini = format!(
            "\
[databases]
* = host={host} port={port}
%include {home}/databases.ini
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {home}/users
admin_users = {ADMIN}
stats_users = {WATCHER}
pool_mode = {mode}
",
            self.port
        );
        let users: String = [
            (ADMIN, Passwords::POOLER),
            (WATCHER, Passwords::POOLER),
            (&pair.names().app, Passwords::APP),
            (pair.publisher().superuser(), Passwords::ADMIN),
        ]
        .map(|(user, password)| format!("\"{user}\" \"{}\"\n", password.replace('"', "\"\"")))
        .concat();
        for (name, text) in [("pgbouncer.ini", ini), ("users", users)] {
            fs::write(self.home.join(name), text).expect("write the pooler's files");
        }
        if let Some((uid, gid)) = server_user() {
            chown(&self.home, Some(uid), Some(gid)).expect("give the pooler its directory");
        }
    }

    /// Starts it and returns when its console answers, or its log.
    fn launch(&self) -> Result<(), String> {
        let open = || {
            let mut options = OpenOptions::new();
            let options = options.create(true).append(true);
            options.open(self.log()).expect("open the pooler's log")
        };
        let mut child = command(&self.home)
            .arg(self.home.join("pgbouncer.ini"))
            .stdout(Stdio::null())
            .stderr(open())
            .spawn()
            .expect("start the pooler");
        let mut ended = false;
        let answers = wait::until(STARTED_WITHIN, || {
            ended = child.try_wait().expect("look at the pooler").is_some();
            ended || self.try_ask("SHOW VERSION").is_ok()
        });
        *self.child() = Some(child);
        if answers && !ended {
            Ok(())
        } else {
            Err(fs::read_to_string(self.log()).unwrap_or_default())
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.kill_9();
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// The program, as a user it agrees to run as.
fn command(dir: &Path) -> Command {
    match fetch::pgbouncer().unwrap_or_else(|error| panic!("{error}")) {
        PgBouncer::Installed(program) => as_server_user(&program, dir),
        PgBouncer::Unpacked(home) => {
            let home = reachable(&home, "pgbouncer");
            let mut command = as_server_user(&home.join("bin/pgbouncer"), dir);
            command.env("LD_LIBRARY_PATH", home.join("lib"));
            command
        }
    }
}

fn database_line(host: &str, port: &str, db: &str) -> String {
    format!("[databases]\nbench = host={host} port={port} dbname={db}\n")
}

/// Leads all of these to the server that `FLARE_<SIDE>_HOST` and `_PORT` name, each file whole or not at all.
fn hook(poolers: &[&Pooler], side: &str) -> Vec<String> {
    let line = database_line(
        &format!("$FLARE_{side}_HOST"),
        &format!("$FLARE_{side}_PORT"),
        "$FLARE_DBNAME",
    );
    let rewrite = poolers.iter().map(|pooler| {
        let file = pooler.databases().display().to_string();
        format!("printf '%s' \"{line}\" > '{file}.new' && mv '{file}.new' '{file}'")
    });
    let script = rewrite.collect::<Vec<String>>().join(" && ");
    ["/bin/sh", "-c", &script].map(str::to_owned).to_vec()
}
