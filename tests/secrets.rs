//! No password of a run is in an argument, a stranger's environment, a log, an error or a file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, process, wait};

/// The last is in three of them, whatever becomes of their quotes and backslashes in SQL.
const SECRETS: [&str; 5] = [
    Passwords::ADMIN,
    Passwords::APP,
    Passwords::OWNER,
    Passwords::REPL,
    "\"secret\"",
];

/// Looks at every process of the machine, over and over, until it is told to stop.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<String>, usize)>,
}

impl Watch {
    fn start() -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut found, mut rounds) = (Vec::new(), 0);
            while !told.load(Ordering::SeqCst) {
                rounds += 1;
                found.extend(leaks_of_processes());
            }
            (found, rounds)
        });
        Watch { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        let (found, rounds) = self.thread.join().expect("the watch");
        assert!(rounds > 20, "only {rounds} looks at the processes");
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Passwords in any argument, or in the environment of a program that is not the one they are for.
fn leaks_of_processes() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        // A process may end while it is looked at.
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&read("cmdline")).into_owned();
        if let Some(secret) = secret_in(&arguments) {
            found.push(format!("{secret:?} in the arguments {arguments:?}"));
        }
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        let program = arguments.split('\0').next().unwrap_or_default().to_owned();
        let for_it = ["psql", "pg_dump", "pg_dumpall"]
            .iter()
            .any(|name| program.ends_with(name));
        // Between fork and exec a tool still has the name of its parent.
        let being_born = program.ends_with("flare") && environment.contains("PGAPPNAME");
        if !for_it && !being_born && secret_in(&environment).is_some() {
            found.push(format!("a password in the environment of {program:?}"));
        }
    }
    found
}

fn secret_in(text: &str) -> Option<&'static str> {
    SECRETS.into_iter().find(|secret| text.contains(secret))
}

fn assert_empty(directory: &Path) {
    let left: Vec<_> = std::fs::read_dir(directory)
        .expect("a directory")
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn no_password_is_anywhere_it_could_be_read() {
    let logging = [
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
        ("log_line_prefix", "%m [%p] %a "),
        ("log_connections", "on"),
    ];
    let pair = Pair::between(
        Cluster::private(13, &logging),
        Cluster::private(17, &logging),
    )
    .with_accounts(10);
    let (db, sub) = (pair.db(), pair.subname());
    // The harness makes its roles in clear: what stands in the logs so far is not flare's.
    let begun = [pair.publisher(), pair.subscriber()].map(|server| server.log().len());
    let watch = Watch::start();
    for command in [
        &["verify_connectivity"][..],
        &["replicate_roles"],
        &["install_extensions", db],
        &["grant_create", db],
        &["grant_replication", db],
        &["replicate_schema", db],
        &["create_publication", db],
        &["create_subscription", sub, "--use-repl-user", "--wait"],
        &["monitor", db, sub, "--once"],
        &["vacuum_analyze", db],
        &["pause_write", db, "--allowed-rep-duration", "0s"],
        &["resume_write", db],
        &["replicate_roles"],
        &["drop_subscription", sub],
    ] {
        // What is printed, in every detail, is looked through by the harness.
        for format in ["human", "json"] {
            let args = [command, &["--format", format]].concat();
            pair.flare_env(&[("RUST_LOG", "trace")], &args).ok();
        }
    }
    watch.end();
    for (server, begun) in [pair.publisher(), pair.subscriber()].into_iter().zip(begun) {
        let log = server.log();
        for line in log[begun..].lines() {
            assert_eq!(secret_in(line), None, "{line}");
            assert!(!line.contains("SCRAM-SHA-256$"), "{line}");
        }
        assert!(log[begun..].contains("flare/"), "nothing was logged at all");
    }
    assert_empty(&pair.temp_dir());
}

#[test]
fn kill_9_in_the_middle_leaves_no_dump() {
    let pair = Pair::alone(14, 16).with_accounts(10);
    // The load stops at a lock on the roles; a dump with every hash is there by then.
    let mut session = pair.subscriber().superuser_session("postgres");
    session
        .batch_execute("BEGIN; LOCK TABLE pg_authid IN EXCLUSIVE MODE")
        .expect("a lock");
    let running = pair.spawn(&["replicate_roles"]);
    wait::for_("psql to wait", std::time::Duration::from_secs(20), || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        pair.subscriber().value("postgres", waiting) != "0"
    });
    assert_empty(&pair.temp_dir());
    running.kill_9();
    session
        .batch_execute("ROLLBACK")
        .expect("the end of the lock");
    assert_empty(&pair.temp_dir());
    let psql = || process::naming(pair.dir()).is_empty();
    wait::for_("the tools to end", std::time::Duration::from_secs(20), psql);
    // Nothing or all of it: a second run finishes.
    pair.flare(&["replicate_roles"]).ok();
    let roles = format!(
        "SELECT count(*) FROM pg_roles WHERE rolname = '{}'",
        pair.names().app
    );
    assert_eq!(pair.subscriber().value("postgres", &roles), "1");
}

#[test]
fn a_configuration_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let pair = Pair::new(15, 16);
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(pair.config_path(), open).expect("open it");
    pair.flare(&["verify_connectivity"]).ok().says("flare.yml");
}
