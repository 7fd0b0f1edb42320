//! A run that is about to begin, or under way: what every step works with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use uuid::Uuid;

use crate::catalog::sequences::SequenceState;
use crate::config::Config;
use crate::cutover::before::heartbeat::Heartbeat;
use crate::cutover::clients::pgbouncer::Poolers;
use crate::cutover::deadline::Deadline;
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::pause::fencing::Fencing;
use crate::cutover::pause::terminating::Terminating;
use crate::cutover::probe::Probe;
use crate::cutover::report::StepTime;
use crate::cutover::sessions::{DatabaseSessions, Sessions};
use crate::journal::{Direction, Entry, Member, Purpose, Stream};
use crate::replicate::closed::ReadOnlyDefault;
use crate::replicate::fence;
use crate::replicate::status_table;
use crate::server::{Login, Pair, Server};
use crate::value::{Lsn, TableName};

/// A database that a run is to pause or to move: the names of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) dbname: String,
    pub(crate) subname: String,
    pub(crate) pubname: String,
}

/// What is to be paused, and how.
#[derive(Clone, Debug)]
pub(crate) struct PauseRequest {
    pub(crate) purpose: Purpose,
    /// Which way the data flows before the run.
    pub(crate) direction: Direction,
    pub(crate) databases: Vec<Wanted>,
    /// Whose sessions are ended on *from*.
    pub(crate) terminating: Terminating,
    /// Who may go on connecting, beside whom replication needs.
    pub(crate) keep_users: BTreeSet<String>,
    /// The walsender has to be this old.
    pub(crate) allowed_rep_duration: Duration,
    pub(crate) max_pause: Duration,
    /// Whether a way back is made.
    pub(crate) reverse: bool,
}

impl PauseRequest {
    /// The command that asks for it.
    pub(crate) fn command(&self) -> &'static str {
        match (self.purpose, self.direction) {
            (Purpose::PauseWrite, _) => "pause_write",
            (Purpose::Switch, Direction::Forward) => "cutover",
            (Purpose::Switch, Direction::Back) => "fallback",
        }
    }

    /// The stream of a database that runs before the run.
    pub(crate) fn stream(&self, wanted: &Wanted) -> Stream {
        Stream::of(
            &wanted.dbname,
            &wanted.subname,
            &wanted.pubname,
            self.direction,
        )
    }
}

/// A run, from the preparation to its end.
pub(crate) struct Pause<'a> {
    /// *from* is its publisher, *to* its subscriber.
    pub(super) pair: &'a Pair,
    pub(super) config: &'a Config,
    pub(super) poolers: Poolers,
    pub(super) entry: Entry,
    pub(super) terminating: Terminating,
    pub(super) max_pause: Duration,
    pub(super) deadline: Deadline,
    pub(super) own_pids: Vec<i32>,
    /// Opens the transaction of the locks, with the settings that this role may make.
    pub(super) begin_locks: &'static str,
    /// Says that the run is alive, until it has ended.
    pub(super) heartbeat: Option<Heartbeat>,
    /// When the application lost its first write, and when it could write again or the run was over.
    pub(super) began_at: Option<Instant>,
    pub(super) opened_at: Option<Instant>,
    pub(super) sessions: Sessions,
    pub(super) guard_answer: Option<Receiver<std::result::Result<(), postgres::Error>>>,
    pub(super) databases: Vec<Database>,
    /// The fences that the locks of these databases become; none before the point of no return is near.
    pub(super) fencing: Vec<Fencing>,
    /// Whether a row has come back on the way back.
    pub(super) way_back_runs: bool,
    /// The round trip to either server, as the preparation measured it.
    pub(super) round_trip: RoundTrip,
    pub(super) steps: Vec<StepTime>,
    pub(super) warnings: Vec<String>,
}

/// What an answer takes at least, from this machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// One database of a run.
pub(crate) struct Database {
    pub(super) stream: Stream,
    /// CONNECT on *from*, as it was.
    pub(super) privileges: ConnectPrivileges,
    /// The default for new sessions on *from*, as it was.
    pub(super) default_before: ReadOnlyDefault,
    pub(super) sessions: DatabaseSessions,
    /// The tables that are locked.
    pub(super) published: Vec<TableName>,
    /// The fence that is to stand on them; none: nothing of it is there yet.
    pub(super) fence_ahead: Option<fence::Ahead>,
    /// What keeps the application out of *to*.
    pub(super) target: Target,
    /// Who owns the running subscription on *to*, and as whom flare acts for it; none in a pause.
    pub(super) subowner: Option<(String, Login)>,
    /// The sequences as *from* had them when they were last carried over, and as *to* has them since.
    pub(super) on_from: BTreeMap<TableName, SequenceState>,
    pub(super) on_to: BTreeMap<TableName, SequenceState>,
    /// Where *from* stood behind the locks, once *to* has reached that.
    pub(super) drained: Option<Lsn>,
    /// Sessions that were ended.
    pub(super) ended: BTreeSet<i32>,
}

/// What keeps the application out of a database of *to*, and what lets it in.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    /// Whether it has a fence.
    pub(super) fenced: bool,
    /// What gives CONNECT back, where nobody has it.
    pub(super) shut: Option<ConnectPrivileges>,
    /// The default for new sessions, as it was before flare closed the database.
    pub(super) default_before: Option<ReadOnlyDefault>,
}

impl Database {
    pub(super) fn dbname(&self) -> &str {
        &self.stream.dbname
    }

    pub(super) fn probe(&self, from: &Server) -> Probe<'_> {
        Probe {
            writer: &self.sessions.probe.session,
            reader: &self.sessions.arrival.session,
            identifier: from.identifier(),
            table: status_table::table(from),
        }
    }
}

impl Pause<'_> {
    pub(super) fn run(&self) -> Uuid {
        self.entry.run
    }

    pub(super) fn dbnames(&self) -> Vec<String> {
        let names = self.databases.iter().map(|it| it.dbname().to_owned());
        names.collect()
    }

    /// Whether it is the database of the session that ends the application's sessions, whose locks it can wait for.
    pub(super) fn is_first(&self, database: &Database) -> bool {
        let first = self.databases.first();
        first.is_some_and(|first| first.dbname() == database.dbname())
    }

    /// Whether a hook of the user's comes between the last row's arrival and the point of no return.
    pub(super) fn has_switch_hook(&self) -> bool {
        self.config.cutover.hooks.switch.is_some()
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.entry.databases
    }

    /// Every session waits by these rules from now on.
    pub(super) fn set_timeout(&self, timeout: crate::server::Timeout) {
        self.sessions.set_timeout(timeout);
        for database in &self.databases {
            database.sessions.set_timeout(timeout);
        }
    }
}
