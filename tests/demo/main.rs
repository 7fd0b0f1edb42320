//! The demonstration behind `make demo`: a whole migration from PostgreSQL 13 to 18 and back on this machine, through the
//! program as a user would run it, while an application writes.
//!
//! Everything lives in one directory of the run, which goes with this process, however that ends.

#[path = "../support/mod.rs"]
mod support;

mod script;
mod stage;

use std::io::{IsTerminal, stdout};
use std::panic::{set_hook, take_hook};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() {
    leave_orderly_on_signals();
    let played = script::play();
    if played.is_err() {
        // Ctrl-C reaches the program that was run as well, and perhaps first.
        sleep(Duration::from_millis(50));
    }
    if INTERRUPTED.load(Ordering::SeqCst) {
        // What was interrupted fails, and nobody wants to hear how.
        sleep(Duration::from_secs(60));
    }
    match played {
        Ok(()) => exit(0),
        Err(error) => {
            eprintln!("\nthe demo stopped: {error}");
            exit(1);
        }
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// An orderly exit waits until every server has gone and the directory with it.
fn leave_orderly_on_signals() {
    let mut signals = Signals::new([SIGINT, SIGTERM]).expect("listen to signals");
    let loud = take_hook();
    set_hook(Box::new(move |panic| {
        if !INTERRUPTED.load(Ordering::SeqCst) {
            loud(panic);
        }
    }));
    spawn(move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            eprintln!("\nending the servers and removing their files");
            exit(128 + signal);
        }
    });
}

/// Bold on a terminal.
fn bold(text: &str) -> String {
    if stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
