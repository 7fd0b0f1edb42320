//! Running the program as a user would, and saying what it did when that was wrong.

use std::env;
use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::output::{Output, told};
use super::process;

/// No command of a test works longer; one that does is killed and reported.
const LIMIT: Duration = Duration::from_secs(120);
const READ_WITHIN: Duration = Duration::from_secs(2);

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
        Self::of(program(), args)
    }

    /// The same of another program.
    pub fn of(program: impl Into<PathBuf>, args: &[&str]) -> Self {
        let mut command = Command::new(program.into());
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

    /// The command itself, for who starts it in another way.
    pub fn into_command(self) -> Command {
        self.command
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
        Arc::clone(&seen).collect(out, |sofar| &mut sofar.stdout);
        Arc::clone(&seen).collect(err, |sofar| &mut sofar.stderr);
        Running {
            command: shown(&self.command),
            started: Instant::now(),
            pid: child.id(),
            waiter: Some(Arc::clone(&seen).wait_for(child)),
            seen,
            secrets: self.secrets,
            limit: self.limit,
        }
    }
}

/// Without the environment, which `Debug` of a command shows.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = [name].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
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
    closed: usize,
    ended: Option<(ExitStatus, Instant)>,
}

impl Sofar {
    fn all_read(&self) -> bool {
        self.closed == 2
    }
}

impl Seen {
    fn collect(
        self: Arc<Self>,
        mut from: impl Read + Send + 'static,
        to: fn(&mut Sofar) -> &mut Vec<u8>,
    ) {
        thread::spawn(move || {
            let mut part = [0; 8192];
            while let Ok(read @ 1..) = from.read(&mut part) {
                to(&mut self.lock()).extend_from_slice(&part[..read]);
                self.changed.notify_all();
            }
            self.lock().closed += 1;
            self.changed.notify_all();
        });
    }

    fn wait_for(self: Arc<Self>, mut child: Child) -> JoinHandle<()> {
        thread::spawn(move || {
            let status = child.wait().expect("wait for a program");
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

    pub fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().stdout).into_owned()
    }

    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().stderr).into_owned()
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: i32) {
        if !self.has_ended() {
            process::signal(self.pid, signal);
        }
    }

    /// Sends a signal to the program and all it started, as Ctrl-C in a terminal does.
    pub fn signal_all(&self, signal: i32) {
        // SAFETY: killpg takes no pointer. The number is not given away while the group has members.
        unsafe { libc::killpg(self.pid.cast_signed(), signal) };
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
        // Its end may be known before its last words are read.
        self.seen.until(Instant::now() + READ_WITHIN, |sofar| {
            printed(sofar) || sofar.all_read()
        });
        if !printed(&self.seen.lock()) {
            panic!("{text:?} was never printed\n{}", self.told());
        }
        self
    }

    /// Waits until what it has started has ended too, or let go of its streams.
    #[track_caller]
    pub fn wait_for_end_of_all(&self) {
        let ended = self.seen.until(self.started + self.limit, |sofar| {
            sofar.ended.is_some() && sofar.all_read()
        });
        assert!(ended, "something is still at work\n{}", self.told());
    }

    /// Waits for its end. One that does not come within the limit is a failure of the test.
    #[track_caller]
    pub fn wait(self) -> Output {
        let deadline = self.started + self.limit;
        if !self.seen.until(deadline, |sofar| sofar.ended.is_some()) {
            let told = self.told();
            panic!("not at its end after {:?}\n{told}", self.limit);
        }
        // What it started may outlive it, and hold its streams open.
        let read_until = Instant::now() + READ_WITHIN;
        self.seen.until(read_until, Sofar::all_read);
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
        told(&self.command, &self.stdout_so_far(), &self.stderr_so_far())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !(self.has_ended() && self.seen.lock().all_read()) {
            self.signal_all(libc::SIGKILL);
        }
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}
