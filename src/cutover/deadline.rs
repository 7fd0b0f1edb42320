//! The moment by which a pause is over, one way or the other.

use std::time::{Duration, Instant};

use crate::error::{Failure, Result};
use crate::server::Patience;

/// `max_pause` from the moment the guards were armed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    max_pause: Duration,
}

impl Deadline {
    pub(crate) fn after(max_pause: Duration) -> Deadline {
        Deadline {
            at: Instant::now() + max_pause,
            max_pause,
        }
    }

    /// What is left until then.
    pub(crate) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// How the sessions of a pause wait.
    pub(crate) fn patience(&self) -> Patience {
        Patience::Until(self.at)
    }

    /// Fails when it has passed.
    pub(crate) fn check(&self) -> Result<()> {
        match Instant::now() < self.at {
            true => Ok(()),
            false => Failure::new(format!(
                "the pause is longer than max_pause ({})",
                humantime::format_duration(self.max_pause)
            ))
            .err(),
        }
    }
}
