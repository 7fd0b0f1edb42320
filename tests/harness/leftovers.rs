//! Nothing of a test run stays, however it ends.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::LIMIT;
use crate::support::{Cluster, process, run, wait};

/// A run of this test program of its own, with one server, which ends as the test says.
struct Victim {
    child: Child,
    stdout: BufReader<ChildStdout>,
    dir: PathBuf,
    processes: Vec<u32>,
}

const ENDING: &str = "FLARE_HARNESS_VICTIM_ENDS_BY";

#[test]
fn nothing_is_left_after_an_exit() {
    Victim::start("exit").must_be_gone_at_once();
}

#[test]
fn nothing_is_left_after_a_panic() {
    Victim::start("panic").must_be_gone_at_once();
}

#[test]
fn nothing_is_left_after_ctrl_c() {
    let victim = Victim::start("wait");
    process::signal(victim.child.id(), libc::SIGINT);
    victim.must_be_gone_soon();
}

#[test]
fn nothing_is_left_after_kill_9() {
    let victim = Victim::start("wait");
    process::signal(victim.child.id(), libc::SIGKILL);
    victim.must_be_gone_soon();
}

#[test]
fn nothing_is_left_after_kill_9_with_a_frozen_server() {
    let victim = Victim::start("freeze");
    process::signal(victim.child.id(), libc::SIGKILL);
    victim.must_be_gone_soon();
}

#[test]
#[ignore = "run by the tests that end it"]
fn victim() {
    let Ok(ending) = env::var(ENDING) else {
        return;
    };
    let server = Cluster::private(18, &[]);
    let postmaster = server.postmaster_pid();
    let mut processes = process::children_of(postmaster);
    processes.push(postmaster);
    if ending == "freeze" {
        server.freeze();
    }
    println!("victim {} {processes:?}", run::dir().display());
    match ending.as_str() {
        "exit" => std::mem::forget(server),
        "panic" => {
            std::mem::forget(server);
            panic!("as asked");
        }
        _ => loop {
            std::thread::park();
        },
    }
}

impl Victim {
    fn start(ending: &str) -> Self {
        let mut program = Command::new(env::current_exe().expect("find this program"));
        // What runs in the background of a shell ignores it, and its children inherit that.
        unsafe {
            program.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
        let mut child = program
            .args([
                "--exact",
                "harness::leftovers::victim",
                "--ignored",
                "--nocapture",
            ])
            .env(ENDING, ending)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("run this program once more");
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output"));
        let mut line = String::new();
        while !line.contains("victim /") {
            line.clear();
            let read = stdout.read_line(&mut line).expect("read from the victim");
            assert!(read > 0, "the victim said nothing");
        }
        let said = &line[line.find("victim /").expect("a directory") + "victim ".len()..];
        let (dir, processes) = said
            .trim()
            .split_once(' ')
            .expect("directory and processes");
        let victim = Self {
            child,
            stdout,
            dir: PathBuf::from(dir),
            processes: serde_json::from_str(processes).expect("process ids"),
        };
        assert!(victim.processes.len() > 3, "{:?}", victim.processes);
        victim
    }

    fn must_be_gone_at_once(mut self) {
        self.child.wait().expect("wait for the victim");
        self.assert_gone();
    }

    fn must_be_gone_soon(mut self) {
        self.child.wait().expect("wait for the victim");
        wait::for_("the watcher to clean up", LIMIT, || !self.dir.exists());
        self.assert_gone();
    }

    fn assert_gone(&mut self) {
        assert!(!self.dir.exists(), "{} is left", self.dir.display());
        let named = process::naming(&self.dir.join(""));
        assert!(named.is_empty(), "{named:?} are left");
        // The kernel takes a killed process off its list a moment later.
        wait::for_("the server's processes to go", LIMIT, || {
            !self.processes.iter().any(|pid| process::is_running(*pid))
        });
        let mut rest = String::new();
        let _ = self.stdout.read_to_string(&mut rest);
    }
}
