//! One run, as the journal keeps it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::privileges::DatabasePrivileges;

/// Which way the data flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// From the configuration's publisher to its subscriber.
    #[default]
    Forward,
    /// Back, after a cutover.
    Back,
}

/// How far a run has come. The writing rights at each step are what makes the journal worth reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// Nothing is changed yet.
    Preparing,
    /// The door is shut; the guards undo this.
    Paused,
    /// The pause has succeeded and holds until `resume_write`; no guard undoes it.
    Held,
    /// The door is open again, as it was.
    Undone,
    /// `resume_write` has opened the door again.
    Resumed,
}

impl Step {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Step::Preparing => "preparing",
            Step::Paused => "paused",
            Step::Held => "held",
            Step::Undone => "undone",
            Step::Resumed => "resumed",
        }
    }

    /// Steps at which the door is shut.
    pub(crate) const SHUT: [Step; 2] = [Step::Paused, Step::Held];
}

/// A server process of a run: pid and start together name it for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backend {
    pub(crate) pid: i32,
    pub(crate) backend_start: String,
}

/// A database whose door the run shuts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PausedDatabase {
    pub(crate) dbname: String,
    pub(crate) subname: String,
    pub(crate) privileges: DatabasePrivileges,
    /// Roles that may go on connecting.
    pub(crate) keep: Vec<String>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) run: Uuid,
    pub(crate) command: String,
    pub(crate) direction: Direction,
    pub(crate) step: Step,
    pub(crate) databases: Vec<PausedDatabase>,
    /// The run's own sessions on this server.
    pub(crate) backends: Vec<Backend>,
    /// Where flare runs: host and process.
    pub(crate) holder: String,
    pub(crate) max_pause_ms: i64,
    /// When the run began, and when its step changed last; written by the server.
    #[serde(default)]
    pub(crate) started_at: String,
    #[serde(default)]
    pub(crate) changed_at: String,
}
