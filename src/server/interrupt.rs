//! SIGINT and SIGTERM: whoever waits for a server is woken, undoes what is in flight, and the program exits 130 or 143.
//! A program that is run for the user gets them passed on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, never, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::{Handle, Signals, SignalsInfo};
use signal_hook::low_level::siginfo::{Cause, Origin};

use crate::error::{Exit, Failure, Report, Result, WrapErr};

static CAUGHT: AtomicI32 = AtomicI32::new(0);
static SHIELDS: AtomicUsize = AtomicUsize::new(0);
static CLOSED_BY_SIGNAL: OnceLock<Receiver<()>> = OnceLock::new();

/// Starts to listen. Without it (a program that uses the library and handles signals itself) nothing is ever interrupted.
pub fn listen() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).wrap_err("listen for SIGINT and SIGTERM")?;
    let (sender, receiver) = unbounded::<()>();
    if CLOSED_BY_SIGNAL.set(receiver).is_err() {
        return Ok(());
    }
    std::thread::spawn(move || {
        // Dropping the sender wakes every receiver, now and later.
        let mut sender = Some(sender);
        for signal in signals.forever() {
            match sender.take() {
                Some(_) => CAUGHT.store(signal, Ordering::SeqCst),
                None => log::warn!("flare is ending and undoes what is in flight; please wait"),
            }
        }
    });
    Ok(())
}

/// A channel that is disconnected when a signal has come; one that never is while a [`Shield`] is held.
pub(crate) fn channel() -> Receiver<()> {
    match CLOSED_BY_SIGNAL.get() {
        Some(receiver) if SHIELDS.load(Ordering::SeqCst) == 0 => receiver.clone(),
        _ => never(),
    }
}

/// The error that ends the command, when a signal has come.
pub(crate) fn check() -> Result<()> {
    match CAUGHT.load(Ordering::SeqCst) {
        0 => Ok(()),
        _ if SHIELDS.load(Ordering::SeqCst) > 0 => Ok(()),
        _ => Err(interrupted()),
    }
}

/// Whether a signal has come.
pub(crate) fn caught() -> bool {
    CAUGHT.load(Ordering::SeqCst) != 0
}

/// The error that ends the command after a signal.
pub(crate) fn interrupted() -> Report {
    let signal = CAUGHT.load(Ordering::SeqCst);
    let name = if signal == SIGTERM {
        "SIGTERM"
    } else {
        "SIGINT"
    };
    Failure::new(format!("interrupted by {name}"))
        .exit(Exit::Signal(signal))
        .into()
}

/// While it lives, waiting is not interrupted: what undoes must come to its end.
pub(crate) struct Shield(());

impl Shield {
    pub(crate) fn raise() -> Shield {
        SHIELDS.fetch_add(1, Ordering::SeqCst);
        Shield(())
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        SHIELDS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits, unless a signal comes.
pub(crate) fn sleep(duration: std::time::Duration) -> Result<()> {
    match channel().recv_timeout(duration) {
        Err(crossbeam_channel::RecvTimeoutError::Timeout) => Ok(()),
        _ => Err(interrupted()),
    }
}

/// The signals that a program run for the user is to get as well.
pub(crate) struct Relayed(SignalsInfo<WithOrigin>);

impl Relayed {
    /// Caught from now on: before the program starts, so that none is lost.
    pub(crate) fn catch() -> Result<Relayed> {
        let signals = SignalsInfo::<WithOrigin>::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]);
        signals.map(Relayed).wrap_err("listen for signals")
    }

    /// What ends [`Relayed::each`].
    pub(crate) fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// Passes on each signal that was sent to this process alone: a terminal's Ctrl-C goes to the whole process group, and
    /// the program has it already.
    pub(crate) fn each(&mut self, mut pass_on: impl FnMut(i32)) {
        let from_a_process = |origin: &Origin| !matches!(origin.cause, Cause::Kernel);
        for origin in self.0.forever().filter(from_a_process) {
            pass_on(origin.signal);
        }
    }
}
