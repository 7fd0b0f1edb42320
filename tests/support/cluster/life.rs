//! Starting a server and ending it, kindly or not.

use std::fs::OpenOptions;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::super::{process, wait};
use super::Cluster;

const STARTED_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const PORTS_TRIED: u32 = 20;

impl Cluster {
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

    pub(super) fn launch_on_a_free_port(&mut self) {
        for _ in 0..PORTS_TRIED {
            self.port = any_port();
            match self.launch() {
                Ok(()) => return,
                Err(log) if log.contains("could not bind") => {}
                Err(log) => panic!("start {self:?}:\n{log}"),
            }
        }
        panic!("start {self:?}: no port is free");
    }

    /// Starts the postmaster and returns when it answers, or the end of its log.
    fn launch(&self) -> Result<(), String> {
        let log = self.home.join("log");
        let log = || {
            let options = OpenOptions::new().create(true).append(true).open(&log);
            options.expect("open the server's log")
        };
        let read_before = log().metadata().map_or(0, |found| found.len());
        let mut command = self.programs.command("postgres", &self.home);
        if self.disk_library().exists() {
            command
                .env("LD_PRELOAD", self.disk_library())
                .env("SLOW_DISK", self.slow_disk());
        }
        let mut child = command
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

    /// An orderly shutdown that does not wait for clients.
    pub fn stop(&self) {
        self.must_be_private();
        self.shut_down(libc::SIGINT);
    }

    pub(super) fn shut_down(&self, how: i32) {
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

/// Below the range from which the kernel takes the client ends of connections.
pub fn any_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7919);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let port = FIRST + start.wrapping_add(next.wrapping_mul(37)) % COUNT;
    u16::try_from(port).expect("a port below 32000")
}
