//! What `status` says of a copy that is under way or was interrupted, and of a clone that is being adopted.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::record::{self, CopiedTable, Phase};
use super::{adopt, holder};
use crate::catalog::{databases, slots, subscriptions};
use crate::error::{Failure, Result};
use crate::replicate::{Mode, Run};
use crate::server::{ActAs, Login, Pair, Publisher, Session};
use crate::value::{Ident, Lsn, ShellWord, Size, TableName, counted};

/// A subscription whose rows are on their way by flare's own copy, or by a clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnderWay {
    /// `initial_copy` has begun, and the subscription is not there yet.
    Copy(CopyUnderWay),
    /// `adopt begin` has made the slot.
    Adoption {
        /// Where the slot begins; none when `adopt begin` was cut off.
        slot_lsn: Option<Lsn>,
        /// What the clone has reached, once that was measured.
        point: Option<Lsn>,
        /// Whether the publisher still has the slot, with the WAL that it needs.
        slot_is_there: bool,
    },
}

/// A copy on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CopyUnderWay {
    /// When it began, in the subscriber's words.
    pub began_at: String,
    /// Whether a flare is at work on it.
    pub at_work: bool,
    /// How far it has come: slot, rows, post (indexes), done.
    pub phase: &'static str,
    /// Parts that are finished.
    pub jobs: i64,
    /// Of so many.
    pub of_jobs: i64,
    /// Rows of the finished parts.
    pub rows: i64,
    /// Their bytes as they travelled.
    pub bytes: i64,
    /// Whether the snapshot lives; none where the publisher was not asked, or the rows are all there.
    pub snapshot_lives: Option<bool>,
    /// Whether the publisher has the slot, with the WAL that the copy is to go on with; none where it was not asked, or while
    /// the slot is being made.
    pub slot_is_there: Option<bool>,
    /// Whether it can only begin anew: the slot is gone, or the snapshot, and another one takes a superuser of the subscriber.
    pub only_anew: bool,
    /// Until the rows are there, by the rate of the last five minutes; none when nobody is at work.
    pub seconds_left: Option<i64>,
    /// The largest tables that are not there yet.
    pub tables: Vec<CopiedTable>,
}

/// The copy on record in the session's database of the subscriber.
pub(crate) fn copy_under_way(
    publisher: Option<&Publisher>,
    (subscriber, superuser): (&Session, bool),
    subname: &str,
    dbname: &str,
) -> Result<Option<UnderWay>> {
    let Some(recorded) = record::read(subscriber)?.filter(|it| it.subname == subname) else {
        return Ok(None);
    };
    let finished = record::finished(subscriber)?;
    let snapshot_lives = match (publisher, &recorded.snapshot, recorded.phase) {
        (Some(publisher), Some(snapshot), Phase::Slot | Phase::Rows) => {
            let session = publisher.connect(Login::Superuser, dbname)?;
            Some(holder::lives(&session, snapshot)?)
        }
        _ => None,
    };
    let slot_is_there = match (publisher, recorded.phase) {
        (Some(publisher), Phase::Rows | Phase::Post | Phase::Done) => {
            let slot = slots::find(publisher.admin(), &recorded.slot_name)?;
            Some(slot.is_some_and(|it| !it.is_lost()))
        }
        _ => None,
    };
    let at_work = record::is_led(subscriber)?;
    let (mut seconds_left, mut tables) = match recorded.phase {
        Phase::Rows => record::ahead(subscriber)?,
        _ => (None, Vec::new()),
    };
    if !at_work {
        seconds_left = None;
        tables.iter_mut().for_each(|it| it.seconds_left = None);
    }
    Ok(Some(UnderWay::Copy(CopyUnderWay {
        began_at: recorded.began_at,
        at_work,
        phase: recorded.phase.as_str(),
        jobs: finished.jobs,
        of_jobs: finished.of_jobs,
        rows: finished.rows,
        bytes: finished.bytes,
        only_anew: slot_is_there == Some(false)
            || recorded.phase == Phase::Rows && snapshot_lives == Some(false) && !superuser,
        snapshot_lives,
        slot_is_there,
        seconds_left,
        tables,
    })))
}

/// Fails when a subscription's rows are on their way by a copy or a clone: nothing else may fill its tables or take its slot.
/// Where the subscription is there by now, the copy was cut off after its last row: what is left of its record goes.
pub(crate) fn check_none(pair: &Pair, subname: &str, dbname: &str, run: &Run) -> Result<()> {
    let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
    if databases::database(subscriber.admin(), dbname)?.is_none() {
        return adopt::check_none(publisher.admin(), subname);
    }
    let session = subscriber.connect(ActAs::Tables, dbname)?;
    let recorded = record::read(&session)?;
    if subscriptions::find(&session, subname)?.is_some_and(|it| it.subenabled) {
        if run.mode == Mode::Apply {
            if recorded.is_some_and(|it| it.subname == subname) {
                record::forget(&session)?;
            }
            adopt::forget_finished(pair, subname)?;
        }
        return Ok(());
    }
    adopt::check_none(publisher.admin(), subname)?;
    let Some(recorded) = recorded else {
        return Ok(());
    };
    let lacks = match recorded.phase {
        Phase::Slot | Phase::Rows => "its rows are not all there",
        Phase::Post => "its tables lack indexes",
        Phase::Done => "its subscription is not there yet",
    };
    Failure::new(format!(
        "a copy of subscription {:?} that began {} is on record in the subscriber's database {dbname:?}: {lacks}",
        recorded.subname, recorded.began_at
    ))
    .hint(format!(
        "go on with it: flare initial_copy {}; or give it up: flare drop_subscription, then DROP DATABASE on the subscriber",
        ShellWord(&recorded.subname)
    ))
    .err()
}

