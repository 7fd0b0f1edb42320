//! Client libraries of Python and JavaScript, fetched once into `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::writer::{Writer, stay_through_a_restart_and_move_there_and_back};
use super::{orders, ready, url};
use crate::support::Pair;

/// Where libraries of this language are.
pub fn home(of: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("target").join("clients").join(of)
}

pub fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A Python that has the libraries.
fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let made = PYTHON.get_or_init(|| {
        let home = home("python");
        let python = home.join("bin/python");
        if !home.join("complete").exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&home));
            let libraries = ["psycopg2-binary", "psycopg[binary,pool]", "asyncpg"];
            run(Command::new(&python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                ])
                .args(libraries));
            std::fs::write(home.join("complete"), "").expect("say that it is complete");
        }
        python
    });
    made.clone()
}

/// A directory whose `node_modules` has postgres.js.
fn javascript() -> PathBuf {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    let made = HOME.get_or_init(|| {
        let home = home("javascript");
        std::fs::create_dir_all(&home).expect("make a directory");
        if !home.join("node_modules/postgres").exists() {
            run(Command::new("npm")
                .args([
                    "install",
                    "--silent",
                    "--no-audit",
                    "--no-fund",
                    "postgres@3",
                ])
                .current_dir(&home));
        }
        home
    });
    made.clone()
}

fn python_writer(pair: &Pair, library: &str, mode: &str, name: &str, url: &str) -> Writer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/writer.py");
    let mut command = Command::new(python());
    command.arg(script).args([library, mode, name, url]);
    Writer::start(pair, name, command)
}

fn javascript_writer(pair: &Pair, mode: &str, name: &str, url: &str) -> Writer {
    let home = javascript();
    // It finds the library beside itself.
    let script = home.join("writer.mjs");
    std::fs::write(&script, include_str!("writer.mjs")).expect("write the script");
    let mut command = Command::new("node");
    command.arg(script).args([mode, name, url]);
    Writer::start(pair, name, command)
}

#[test]
#[ignore = "fetches client libraries; make soak"]
fn libraries_with_both_addresses_move_there_and_back() {
    for (old, new) in [(16, 18), (10, 14)] {
        there_and_back(&ready(Pair::alone(old, new)), old);
    }
}

#[test]
#[ignore = "fetches client libraries; make soak"]
fn clients_in_the_middle_of_something_move_there_and_back() {
    let pair = ready(Pair::alone(13, 17));
    let writers = shapes(&pair);
    stay_through_a_restart_and_move_there_and_back(&pair, writers);
}

fn there_and_back(pair: &Pair, old: u32) {
    stay_through_a_restart_and_move_there_and_back(pair, writers(pair, old, |_| true));
}

/// Clients of all libraries, in both orders of addresses, that are wanted by their names.
pub fn writers(pair: &Pair, old: u32, is_wanted: impl Fn(&str) -> bool) -> Vec<Writer> {
    let mut writers = Vec::new();
    for (order, servers) in ["old_new", "new_old"].into_iter().zip(orders(pair)) {
        let url = url(pair, servers, "");
        for (library, mode) in [
            ("psycopg2", "each"),
            ("psycopg2", "kept"),
            ("psycopg", "each"),
            ("psycopg", "pool"),
            ("asyncpg", "each"),
            ("asyncpg", "kept"),
            ("asyncpg", "pool"),
        ] {
            // It knows what a server reports by itself, and one of 10 to 13 does not report this.
            if library == "asyncpg" && order == "old_new" && old < 14 {
                continue;
            }
            let name = format!("{library}_{mode}_{order}");
            if !is_wanted(&name) {
                continue;
            }
            writers.push(python_writer(pair, library, mode, &name, &url));
        }
        // Its own option says read-write: it hands unknown ones of the address to the server.
        let plain = url.split('?').next().expect("an address");
        // Opened and ended for each statement it hangs or dies whenever a server ends a session that is starting, flare or not
        // (3.4.9): the README says so.
        for mode in ["kept", "pool"] {
            let name = format!("postgresjs_{mode}_{order}");
            if is_wanted(&name) {
                writers.push(javascript_writer(pair, mode, &name, plain));
            }
        }
    }
    let [forward, _] = orders(pair);
    let random = url(pair, forward, "&load_balance_hosts=random");
    writers.push(python_writer(
        pair,
        "psycopg2",
        "each",
        "psycopg2_random",
        &random,
    ));
    writers
}

/// What else an application may be at when its session ends.
pub fn shapes(pair: &Pair) -> Vec<Writer> {
    let [forward, backward] = orders(pair).map(|servers| url(pair, servers, ""));
    let shapes = ["idle", "long", "copy", "cursor", "listen", "advisory"];
    let urls = [&forward, &backward].into_iter().cycle();
    let writers = shapes.into_iter().zip(urls);
    writers
        .map(|(shape, url)| python_writer(pair, "psycopg2", shape, shape, url))
        .collect()
}
