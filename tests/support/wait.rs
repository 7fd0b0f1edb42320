//! Waiting for what another process does, with an end.

use std::thread;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(10);

/// Whether `holds` came true before the limit.
pub fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(STEP);
    }
    true
}

/// Panics with `what` unless `holds` comes true before the limit.
#[track_caller]
pub fn for_(what: &str, limit: Duration, holds: impl FnMut() -> bool) {
    assert!(until(limit, holds), "waited {limit:?} in vain for {what}");
}
