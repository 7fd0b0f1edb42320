//! A user's program (a hook of a cutover, what takes a clone) while it runs: what it says is logged and remembered; when its
//! time is over, its whole process group ends.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::error::Result;
use crate::server::interrupt;

/// How long a hook that is being ended may take to clean up, between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(200);
/// How long its last words are awaited: what it has started may hold its output open for ever.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(200);
/// Where a line that does not end is cut, in bytes.
const LONGEST_LINE: u64 = 4096;
/// How many lines of each of its two outputs an error quotes.
const LINES_QUOTED: usize = 3;

/// How a hook ended.
pub(crate) enum End {
    Exited(ExitStatus),
    Late,
    Interrupted,
}

/// A hook that was started.
pub(crate) struct HookProcess {
    child: Child,
    exited: Receiver<()>,
    silent: Receiver<()>,
    /// The last lines of standard output, and of standard error: neither crowds the other out.
    last: [Arc<LastLines>; 2],
}

type LastLines = Mutex<VecDeque<String>>;

impl HookProcess {
    /// Starts it in a process group of its own and without standard input. `key` stands before what it says in the log.
    pub(crate) fn start(command: &mut Command, key: &'static str) -> io::Result<HookProcess> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(HookProcess::watch(child, key))
    }

    fn watch(mut child: Child, key: &'static str) -> HookProcess {
        let last: [Arc<LastLines>; 2] = Default::default();
        let (speaking, silent) = bounded::<()>(0);
        let streams = [
            child.stdout.take().map(|stream| Box::new(stream) as Stream),
            child.stderr.take().map(|stream| Box::new(stream) as Stream),
        ];
        for (stream, last) in streams.into_iter().zip(&last) {
            let Some(stream) = stream else { continue };
            let (last, speaking) = (Arc::clone(last), speaking.clone());
            std::thread::spawn(move || {
                listen(stream, key, &last);
                drop(speaking);
            });
        }
        let (running, exited) = bounded::<()>(0);
        let pid = Pid::from_child(&child);
        std::thread::spawn(move || {
            // Not reaped here: as long as it is not, nobody else can get the number of its process group.
            while let Err(rustix::io::Errno::INTR) = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            ) {}
            drop(running);
        });
        HookProcess {
            child,
            exited,
            silent,
            last,
        }
    }

    /// Waits for its end this long, or until a signal comes; then it is ended.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<End> {
        let cut_short = select! {
            recv(self.exited) -> _ => None,
            recv(interrupt::channel()) -> _ => Some(End::Interrupted),
            default(limit) => Some(End::Late),
        };
        if cut_short.is_some() {
            self.end_all();
        }
        select! {
            recv(self.silent) -> _ => {}
            default(LAST_WORDS_WITHIN) => {}
        }
        match cut_short {
            None => Ok(End::Exited(self.child.wait()?)),
            Some(end) => {
                // Only one that hangs in the kernel is not gone by now, and nobody waits for that.
                self.child.try_wait()?;
                Ok(end)
            }
        }
    }

    /// Ends its whole process group, kindly and then not.
    fn end_all(&self) {
        let group = Pid::from_child(&self.child);
        self.signal(group, Signal::TERM);
        select! {
            recv(self.exited) -> _ => {}
            default(GRACE) => {}
        }
        self.signal(group, Signal::KILL);
        select! {
            recv(self.exited) -> _ => {}
            default(GRACE) => {}
        }
    }

    fn signal(&self, group: Pid, signal: Signal) {
        if let Err(error) = kill_process_group(group, signal) {
            log::debug!("send {signal:?} to the hook: {error}");
        }
    }

    /// The end of what it has said, ready to follow a message.
    pub(crate) fn last_words(&self) -> String {
        let lines_of = |last: &Arc<LastLines>| -> Vec<String> {
            let last = last.lock().unwrap_or_else(|e| e.into_inner());
            last.iter().cloned().collect()
        };
        let lines: Vec<String> = self.last.iter().flat_map(lines_of).collect();
        if lines.is_empty() {
            String::new()
        } else {
            format!(": {}", lines.join(" | "))
        }
    }
}

type Stream = Box<dyn Read + Send>;

/// Logs what a hook says, line by line, and keeps the end of it.
fn listen(stream: Stream, key: &'static str, last: &LastLines) {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::new();
    while matches!(stream.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes), Ok(read) if read > 0)
    {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        log::info!("hook {key}: {line}");
        if !line.trim().is_empty() {
            let mut last = last.lock().unwrap_or_else(|e| e.into_inner());
            if last.len() == LINES_QUOTED {
                last.pop_front();
            }
            last.push_back(line);
        }
        bytes.clear();
    }
}
