//! A pause that is about to begin, or under way: what every step works with.

use std::collections::BTreeSet;
use std::time::Duration;

use crossbeam_channel::Receiver;
use uuid::Uuid;

use super::clearing::Clearing;
use super::deadline::Deadline;
use super::probe::Probe;
use super::report::StepTime;
use super::rights::Door;
use super::sessions::Sessions;
use crate::value::TableName;

/// What is to be paused, and how.
#[derive(Clone, Debug)]
pub(crate) struct PauseRequest<'a> {
    pub(crate) dbname: &'a str,
    pub(crate) subname: &'a str,
    pub(crate) pubname: &'a str,
    /// Whose sessions are ended; empty: everyone's but superusers'.
    pub(crate) app_users: BTreeSet<String>,
    /// Who may go on connecting, beside whom replication needs.
    pub(crate) keep_users: BTreeSet<String>,
    /// The walsender has to be this old.
    pub(crate) allowed_rep_duration: Duration,
    pub(crate) max_pause: Duration,
}

/// A pause that is about to begin, or under way.
pub(crate) struct Pause {
    pub(super) run: Uuid,
    pub(super) door: Door,
    pub(super) pubname: String,
    pub(super) clearing: Clearing,
    pub(super) max_pause: Duration,
    pub(super) deadline: Deadline,
    pub(super) identifier: u64,
    pub(super) own_pids: Vec<i32>,
    /// Opens the wall's transaction, with the settings that this role may make.
    pub(super) open_wall: String,
    pub(super) sessions: Sessions,
    pub(super) guard_answer: Option<Receiver<std::result::Result<(), postgres::Error>>>,
    /// Sessions that were ended.
    pub(super) ended: BTreeSet<i32>,
    /// The tables that the wall holds.
    pub(super) published: Vec<TableName>,
    pub(super) steps: Vec<StepTime>,
}

impl Pause {
    pub(super) fn dbname(&self) -> &str {
        &self.door.before().dbname
    }

    pub(super) fn probe(&self) -> Probe<'_> {
        Probe {
            writer: &self.sessions.probe.session,
            reader: &self.sessions.arrival,
            identifier: self.identifier,
        }
    }
}

impl Pause {
    pub(super) fn new(prepared: PauseParts) -> Pause {
        let PauseParts {
            run,
            door,
            pubname,
            clearing,
            max_pause,
            identifier,
            own_pids,
            open_wall,
            sessions,
            published,
        } = prepared;
        Pause {
            run,
            door,
            pubname,
            clearing,
            max_pause,
            deadline: Deadline::after(max_pause),
            identifier,
            own_pids,
            open_wall,
            sessions,
            guard_answer: None,
            ended: BTreeSet::new(),
            published,
            steps: Vec::new(),
        }
    }
}

/// What the preparation hands to the pause.
pub(super) struct PauseParts {
    pub(super) run: Uuid,
    pub(super) door: Door,
    pub(super) pubname: String,
    pub(super) clearing: Clearing,
    pub(super) max_pause: Duration,
    pub(super) identifier: u64,
    pub(super) own_pids: Vec<i32>,
    pub(super) open_wall: String,
    pub(super) sessions: Sessions,
    pub(super) published: Vec<TableName>,
}
