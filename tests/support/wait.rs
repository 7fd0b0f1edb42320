//! Waiting for what another process does, with an end.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks, of which many cost a session: at first, and where it takes long.
const STEP: Duration = Duration::from_millis(10);
const LONG_STEP: Duration = Duration::from_millis(100);

/// A busy machine takes so many times what an idle one does. Only a test that fails waits for so long.
pub const BUSY: u32 = 6;

/// Whether `holds` came true before the limit.
pub fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while !holds() {
        let waited = since.elapsed();
        if waited > limit {
            return false;
        }
        thread::sleep((waited / 5).clamp(STEP, LONG_STEP));
    }
    true
}

/// Panics with `what` unless `holds` comes true within what an idle machine is given.
#[track_caller]
pub fn for_(what: &str, idle: Duration, holds: impl FnMut() -> bool) {
    let limit = idle * BUSY;
    assert!(until(limit, holds), "waited {limit:?} in vain for {what}");
}
