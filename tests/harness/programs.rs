//! Programs that tests run: clients of each version, flare itself, and what is asserted of a run.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use super::LIMIT;
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, clients, process, wait};

#[test]
fn client_programs_run() {
    for version in [15, 17, 18] {
        let Some(bin) = clients::bin(version) else {
            assert_eq!(version, 15, "only those of the system may be missing");
            continue;
        };
        for program in ["psql", "pg_dump", "pg_dumpall", "pg_restore", "pgbench"] {
            let banner = Command::new(bin.join(program))
                .arg("--version")
                .output()
                .expect("run a client program");
            let banner = String::from_utf8_lossy(&banner.stdout).into_owned();
            let expected = format!("{program} (PostgreSQL) {version}.");
            assert!(banner.starts_with(&expected), "{banner}");
        }
    }
    let server = Cluster::publisher(17);
    let one = Command::new("psql")
        .env("PATH", clients::path(18))
        .env("PGPASSWORD", Passwords::ADMIN)
        .args(["-X", "-A", "-t", "-c", "SELECT 1", "-h", server.host()])
        .args(["-p", &server.port().to_string(), "-U", server.admin()])
        .output()
        .expect("run psql");
    assert_eq!(String::from_utf8_lossy(&one.stdout), "1\n");
}

#[test]
fn the_program_runs_with_the_configuration() {
    let pair = Pair::new(17, 18).clients(17);
    pair.configure(|config| config["cutover"]["app_users"] = "somebody".into());
    let config = fs::read_to_string(pair.config_path()).expect("read flare.yml");
    assert!(config.contains("app_users: somebody"), "{config}");
    assert!(config.contains(&pair.publisher().system_identifier()));

    let help = pair.flare_env(&[("NO_COLOR", "1")], &["--help"]);
    assert_eq!(help.ok().stderr(), "");
    let running = pair.spawn(&["--help"]);
    running.wait().ok();
    assert_eq!(pair.temp_dir().read_dir().expect("list").count(), 0);
}

#[test]
fn a_program_at_work_is_awaited_signalled_and_ended() {
    let script = "read line; echo out $line; echo ready >&2; exec sleep 60";
    let running = shell(script).stdin("in\n").spawn();
    running.until_stderr("ready").until_stdout("out in");
    assert!(!running.has_ended());
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().signal(), Some(libc::SIGTERM));

    // A child that is left behind does not hold the test up, and is ended with it.
    let running = shell("sleep 61 & echo $!; kill -9 $$").spawn();
    let pid = running.until_stdout("\n").stdout_so_far();
    let output = running.wait();
    assert_eq!(output.signal(), Some(libc::SIGKILL));
    let pid = pid.trim().parse().expect("a process id");
    wait::for_("the child to go", LIMIT, || !process::is_running(pid));
}

#[test]
fn assertions_on_a_run_show_it() {
    let output = shell("echo '{\"ok\": false}'; echo why >&2; exit 3").run();
    output.code(3).fails_with("why").prints("ok");
    assert_eq!(output.json()["ok"], false);
    let shown = message(|| _ = output.ok());
    assert!(shown.contains("exit code 0 was expected"), "{shown}");
    assert!(shown.contains("--- stderr\nwhy\n"), "{shown}");

    let twice = shell("echo '{}'; echo '{}'").run();
    assert!(message(|| drop(twice.json())).contains("not one JSON object"));

    let told = message(|| drop(shell("echo pass").secrets(["pass".into()]).run()));
    assert!(told.contains("a password stands in stdout"), "{told}");

    let short = Duration::from_millis(50);
    let told = message(|| drop(shell("echo so far; exec sleep 62").limit(short).run()));
    assert!(told.contains("not at its end after 50ms"), "{told}");
}

fn shell(script: &str) -> Invocation {
    Invocation::of("/bin/sh", &["-c", script]).env("PATH", "/usr/bin:/bin")
}

/// What it panics with.
fn message(fails: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(fails)).expect_err("a failed assertion");
    *panic.downcast::<String>().expect("a message")
}
