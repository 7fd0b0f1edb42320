//! The moment by which something is over: a pause, one way or the other, or a wait outside of it.

use std::time::{Duration, Instant};

use crate::error::{Failure, Result};
use crate::server::Timeout;

/// The moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    of: Limit,
}

/// What is over when the moment has come.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Pause(Duration),
    Wait(Duration),
}

impl Deadline {
    /// `max_pause` from the moment the guards were armed.
    pub(crate) fn of_the_pause(max_pause: Duration) -> Deadline {
        Deadline {
            at: Instant::now() + max_pause,
            of: Limit::Pause(max_pause),
        }
    }

    /// Of something that is waited for outside of a pause.
    pub(crate) fn after(limit: Duration) -> Deadline {
        Deadline {
            at: Instant::now() + limit,
            of: Limit::Wait(limit),
        }
    }

    /// What is left until then.
    pub(crate) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The moment itself.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// How the sessions of a pause wait.
    pub(crate) fn timeout(&self) -> Timeout {
        Timeout::Until(self.at)
    }

    /// Fails when it has passed.
    pub(crate) fn check(&self) -> Result<()> {
        if Instant::now() < self.at {
            return Ok(());
        }
        Failure::new(match self.of {
            Limit::Pause(max_pause) => format!(
                "the pause is longer than max_pause ({})",
                humantime::format_duration(max_pause)
            ),
            Limit::Wait(limit) => format!("not within {}", humantime::format_duration(limit)),
        })
        .err()
    }
}
