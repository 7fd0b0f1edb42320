//! Watches what a long copy costs the publisher: the WAL that its slot keeps, and how long that can go on.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::record::Lead;
use super::rows::Every;
use crate::error::{Failure, Result};
use crate::progress::Progress;
use crate::server::{Session, params};
use crate::value::Size;

/// How often the publisher is asked.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// With less than this left, it is said.
const WARN_BELOW: Duration = Duration::from_secs(4 * 3600);
/// And said again after this long.
const SAY_EVERY: Duration = Duration::from_secs(600);

/// What the slot keeps.
#[derive(Clone, Debug, Deserialize)]
struct Kept {
    /// None once it is lost.
    retained: Option<i64>,
    /// From 13 on, where it is bounded.
    safe_wal_size: Option<i64>,
    wal_status: Option<String>,
}

/// What is looked at while rows travel.
pub(super) struct Watch<'a> {
    publisher: &'a Session,
    lead: &'a Lead,
    slot_name: &'a str,
    progress: &'a dyn Progress,
    look: Every,
    first: Option<(Instant, i64)>,
    said: Option<Instant>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        publisher: &'a Session,
        lead: &'a Lead,
        slot_name: &'a str,
        progress: &'a dyn Progress,
    ) -> Watch<'a> {
        Watch {
            publisher,
            lead,
            slot_name,
            progress,
            look: Every::new(LOOK_EVERY),
            first: None,
            said: None,
        }
    }

    /// Whether this run leads the copy still, and what the publisher says when it is time to ask; an error ends the copy.
    pub(super) fn look(&mut self) -> Result<()> {
        self.lead.check()?;
        if !self.look.is_due() {
            return Ok(());
        }
        let kept: Option<Kept> = self.publisher.first(
            "SELECT jsonb_build_object('retained', pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8,
                      'safe_wal_size', to_jsonb(s) -> 'safe_wal_size', 'wal_status', to_jsonb(s) -> 'wal_status')
               FROM pg_replication_slots s WHERE slot_name = $1",
            params![self.slot_name],
        )?;
        let Some(kept) = kept else {
            return Failure::new(format!(
                "go on with the copy: the publisher has no slot {:?} any more",
                self.slot_name
            ))
            .hint("what is written there since is lost to the copy: start over with flare initial_copy --restart")
            .err();
        };
        if kept.wal_status.as_deref() == Some("lost") {
            return Failure::new(format!(
                "go on with the copy: slot {:?} of the publisher is lost, the WAL that it needs was removed (max_slot_wal_keep_size)",
                self.slot_name
            ))
            .hint("raise max_slot_wal_keep_size there, then start over with flare initial_copy --restart")
            .err();
        }
        if let Some(retained) = kept.retained {
            self.weigh(&kept, retained);
        }
        Ok(())
    }

    fn weigh(&mut self, kept: &Kept, retained: i64) {
        let (begun, from) = *self.first.get_or_insert((Instant::now(), retained));
        let said_lately = self.said.is_some_and(|at| at.elapsed() < SAY_EVERY);
        let Some(left) = time_left(kept.safe_wal_size, retained - from, begun.elapsed()) else {
            return;
        };
        if left > WARN_BELOW || said_lately {
            return;
        }
        self.said = Some(Instant::now());
        self.progress.step(&format!(
            "warning: slot {:?} keeps {} of WAL on the publisher, and at this rate will be lost in {} (max_slot_wal_keep_size)",
            self.slot_name,
            Size(retained.unsigned_abs()),
            humantime::format_duration(Duration::from_secs(left.as_secs()))
        ));
    }
}

/// How long until a slot is lost that keeps more and more.
fn time_left(safe: Option<i64>, grown: i64, within: Duration) -> Option<Duration> {
    let safe = safe?.max(0);
    if grown <= 0 || within < LOOK_EVERY / 2 {
        return None;
    }
    let seconds = safe as f64 / (grown as f64 / within.as_secs_f64());
    Some(Duration::from_secs_f64(seconds.min(1e9)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_slot_keeps_nothing() {
        let row = r#"{"retained": null, "safe_wal_size": null, "wal_status": "lost"}"#;
        let kept: Kept = serde_json::from_str(row).unwrap();
        assert_eq!(
            (kept.retained, kept.wal_status.as_deref()),
            (None, Some("lost"))
        );
    }

    #[test]
    fn what_is_left_is_known_once_the_rate_is() {
        let minute = Duration::from_secs(60);
        assert_eq!(time_left(None, 5, minute), None);
        assert_eq!(time_left(Some(100), 0, minute), None);
        assert_eq!(time_left(Some(100), 50, minute), Some(minute * 2));
        assert_eq!(time_left(Some(-5), 50, minute), Some(Duration::ZERO));
    }
}
