//! No password is where others can see it, and every session says whose it is.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, process, wait};

const ALL: [&str; 4] = [
    Passwords::ADMIN,
    Passwords::APP,
    Passwords::OWNER,
    Passwords::REPL,
];

/// A password as it may be spelled: plain, quoted for SQL, a connection string, JSON or a URL.
fn spellings(password: &str) -> Vec<String> {
    let conninfo = password.replace('\\', "\\\\").replace('\'', "\\'");
    let url = password.bytes().map(|byte| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    vec![
        password.to_owned(),
        password.replace('\'', "''"),
        conninfo.replace('\'', "''"),
        conninfo,
        password.replace('\\', "\\\\").replace('"', "\\\""),
        url.collect(),
    ]
}

#[track_caller]
fn assert_holds_none(text: &str, what: &str) {
    for password in ALL {
        for spelling in spellings(password) {
            if let Some(at) = text.find(&spelling) {
                let line = text[..at].lines().count();
                panic!("{password:?} stands in {what}, line {line}");
            }
        }
    }
}

/// Looks at every process all along.
struct Watch {
    stop: Arc<AtomicBool>,
    watcher: JoinHandle<(BTreeSet<String>, BTreeSet<String>, u32)>,
}

impl Watch {
    fn start() -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let own = std::process::id();
        let watcher = thread::spawn(move || {
            let (mut exposed, mut tools, mut looks) = (BTreeSet::new(), BTreeSet::new(), 0);
            while !stopped.load(Ordering::Relaxed) {
                for pid in process::pids().filter(|pid| *pid != own) {
                    let read = |name: &str| {
                        let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                        String::from_utf8_lossy(&bytes).replace('\0', "\n")
                    };
                    // In this order: a tool that is being started has its own name by the time it has its environment.
                    let (environment, command) = (read("environ"), read("cmdline"));
                    let holds = |text: &str| ALL.iter().any(|password| text.contains(password));
                    if holds(&command) {
                        exposed.insert(format!("the arguments of {command}"));
                    }
                    // pg_dumpall asks a shell for the version of pg_dump.
                    let tool_of = |command: &str| {
                        let tools = ["pg_dumpall", "pg_dump", "psql", "pgbench"];
                        tools.into_iter().find(|tool| command.contains(tool))
                    };
                    // While it is being started its name may be read in part.
                    let tool = tool_of(&command).or_else(|| tool_of(&read("cmdline")));
                    // A process that has ended meanwhile has no name.
                    if holds(&environment) && !command.is_empty() {
                        match tool {
                            Some(tool) => tools.insert(tool.to_owned()),
                            None => exposed.insert(format!("the environment of {command}")),
                        };
                    }
                }
                looks += 1;
                thread::sleep(Duration::from_millis(2));
            }
            (exposed, tools, looks)
        });
        Watch { stop, watcher }
    }

    /// Which tools were seen to hold a password in their environment.
    #[track_caller]
    fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        let (exposed, tools, looks) = self.watcher.join().expect("the watcher");
        assert!(looks > 100, "{looks} looks are too few");
        assert!(exposed.is_empty(), "a password stands in {exposed:#?}");
        tools
    }
}

