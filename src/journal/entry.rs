//! One run, as the journal keeps it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::stream::Stream;
use crate::catalog::privileges::DatabasePrivileges;
use crate::server::Side;
use crate::value::Lsn;

/// Which way the data flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the configuration's publisher to its subscriber.
    #[default]
    Forward,
    /// Back, after a cutover.
    Back,
}

impl Direction {
    /// The other way.
    pub(crate) fn flipped(self) -> Direction {
        match self {
            Direction::Forward => Direction::Back,
            Direction::Back => Direction::Forward,
        }
    }

    /// The side that is written and the one that follows, by the configuration's names.
    pub(crate) fn sides(self) -> (Side, Side) {
        match self {
            Direction::Forward => (Side::Publisher, Side::Subscriber),
            Direction::Back => (Side::Subscriber, Side::Publisher),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Direction::Forward => "forward",
            Direction::Back => "back",
        }
    }
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// `pause_write`: nobody writes until `resume_write`.
    PauseWrite,
    /// `cutover` and `fallback`: the other server is written from then on.
    Switch,
}

/// How far a run has come. The writing rights at each step are what makes the journal worth reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// Nothing that the application could notice has happened yet.
    Preparing,
    /// CONNECT on *from* is revoked; the guards undo this.
    Paused,
    /// The pause has succeeded and holds until `resume_write`; no guard undoes it.
    Held,
    /// *from* is open again, as it was; what else the run had made may still have to go.
    Undoing,
    /// Everything is as it was.
    Undone,
    /// `resume_write` has opened it again.
    Resumed,
    /// The point of no return: from here on the run is finished, never undone.
    Switching,
    /// *to* is open; the way back is not running yet.
    Switched,
    /// All is done.
    Closed,
}

impl Step {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Step::Preparing => "preparing",
            Step::Paused => "paused",
            Step::Held => "held",
            Step::Undoing => "undoing",
            Step::Undone => "undone",
            Step::Resumed => "resumed",
            Step::Switching => "switching",
            Step::Switched => "switched",
            Step::Closed => "closed",
        }
    }

    /// Steps at which `resume_write` has CONNECT to give back.
    pub(crate) const SHUT: [Step; 2] = [Step::Paused, Step::Held];

    /// Steps at which a run whose flare has gone is neither undone nor finished.
    pub(crate) const UNFINISHED: [Step; 5] = [
        Step::Preparing,
        Step::Paused,
        Step::Undoing,
        Step::Switching,
        Step::Switched,
    ];

    /// Steps that nothing undoes: the data flows the other way afterwards.
    pub(crate) fn is_past_return(self) -> bool {
        matches!(self, Step::Switching | Step::Switched | Step::Closed)
    }
}

/// A server process of a run: pid and start together name it for good. The start is in microseconds since 1970, by the
/// server's clock: as text it would depend on the session's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backend {
    pub(crate) pid: i32,
    pub(crate) backend_start: i64,
}

/// A database of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) dbname: String,
    /// The names of the configuration.
    pub(crate) subname: String,
    pub(crate) pubname: String,
    /// The privileges of *from*, before.
    pub(crate) privileges: DatabasePrivileges,
    /// Roles that may go on connecting there.
    pub(crate) keep: Vec<String>,
    /// `default_transaction_read_only` of the database on *from*, before; none: it was not set.
    #[serde(default)]
    pub(crate) default_before: Option<String>,
    /// Whether the way back's publication was there before the run, and stays when it is undone.
    #[serde(default)]
    pub(crate) had_publication: bool,
    /// Where *to* stood when it had applied everything: the way back starts here.
    #[serde(default)]
    pub(crate) mark: Option<Lsn>,
}

impl Member {
    /// The stream that runs in a direction.
    pub(crate) fn stream(&self, direction: Direction) -> Stream {
        Stream::of(&self.dbname, &self.subname, &self.pubname, direction)
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) run: Uuid,
    /// Counts the runs of both servers: the newest one that switched says which way the data flows.
    pub(crate) generation: i64,
    pub(crate) command: String,
    pub(crate) purpose: Purpose,
    pub(crate) direction: Direction,
    /// Whether the run makes a way back.
    pub(crate) reverse: bool,
    pub(crate) step: Step,
    pub(crate) databases: Vec<Member>,
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
    /// Seconds since the holder was last seen alive, by the server's clock.
    #[serde(default)]
    pub(crate) silent_seconds: f64,
}

impl Entry {
    /// Its databases by name, for people.
    pub(crate) fn dbnames(&self) -> Vec<&str> {
        let names = self.databases.iter().map(|member| member.dbname.as_str());
        names.collect()
    }

    /// The member of this name.
    pub(crate) fn member(&self, dbname: &str) -> Option<&Member> {
        self.databases.iter().find(|it| it.dbname == dbname)
    }
}
