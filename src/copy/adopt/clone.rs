//! What a clone says of itself, and whether a subscription could begin there.

use postgres::Client;

use crate::error::{Failure, Result};
use crate::server::SqlError;
use crate::value::Lsn;

/// When a server was started, to the microsecond: the publisher and a clone of it have the same system_identifier.
pub(super) const STARTED: &str =
    "to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')";

/// Whether rows may have been written on a clone itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnRows {
    /// No transaction has begun there that could have.
    None,
    /// Where its tables count some.
    Counted,
    /// Its tables' counts may be of an earlier time.
    CountedOfOld,
}

/// What a clone says of itself.
pub(super) struct Clone {
    identifier: String,
    started: String,
    in_recovery: bool,
    replayed: Option<Lsn>,
    timeline: i32,
    previous_timeline: i32,
    prepared: i64,
    /// The first transaction number that it had not seen, with its epoch.
    pub(super) next_xid: i64,
    /// It has given numbers to transactions of its own since its recovery ended, or that is not known.
    used_numbers: bool,
    aurora: bool,
    pub(super) workers: i32,
}

impl Clone {
    pub(super) fn read(client: &mut Client) -> Result<Clone> {
        // A checkpoint after the point is nearer to the next transaction of that moment than what the clone is at by now: it may
        // have begun some of its own.
        let row = client
            .query_one(
                &format!("SELECT (SELECT system_identifier::text FROM pg_control_system()), pg_is_in_recovery(), pg_last_wal_replay_lsn()::text,
                        c.timeline_id, c.prev_timeline_id, (SELECT count(*) FROM pg_prepared_xacts),
                        CASE WHEN c.checkpoint_lsn >= pg_last_wal_replay_lsn()
                             THEN split_part(c.next_xid, ':', 1)::int8 * 4294967296 + split_part(c.next_xid, ':', 2)::int8
                             ELSE txid_snapshot_xmax(txid_current_snapshot()) END,
                        EXISTS (SELECT FROM pg_proc WHERE proname = 'aurora_version'),
                        current_setting('max_logical_replication_workers')::int, {STARTED},
                        coalesce(c.checkpoint_lsn <> pg_last_wal_replay_lsn(), true)
                            OR split_part(c.next_xid, ':', 2)::int8 <> txid_snapshot_xmax(txid_current_snapshot()) % 4294967296
                   FROM pg_control_checkpoint() c"),
                &[],
            )
            .map_err(SqlError::from)?;
        let replayed: Option<String> = row.get(2);
        Ok(Clone {
            identifier: row.get(0),
            in_recovery: row.get(1),
            replayed: replayed.map(|lsn| lsn.parse()).transpose()?,
            timeline: row.get(3),
            previous_timeline: row.get(4),
            prepared: row.get(5),
            next_xid: row.get(6),
            aurora: row.get(7),
            workers: row.get(8),
            started: row.get(9),
            used_numbers: row.get(10),
        })
    }

    /// What the counts of its tables say of rows that were written on it. A crash, which is what a clone recovers from, forgets
    /// them; a standby may have kept those of a time when it was a primary.
    pub(super) fn own_rows(&self, timeline: i32) -> OwnRows {
        match (self.used_numbers, self.timeline == timeline) {
            (false, _) => OwnRows::None,
            (true, true) => OwnRows::Counted,
            (true, false) => OwnRows::CountedOfOld,
        }
    }

    /// The point, or why there is none that a subscription could begin at.
    pub(super) fn point(
        &self,
        (publisher, started): (u64, &str),
        timeline: i32,
        confirmed: Lsn,
        now: Lsn,
    ) -> Result<Lsn> {
        let refuse = |why: String, hint: &str| Failure::new(why).hint(hint).err();
        if self.identifier != publisher.to_string() {
            return refuse(
                format!(
                    "it is no clone of the publisher: its system_identifier is {}, the publisher's {publisher}",
                    self.identifier
                ),
                "measure the clone before pg_upgrade gives it an identifier of its own",
            );
        }
        if self.started == started {
            // After a crash it would even have a point.
            return refuse(
                "it is the publisher itself, and no clone".into(),
                "start the clone on a machine or port of its own, and name that in --clone",
            );
        }
        if self.aurora {
            return refuse(
                "it is an Aurora cluster, whose log positions are not the publisher's".into(),
                "restore the snapshot as an RDS for PostgreSQL instance",
            );
        }
        if self.in_recovery {
            return refuse(
                "it is still in recovery, and has not reached its point".into(),
                "cut a standby off its primary (primary_conninfo = ''), restart and promote it; or wait for the recovery's end",
            );
        }
        let Some(point) = self.replayed else {
            return refuse(
                "it does not know how far it has replayed: it was restarted since it was taken, or is a copy of a server that was shut down"
                    .into(),
                "take a clone of the running server, and measure it at its first start",
            );
        };
        if self.prepared > 0 {
            return refuse(
                format!(
                    "it has {} prepared transactions, which the publisher may end otherwise",
                    self.prepared
                ),
                "end them on the publisher and take another clone",
            );
        }
        if self.timeline != timeline
            && self.previous_timeline != timeline
            && self.timeline != timeline + 1
        {
            return refuse(
                format!(
                    "its timeline {} does not come from the publisher's, {timeline}",
                    self.timeline
                ),
                "take the clone of the publisher itself, or of a standby that follows it",
            );
        }
        if point < confirmed {
            return refuse(
                format!(
                    "it has reached {point}, and the slot begins at {confirmed}: it was taken before the slot was made, and rows in between would be lost in silence"
                ),
                "take the clone after flare adopt begin",
            );
        }
        if point > now {
            return refuse(
                format!(
                    "it has reached {point}, and the publisher is at {now}: its history is another one"
                ),
                "take the clone of the publisher itself",
            );
        }
        Ok(point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clone() -> Clone {
        Clone {
            identifier: "7".into(),
            started: "later".into(),
            in_recovery: false,
            replayed: Some(Lsn(50)),
            timeline: 1,
            previous_timeline: 1,
            prepared: 0,
            next_xid: 100,
            aurora: false,
            workers: 0,
            used_numbers: false,
        }
    }

    #[test]
    fn counts_of_a_promoted_standby_may_be_old() {
        let rows = |used_numbers, timeline| {
            let clone = Clone {
                used_numbers,
                ..clone()
            };
            clone.own_rows(timeline)
        };
        assert_eq!(rows(false, 1), OwnRows::None);
        assert_eq!(rows(true, 1), OwnRows::Counted);
        assert_eq!(rows(true, 2), OwnRows::CountedOfOld);
    }

    #[test]
    fn a_clone_that_a_subscription_cannot_begin_at_is_refused_with_the_reason() {
        let point = |clone: &Clone| {
            clone
                .point((7, "earlier"), 1, Lsn(40), Lsn(60))
                .map_err(|it| it.to_string())
        };
        assert_eq!(point(&clone()), Ok(Lsn(50)));
        let promoted = Clone {
            timeline: 2,
            previous_timeline: 1,
            ..clone()
        };
        assert_eq!(point(&promoted), Ok(Lsn(50)));
        for (refused, word) in [
            (
                Clone {
                    identifier: "8".into(),
                    ..clone()
                },
                "no clone",
            ),
            (
                Clone {
                    started: "earlier".into(),
                    ..clone()
                },
                "publisher itself",
            ),
            (
                Clone {
                    aurora: true,
                    ..clone()
                },
                "Aurora",
            ),
            (
                Clone {
                    in_recovery: true,
                    ..clone()
                },
                "recovery",
            ),
            (
                Clone {
                    replayed: None,
                    ..clone()
                },
                "restarted",
            ),
            (
                Clone {
                    replayed: Some(Lsn(39)),
                    ..clone()
                },
                "before the slot",
            ),
            (
                Clone {
                    replayed: Some(Lsn(61)),
                    ..clone()
                },
                "another one",
            ),
            (
                Clone {
                    prepared: 1,
                    ..clone()
                },
                "prepared",
            ),
            (
                Clone {
                    timeline: 5,
                    previous_timeline: 4,
                    ..clone()
                },
                "timeline",
            ),
        ] {
            let why = point(&refused).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }
}