#[test]
fn no_password_is_seen_anywhere_and_every_session_has_its_name() {
    let talkative = [
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
        ("log_connections", "on"),
        ("log_disconnections", "on"),
        ("log_replication_commands", "on"),
        ("log_line_prefix", "[%a|%d] "),
    ];
    let (publisher, subscriber) = (
        Cluster::private(14, &talkative),
        Cluster::private(17, &talkative),
    );
    let pair = Pair::between(publisher, subscriber).with_accounts(1000);
    let (db, sub) = (pair.db(), pair.subname());
    let from = [pair.publisher(), pair.subscriber()].map(|server| server.log().len());
    let watch = Watch::start();
    let flow: [&[&str]; 17] = [
        &["verify_connectivity"],
        &["replicate_roles"],
        &["replicate_roles", "--only-dump", "--no-passwords"],
        &["replicate_schema", db],
        &["replicate_schema", "--only-dump", db],
        &["install_extensions", db],
        &["grant_create", "--use-db-owner", db],
        &["grant_replication", "--use-db-owner", db],
        &["create_publication", db],
        &["create_subscription", "--use-repl-user", "--wait", sub],
        &["count", "--both", db, "pgbench_accounts"],
        &["vacuum_analyze", db],
        &["exec", "--", "env"],
        &["monitor", "--once", db, sub],
        &["pause_write", "--allowed-rep-duration", "0s", db, sub],
        &["resume_write", db],
        &["drop_subscription", sub],
    ];
    for command in flow {
        for format in ["human", "json"] {
            let args = [&["--format", format], command].concat();
            let run = pair.invocation(&args).env("RUST_LOG", "trace").run();
            run.ok();
            assert_holds_none(run.stdout(), &format!("the output of {command:?}"));
            assert_holds_none(run.stderr(), &format!("the log of {command:?}"));
            assert!(!run.stdout().contains("SCRAM-SHA-256$"), "{command:?}");
            assert!(!run.stderr().contains("SCRAM-SHA-256$"), "{command:?}");
        }
    }
    let tools = watch.end();
    assert!(tools.contains("psql"), "the watcher saw only {tools:?}");
    for (server, from) in [pair.publisher(), pair.subscriber()].into_iter().zip(from) {
        let log = server.log().split_off(from);
        assert!(log.contains("statement: "), "statements are logged");
        // What the test itself says to the server is not flare's.
        let lines = log.lines().filter(|line| !line.starts_with("[flare-test|"));
        let log: String = lines.map(|line| format!("{line}\n")).collect();
        assert_holds_none(&log, &format!("the log of {server:?}"));
        if let Some(line) = log.lines().find(|line| line.contains("SCRAM-SHA-256$")) {
            panic!("a hash stands in the log of {server:?}: {line}");
        }
        let ended = log.lines().filter(|line| line.contains("disconnection: "));
        let mut names = BTreeSet::new();
        for line in ended {
            let name = line[1..].split('|').next().unwrap_or_default();
            names.insert(name.to_owned());
            // The servers' own: a subscription's worker, and the way back that `status` tries.
            let is_replication = line.contains(&format!("user={}", pair.names().repl))
                || name.ends_with("_flare_try");
            assert!(name.starts_with("flare/") || is_replication, "{line}");
        }
        for command in [
            "verify_connectivity",
            "replicate_roles",
            "replicate_schema",
            "count",
        ] {
            let name = format!("flare/{command}");
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
    }
    let left: Vec<_> = fs::read_dir(pair.temp_dir()).expect("list").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nothing_is_left_on_disk_after_a_kill() {
    let pair = Pair::alone(15, 17).with_accounts(10);
    let db = pair.db();
    // Whatever writes a role, or a relation, waits for this.
    for (command, table) in [
        (&["replicate_roles"][..], "pg_authid"),
        (&["replicate_schema", db], "pg_attrdef"),
    ] {
        if table == "pg_attrdef" {
            pair.flare(&["replicate_roles"]).ok();
            pair.publisher().sql(
                db,
                "ALTER TABLE pgbench_accounts ALTER abalance SET DEFAULT 0",
            );
            pair.create_database_on(pair.subscriber());
        }
        let on = match table {
            "pg_authid" => "postgres",
            _ => db,
        };
        let mut holder = pair.subscriber().superuser_session(on);
        holder
            .batch_execute(&format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE"))
            .expect("hold a lock");
        let running = pair.spawn(command);
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        wait::for_("psql to wait", Duration::from_secs(30), || {
            pair.subscriber().value("postgres", waits) == "1"
        });
        running.kill_9();
        wait::for_("flare to end", Duration::from_secs(5), || {
            running.has_ended()
        });
        let left: Vec<_> = fs::read_dir(pair.temp_dir()).expect("list").collect();
        assert!(left.is_empty(), "{left:?}");
        pair.subscriber().sql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        );
        holder.batch_execute("ROLLBACK").expect("let go");
    }
    pair.flare(&["replicate_schema", db]).ok();
}
