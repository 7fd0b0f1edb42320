//! `exec`: another program with the servers' whereabouts, its streams and its ending.

use std::time::Duration;

use crate::support::{Pair, wait};

fn pair() -> Pair {
    Pair::new(17, 18)
}

#[test]
fn the_command_finds_both_servers_and_no_password() {
    let pair = pair();
    let output = pair.flare_env(&[("PGPASSWORD", "of the caller")], &["exec", "--", "env"]);
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    for (side, server) in [("PUBLISHER", publisher), ("SUBSCRIBER", subscriber)] {
        for (name, value) in [
            ("HOST", server.host().to_owned()),
            ("PORT", server.port().to_string()),
            ("USER", server.admin().to_owned()),
        ] {
            output
                .ok()
                .prints(&format!("FLARE_CONNINFO_{side}_{name}={value}\n"));
        }
    }
    output.prints("PGPASSWORD=of the caller\n");
}

#[test]
fn streams_and_exit_codes_are_the_commands() {
    let pair = pair();
    let output = pair
        .invocation(&["exec", "--", "sh", "-c", "cat; echo no >&2; exit 7"])
        .stdin("in\n")
        .run();
    output.code(7).prints("in\n").says("no\n");
    pair.flare(&["exec", "--", "sh", "-c", "kill -9 $$"])
        .code(137);
    pair.flare(&["exec", "--", "flare-no-such-program"])
        .code(127)
        .fails_with("flare-no-such-program");
    pair.flare(&["exec"]).code(2);
}

#[test]
fn signals_are_passed_on() {
    let pair = pair();
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let running = pair.spawn(&["exec", "--", "sh", "-c", script]);
    running.until_stdout("ready");
    running.signal(libc::SIGTERM);
    running.wait().code(9).prints("caught");
    let running = pair.spawn(&["exec", "--", "sleep", "60"]);
    wait::until(Duration::from_millis(1500), || running.has_ended());
    running.signal(libc::SIGINT);
    running.wait().code(128 + libc::SIGINT);
}

#[test]
fn nothing_is_run_when_a_server_is_another() {
    let pair = pair();
    pair.configure(|config| {
        config["hosts"]["subscriber"]["conn"]["system_identifier"] = "1".into()
    });
    let output = pair.flare(&["exec", "--", "echo", "was run"]);
    output.code(1).fails_with("system_identifier");
    assert_eq!(output.stdout(), "");
}
