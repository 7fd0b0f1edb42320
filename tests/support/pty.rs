//! A program in a pseudo terminal of a size of the test's choice, and what stands on its screen.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{process, wait};

/// A program at work in its terminal. Dropping it kills it.
pub struct Pty {
    child: Child,
    terminal: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Pty {
    /// Starts the program with a terminal of this size as its standard input, output and error.
    pub fn spawn(mut command: Command, rows: u16, columns: u16) -> Self {
        let (terminal, program_end) = open(rows, columns);
        let end = || Stdio::from(program_end.try_clone().expect("copy a file descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: both calls are safe between fork and exec, and take no pointer that matters.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().expect("start a program in a terminal");
        drop(command);
        drop(program_end);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            cells(rows),
            cells(columns),
            0,
        )));
        let mut from = terminal.try_clone().expect("copy a file descriptor");
        let into = Arc::clone(&screen);
        thread::spawn(move || {
            let mut part = [0; 8192];
            while let Ok(read @ 1..) = from.read(&mut part) {
                into.lock().expect("the screen").process(&part[..read]);
            }
        });
        Self {
            child,
            terminal,
            screen,
        }
    }

    /// What can be read on the screen.
    pub fn text(&self) -> String {
        self.with(|screen| screen.contents())
    }

    /// Something about the screen.
    pub fn with<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.screen.lock().expect("the screen").screen())
    }

    /// Waits until this can be read.
    #[track_caller]
    pub fn until(&self, words: &str) {
        let seen = wait::until(Duration::from_secs(30), || self.text().contains(words));
        assert!(seen, "{words:?} never came:\n{}", self.text());
    }

    /// Waits until this can no longer be read.
    #[track_caller]
    pub fn until_gone(&self, words: &str) {
        let gone = wait::until(Duration::from_secs(30), || !self.text().contains(words));
        assert!(gone, "{words:?} stays:\n{}", self.text());
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).expect("type");
    }

    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = winsize(rows, columns);
        // SAFETY: the descriptor is open and the size lives as long as the call.
        let set = unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(set, 0, "set the terminal's size");
        let mut screen = self.screen.lock().expect("the screen");
        screen.screen_mut().set_size(cells(rows), cells(columns));
    }

    pub fn signal(&self, signal: i32) {
        process::signal(self.child.id(), signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait::for_("the program to end", Duration::from_secs(20), || {
            self.child.try_wait().expect("look at a program").is_some()
        });
        self.child.wait().expect("wait for a program")
    }

    /// Whether keys are echoed, the cursor is shown and the first screen is back: as before it started.
    pub fn is_clean(&self) -> bool {
        // SAFETY: an all-zero termios is filled in by the call.
        let echoes = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            let read = libc::tcgetattr(self.terminal.as_raw_fd(), &mut settings);
            read == 0 && settings.c_lflag & libc::ECHO != 0 && settings.c_lflag & libc::ICANON != 0
        };
        wait::until(Duration::from_secs(5), || {
            self.with(|screen| !screen.alternate_screen() && !screen.hide_cursor())
        }) && echoes
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a terminal has rows and columns")
}

fn winsize(rows: u16, columns: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Both ends: the test's and the program's.
fn open(rows: u16, columns: u16) -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (0, 0);
    let size = winsize(rows, columns);
    // SAFETY: the pointers live as long as the call; both descriptors are new and owned from here on.
    unsafe {
        let opened = libc::openpty(
            &mut ours,
            &mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            &size,
        );
        assert_eq!(opened, 0, "open a pseudo terminal");
        libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC);
        (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}
