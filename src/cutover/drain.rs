//! drain: everything on the subscriber. A row written behind the wall arrives after all that was written before it.
//!
//! Never `sent_lsn`, which counts what was not even sent as done; never the age of feedback, which costs half a second.

use super::state::Pause;
use crate::error::Result;

/// Waits until everything that was written is on the subscriber.
pub(crate) fn drain(pause: &mut Pause) -> Result<()> {
    pause.probe().send(&pause.deadline).map(drop)
}
