//! Running the program as a user would, and saying what it did when that was wrong.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process;

/// No command of a test works longer; one that does is killed and reported.
const LIMIT: Duration = Duration::from_secs(120);

/// The program under test.
pub fn program() -> PathBuf {
    // Cargo names it to integration tests and benchmarks only.
    option_env!("CARGO_BIN_EXE_flare").map_or_else(
        || {
            let own = env::current_exe().expect("find this program");
            let profile = own
                .ancestors()
                .skip(1)
                .find(|dir| dir.join("flare").is_file());
            profile
                .expect("build flare before this program")
                .join("flare")
        },
        PathBuf::from,
    )
}

/// A run of the program that has not started yet.
pub struct Invocation {
    command: Command,
    secrets: Vec<String>,
    input: Option<String>,
    limit: Duration,
}

impl Invocation {
    /// With nothing of this process's environment.
    pub fn new(args: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(args).env_clear().env("LC_ALL", "C.UTF-8");
        Self {
            command,
            secrets: Vec::new(),
            input: None,
            limit: LIMIT,
        }
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.command.current_dir(dir.into());
        self
    }

    /// What the program reads from standard input; nothing by default.
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// What must never be printed, whatever happens.
    pub fn secrets(mut self, secrets: impl IntoIterator<Item = String>) -> Self {
        self.secrets.extend(secrets);
        self
    }

    /// Runs to its end.
    #[track_caller]
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts in a process group of its own, as a shell would start it.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let stdin = match self.input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", self.command));
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), self.input) {
            // A program that ends early reads no further: not this thread's concern.
            thread::spawn(move || stdin.write_all(text.as_bytes()));
        }
        let seen = Arc::new(Seen::default());
        let out = child.stdout.take().expect("standard output");
        let err = child.stderr.take().expect("standard error");
        let readers = [
            Arc::clone(&seen).collect(out, |sofar| &mut sofar.stdout),
            Arc::clone(&seen).collect(err, |sofar| &mut sofar.stderr),
        ];
        Running {
            command: format!("{:?}", self.command.get_args().collect::<Vec<_>>()),
            started: Instant::now(),
            pid: child.id(),
            waiter: Some(Arc::clone(&seen).wait_for(child, readers)),
            seen,
            secrets: self.secrets,
            limit: self.limit,
        }
    }
}

/// What a running program has printed so far, and how it ended.
#[derive(Default)]
struct Seen {
    sofar: Mutex<Sofar>,
    changed: Condvar,
}

#[derive(Default)]
struct Sofar {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: Option<(ExitStatus, Instant)>,
}

impl Seen {
    fn collect(
        self: Arc<Self>,
        mut from: impl Read + Send + 'static,
        to: fn(&mut Sofar) -> &mut Vec<u8>,
    ) -> JoinHandle<()> {
        thread::spawn(move || {
            let mut part = [0; 8192];
            while let Ok(read @ 1..) = from.read(&mut part) {
                to(&mut self.lock()).extend_from_slice(&part[..read]);
                self.changed.notify_all();
            }
        })
    }

    fn wait_for(self: Arc<Self>, mut child: Child, readers: [JoinHandle<()>; 2]) -> JoinHandle<()> {
        thread::spawn(move || {
            for reader in readers {
                let _ = reader.join();
            }
            let status = child.wait().expect("wait for flare");
            self.lock().ended = Some((status, Instant::now()));
            self.changed.notify_all();
        })
    }

    fn lock(&self) -> MutexGuard<'_, Sofar> {
        self.sofar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `holds` came true before the deadline.
    fn until(&self, deadline: Instant, holds: impl Fn(&Sofar) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let (sofar, _) = self
            .changed
            .wait_timeout_while(self.lock(), left, |sofar| !holds(sofar))
            .unwrap_or_else(PoisonError::into_inner);
        holds(&sofar)
    }
}

/// A program at work. Dropping it kills it.
pub struct Running {
    command: String,
    started: Instant,
    pid: u32,
    seen: Arc<Seen>,
    waiter: Option<JoinHandle<()>>,
    secrets: Vec<String>,
    limit: Duration,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn has_ended(&self) -> bool {
        self.seen.lock().ended.is_some()
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: i32) {
        if !self.has_ended() {
            process::signal(self.pid, signal);
        }
    }