/// How a copy begins anew that has come so far.
pub(super) fn anew(phase: Phase, subname: &str, dbname: &str) -> String {
    let sub = ShellWord(subname);
    match phase {
        Phase::Slot | Phase::Rows => format!(
            "flare initial_copy --restart {sub}, which empties the tables that it has filled"
        ),
        Phase::Post | Phase::Done => format!(
            "flare drop_subscription {sub}, DROP DATABASE {} on the subscriber, then flare prepare {sub}",
            Ident::from(dbname)
        ),
    }
}

/// The adoption on record on the publisher.
pub(crate) fn adoption_under_way(publisher: &Publisher, subname: &str) -> Result<Option<UnderWay>> {
    adopt::under_way(publisher.admin(), subname)
}

impl UnderWay {
    /// What to type next, where nobody is at work.
    pub(crate) fn next_command(&self, subname: &str, dbname: &str) -> String {
        let sub = ShellWord(subname);
        match self {
            UnderWay::Copy(copy) if copy.only_anew => {
                let phase = match copy.phase {
                    "rows" => Phase::Rows,
                    _ => Phase::Post,
                };
                anew(phase, subname, dbname)
            }
            UnderWay::Copy(_) => format!("flare initial_copy {sub}"),
            UnderWay::Adoption { slot_lsn: None, .. } => format!("flare adopt begin {sub}"),
            UnderWay::Adoption {
                slot_is_there: false,
                ..
            } => format!(
                "flare drop_subscription {sub}, then flare adopt begin {sub} and another clone"
            ),
            UnderWay::Adoption { point: None, .. } => {
                format!(
                    "take the clone, start it alone, flare adopt measure {sub} --clone CONNINFO"
                )
            }
            UnderWay::Adoption { .. } => {
                format!("upgrade the clone and declare it, flare adopt finish {sub}")
            }
        }
    }
}

impl fmt::Display for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnderWay::Copy(copy) => copy.fmt(f),
            UnderWay::Adoption {
                slot_lsn: Some(_),
                slot_is_there: false,
                ..
            } => write!(
                f,
                "the slot is GONE from the publisher, or has lost its WAL: what was written since would be missing on every clone taken by now"
            ),
            UnderWay::Adoption {
                slot_lsn: Some(lsn),
                point: None,
                ..
            } => write!(f, "the slot begins at {lsn}; no clone was measured yet"),
            UnderWay::Adoption {
                point: Some(point), ..
            } => write!(
                f,
                "the clone has reached {point}: the subscription is to begin there"
            ),
            UnderWay::Adoption { .. } => {
                write!(f, "adopt begin was cut off before its slot was there")
            }
        }
    }
}

impl CopyUnderWay {
    fn write_left(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |seconds: i64| {
            humantime::format_duration(Duration::from_secs(seconds.unsigned_abs())).to_string()
        };
        let Some(left) = self.seconds_left else {
            return Ok(());
        };
        write!(f, ", about {} left", time(left))?;
        let tables = self.tables.iter().filter_map(|it| {
            let name = TableName::new(it.schema.as_str(), it.table.as_str());
            Some(format!("{} {}", name.plain(), time(it.seconds_left?)))
        });
        let tables: Vec<String> = tables.collect();
        match tables.len() {
            0 | 1 => Ok(()),
            _ => write!(f, " ({})", tables.join(", ")),
        }
    }
}

impl fmt::Display for CopyUnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.at_work {
            "a flare is at work on the copy"
        } else {
            "the copy was interrupted"
        };
        write!(f, "{state} that began {}: ", self.began_at)?;
        match self.phase {
            "slot" => write!(f, "no tables are there yet")?,
            "rows" => write!(
                f,
                "{} of {} there, {}, {}",
                self.jobs,
                counted(self.of_jobs, "part"),
                counted(self.rows, "row"),
                Size(self.bytes.unsigned_abs())
            )
            .and_then(|()| self.write_left(f))?,
            "done" => write!(
                f,
                "all {} rows and their indexes are there, the subscription is not",
                self.rows
            )?,
            _ => write!(
                f,
                "all {} rows are there, indexes and what follows are not all",
                self.rows
            )?,
        }
        if self.slot_is_there == Some(false) {
            return write!(
                f,
                "; its slot is GONE from the publisher, or has lost its WAL"
            );
        }
        match self.snapshot_lives {
            Some(true) => write!(f, "; its snapshot is kept on the publisher"),
            Some(false) => write!(f, "; its snapshot is gone"),
            None => Ok(()),
        }
    }
}
