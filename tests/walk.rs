//! Two servers with the names that the README and the fixtures use, and a shell that stands before them.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use crate::support::flare::Invocation;
use crate::support::{Cluster, clients, flare, run};

pub const DB: &str = "bench";
const APP_PASSWORD: &str = "of the app";

/// A directory with `flare.yml`, between an old and a new server.
pub struct Walk {
    pub old: Arc<Cluster>,
    pub new: Arc<Cluster>,
    pub dir: PathBuf,
}

impl Walk {
    /// The database `bench` with pgbench's tables, a sequence and an extension on the old server; nothing on the new.
    pub fn new(old: u32, new: u32, config: &str) -> Walk {
        let walk = Walk {
            old: Cluster::private(old, &[]),
            new: Cluster::private(new, &[]),
            dir: run::subdir("walk"),
        };
        walk.old.sql(
            "postgres",
            &format!(
                "CREATE ROLE app LOGIN PASSWORD '{APP_PASSWORD}';
                 CREATE ROLE dbowner LOGIN CREATEDB PASSWORD 'of dbowner';
                 CREATE ROLE repl LOGIN REPLICATION PASSWORD 'of repl'"
            ),
        );
        walk.old
            .sql("postgres", "CREATE DATABASE bench OWNER dbowner");
        walk.old.sql(
            DB,
            "CREATE EXTENSION pgcrypto;
             SET ROLE dbowner;
             CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
             CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
             CREATE SEQUENCE orders_seq;
             SELECT setval('orders_seq', 4711);
             INSERT INTO pgbench_accounts SELECT aid, 1, 0 FROM generate_series(1, 1000) aid;
             GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO app",
        );
        for server in [&walk.old, &walk.new] {
            server.sql("postgres", "ALTER ROLE postgres PASSWORD 'of postgres'");
        }
        walk.write_config(config);
        let bin = walk.dir.join("bin");
        fs::create_dir(&bin).expect("make a directory");
        symlink(flare::program(), bin.join("flare")).expect("link flare");
        walk
    }

    /// The configuration as it is written, but with these servers' addresses and identifiers.
    fn write_config(&self, text: &str) {
        let mut config: serde_yaml::Value = serde_yaml::from_str(text).expect("parse YAML");
        for (side, server) in [("publisher", &self.old), ("subscriber", &self.new)] {
            let conn = &mut config["hosts"][side]["conn"];
            conn["host"] = server.host().into();
            conn["port"] = server.port().into();
            conn["system_identifier"] = server.system_identifier().into();
            for other in ["publisher", "subscriber"] {
                let [host, port] = ["host", "port"].map(|what| format!("{what}_via_{other}"));
                if conn.get(&host).is_some() {
                    conn[&host] = server.host().into();
                    conn[&port] = server.port().into();
                }
            }
        }
        let file = self.dir.join("flare.yml");
        fs::write(&file, serde_yaml::to_string(&config).expect("write YAML")).expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("close flare.yml");
    }

    /// A program in this directory, with flare and psql on PATH and the passwords in the environment.
    pub fn invocation(&self, program: &str, args: &[&str]) -> Invocation {
        let path = [self.dir.join("bin")]
            .into_iter()
            .chain(env::split_paths(&clients::path(18)))
            .collect::<Vec<_>>();
        Invocation::of(program, args)
            .current_dir(&self.dir)
            .env("PATH", env::join_paths(path).expect("join PATH"))
            .env("HOME", &self.dir)
            .env("PGPASSWORD_POSTGRES", "of postgres")
            .env("PGPASSWORD_DBOWNER", "of dbowner")
            .env("PGPASSWORD_REPL", "of repl")
    }

    pub fn history(&self, server: &Cluster) -> u64 {
        let count = server.value(DB, "SELECT count(*) FROM pgbench_history");
        count.parse().expect("a number")
    }

    /// Whether the application may, on the old server and on the new one.
    pub fn may_write(&self) -> [bool; 2] {
        let writes = "SELECT has_database_privilege('app', 'bench', 'CONNECT')
                         AND NOT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                                          WHERE d.datname = 'bench' AND s.setrole = 0
                                            AND 'default_transaction_read_only=on' = ANY (s.setconfig))";
        [&self.old, &self.new].map(|server| server.value("postgres", writes) == "t")
    }
}

/// The application: two clients that insert, and log in again when they are thrown out, on whichever server lets them.
pub struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Writers {
    pub fn start(walk: &Walk) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..2).map(|_| {
            let servers = [&walk.old, &walk.new].map(Arc::clone);
            let stop = Arc::clone(&stop);
            spawn(move || write_until(&stop, &servers))
        });
        Writers {
            threads: threads.collect(),
            stop,
        }
    }

    /// How many writes were acknowledged.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        let threads = self.threads.into_iter();
        threads.map(|thread| thread.join().expect("a writer")).sum()
    }
}

fn write_until(stop: &AtomicBool, servers: &[Arc<Cluster>]) -> u64 {
    let insert =
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, 1, 1, now())";
    let mut acknowledged = 0;
    for server in servers.iter().cycle() {
        if let Ok(mut session) = server.connect(DB, "app", APP_PASSWORD) {
            while !stop.load(Ordering::SeqCst) && session.batch_execute(insert).is_ok() {
                acknowledged += 1;
                sleep(Duration::from_millis(2));
            }
        }
        if stop.load(Ordering::SeqCst) {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    acknowledged
}