    /// Sends a signal to the program and all it started, as Ctrl-C in a terminal does.
    pub fn signal_all(&self, signal: i32) {
        if !self.has_ended() {
            // SAFETY: killpg takes no pointer.
            unsafe { libc::killpg(self.pid.cast_signed(), signal) };
        }
    }

    /// Ends it without a chance to clean up.
    pub fn kill_9(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Waits until it has printed this to standard error.
    #[track_caller]
    pub fn until_stderr(&self, text: &str) -> &Self {
        self.until_printed(text, |sofar| &sofar.stderr)
    }

    /// Waits until it has printed this to standard output.
    #[track_caller]
    pub fn until_stdout(&self, text: &str) -> &Self {
        self.until_printed(text, |sofar| &sofar.stdout)
    }

    #[track_caller]
    fn until_printed(&self, text: &str, whence: fn(&Sofar) -> &Vec<u8>) -> &Self {
        let printed = |sofar: &Sofar| String::from_utf8_lossy(whence(sofar)).contains(text);
        self.seen.until(self.started + self.limit, |sofar| {
            sofar.ended.is_some() || printed(sofar)
        });
        if !printed(&self.seen.lock()) {
            panic!("{text:?} was never printed\n{}", self.told());
        }
        self
    }

    /// Waits for its end. One that does not come within the limit is a failure of the test.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let deadline = self.started + self.limit;
        if !self.seen.until(deadline, |sofar| sofar.ended.is_some()) {
            let told = self.told();
            panic!("not at its end after {:?}\n{told}", self.limit);
        }
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
        let mut sofar = self.seen.lock();
        let (status, ended) = sofar.ended.expect("its end was awaited");
        let text = |bytes: &mut Vec<u8>| {
            String::from_utf8(std::mem::take(bytes)).expect("flare prints UTF-8")
        };
        let output = Output {
            command: self.command.clone(),
            status,
            stdout: text(&mut sofar.stdout),
            stderr: text(&mut sofar.stderr),
            took: ended - self.started,
        };
        drop(sofar);
        for secret in &self.secrets {
            for (name, stream) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
                assert!(
                    !stream.contains(secret.as_str()),
                    "a password stands in {name}\n{output}"
                );
            }
        }
        output
    }

    fn told(&self) -> String {
        let sofar = self.seen.lock();
        told(
            &self.command,
            &String::from_utf8_lossy(&sofar.stdout),
            &String::from_utf8_lossy(&sofar.stderr),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            self.signal_all(libc::SIGKILL);
            let _ = waiter.join();
        }
    }
}

/// What a run left behind. Assertions print the command and both streams when they fail.
pub struct Output {
    command: String,
    status: ExitStatus,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Output {
    /// Exit code 0.
    #[track_caller]
    pub fn ok(&self) -> &Self {
        self.code(0)
    }

    #[track_caller]
    pub fn code(&self, code: i32) -> &Self {
        assert!(
            self.status.code() == Some(code),
            "exit code {code} was expected, not {}\n{self}",
            self.status
        );
        self
    }

    /// An exit code other than 0, and these words on standard error.
    #[track_caller]
    pub fn fails_with(&self, text: &str) -> &Self {
        assert!(
            self.status.code().is_some_and(|code| code != 0),
            "a failure was expected, not {}\n{self}",
            self.status
        );
        self.says(text)
    }

    /// These words on standard error.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(
            self.stderr.contains(text),
            "{text:?} is missing from stderr\n{self}"
        );
        self
    }

    /// These words on standard output.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        assert!(
            self.stdout.contains(text),
            "{text:?} is missing from stdout\n{self}"
        );
        self
    }

    /// Standard output as the one JSON object it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str::<Value>(&self.stdout) {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => panic!("stdout is not a JSON object\n{self}"),
            Err(error) => panic!("stdout is not one JSON object: {error}\n{self}"),
        }
    }

    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    pub fn took(&self) -> Duration {
        self.took
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", told(&self.command, &self.stdout, &self.stderr))?;
        write!(f, "--- {} after {:?}", self.status, self.took)
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

fn told(command: &str, stdout: &str, stderr: &str) -> String {
    let mut text = format!("--- flare {command}\n");
    for (name, stream) in [("stdout", stdout), ("stderr", stderr)] {
        let end = if stream.is_empty() || stream.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        write!(text, "--- {name}\n{stream}{end}").expect("write to a string");
    }
    text
}
