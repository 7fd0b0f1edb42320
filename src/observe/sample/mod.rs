//! What both servers say at one moment. `None` is what a version does not have, or a role may not see.

mod publisher;
mod subscriber;
mod survey;

use serde::Serialize;

use super::age::Age;
use super::causes::Cause;
use super::copying::Copying;
use super::rates::Rates;
use super::retention::Retention;
use super::side_session::sides;
use super::suspects::Suspect;
use super::unanswered::Unanswered;
use super::verdict::LagStatus;
use crate::journal::Direction;
use crate::server::Side;

pub(super) use publisher::LsnHistory;
pub use publisher::{
    Connection, DecodingStats, OldTransaction, PublisherSample, RowCounts, Slot, Waits, Walsender,
};
pub use subscriber::{
    ApplyErrors, Blocker, CopyProgress, IndexBuild, SubscriberSample, Subscription, Unready,
    Worker, Workers,
};
pub use survey::{PublishedTable, Survey};

/// Both sides of one subscription, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// When it was taken (UTC).
    pub time: String,
    /// Which way the data flows: back, the publisher below is the configuration's subscriber.
    pub direction: Direction,
    /// The database.
    pub dbname: String,
    /// The subscription.
    pub subname: String,
    /// The slot the subscription uses; none while it is not known.
    pub slot_name: Option<String>,
    /// Whether the slot is in use; none when there is no such slot.
    pub active: Option<bool>,
    /// Write-ahead log that the subscriber has not confirmed.
    pub lag_bytes: Option<u64>,
    /// How old the subscriber's state is at least: 0 when it has confirmed everything; none when nobody knows.
    pub lag_seconds: Option<f64>,
    /// How old it is at most; none when nobody knows.
    pub lag_seconds_at_most: Option<f64>,
    /// Write-ahead log that the slot keeps on the publisher.
    pub retained_wal_bytes: Option<u64>,
    /// `wal_status` of the slot (13 and later).
    pub wal_status: Option<String>,
    /// How many of the subscription's tables are ready, and how many there are.
    pub tables: Option<Tables>,
    /// Where the lag is; none without a walsender.
    pub lag: Option<LagParts>,
    /// What moved how fast, over the last samples; none in the first one.
    pub rates: Option<Rates>,
    /// The WAL that the slot keeps, and how much more it may keep.
    pub retention: Option<Retention>,
    /// How far the initial copy is; none when no table is being copied.
    pub copying: Option<Copying>,
    /// How it fares, by the limits of `lag`.
    pub status: LagStatus,
    /// What is wrong, in words; empty where all is well.
    pub message: String,
    /// Why it is slow, the gravest first; none in the first sample, where nothing can be said of it.
    pub causes: Vec<Cause>,
    /// What probably ends its workers, the surest first; empty where they run.
    pub suspects: Vec<Suspect>,
    /// Where the subscription's connection leads, where that is no server of the configuration's.
    #[serde(skip)]
    pub(super) follows: Option<String>,
    /// What could not be seen, and what would show it.
    pub notes: Vec<String>,
    /// The publisher, when it answered.
    pub publisher: Option<PublisherSample>,
    /// Why it did not.
    pub publisher_error: Option<Unanswered>,
    /// The subscriber, when it answered.
    pub subscriber: Option<SubscriberSample>,
    /// Why it did not.
    pub subscriber_error: Option<Unanswered>,
}

/// The lag, cut where it waits: `pg_stat_replication` of the subscription's walsender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LagParts {
    /// From `sent_lsn` to the publisher's position.
    pub unsent_bytes: u64,
    /// From `write_lsn` to `sent_lsn`: on the way, or not taken in yet.
    pub unwritten_bytes: u64,
    /// From `flush_lsn` to `write_lsn`.
    pub unapplied_bytes: u64,
}

/// How far the initial copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tables {
    /// All tables of the subscription.
    pub total: u64,
    /// Those that are copied and follow.
    pub ready: u64,
}

/// What one side answered.
pub(super) type Answer<T> = std::result::Result<T, Unanswered>;

impl Sample {
    /// Puts both answers together: what concerns the subscription's own slot stands on top.
    pub(super) fn of(
        time: String,
        direction: Direction,
        dbname: &str,
        subname: &str,
        publisher: Answer<PublisherSample>,
        subscriber: Answer<SubscriberSample>,
    ) -> Sample {
        let (publisher, publisher_error) = apart(publisher.map(with_retained));
        let (subscriber, subscriber_error) = apart(subscriber);
        // A slot bears the subscription's name unless it was told otherwise.
        let slot_name = match subscriber.as_ref().and_then(|it| it.subscription.as_ref()) {
            Some(subscription) => subscription.subslotname.clone(),
            None => Some(subname.to_owned()),
        };
        let slot = publisher.as_ref().and_then(|publisher| {
            let slots = &publisher.slots;
            slots
                .iter()
                .find(|slot| Some(&slot.slot_name) == slot_name.as_ref())
        });
        let confirmed = slot.and_then(|slot| slot.confirmed_flush_lsn);
        let current = publisher
            .as_ref()
            .map(|publisher| publisher.current_wal_lsn);
        let states = subscriber.as_ref().filter(|it| it.subscription.is_some());
        Sample {
            time,
            direction,
            dbname: dbname.to_owned(),
            subname: subname.to_owned(),
            active: slot.map(|slot| slot.active),
            lag_bytes: current
                .zip(confirmed)
                .map(|(now, then)| now.bytes_since(then)),
            lag_seconds: None,
            lag_seconds_at_most: None,
            retained_wal_bytes: slot.and_then(|slot| slot.retained_wal_bytes),
            wal_status: slot.and_then(|slot| slot.wal_status.clone()),
            tables: states.map(|subscriber| Tables {
                total: subscriber.table_states.values().sum(),
                ready: subscriber.table_states.get("r").copied().unwrap_or(0),
            }),
            lag: None,
            rates: None,
            retention: None,
            copying: None,
            status: LagStatus::Unknown,
            message: String::new(),
            causes: Vec::new(),
            suspects: Vec::new(),
            follows: None,
            notes: Vec::new(),
            slot_name,
            publisher,
            publisher_error,
            subscriber,
            subscriber_error,
        }
        .with_parts()
    }

    fn with_parts(mut self) -> Sample {
        let walsender = self.walsender();
        let parts = walsender
            .zip(self.publisher.as_ref())
            .and_then(|(it, publisher)| {
                let (sent, written, flushed) = (it.sent_lsn?, it.write_lsn?, it.flush_lsn?);
                Some(LagParts {
                    unsent_bytes: publisher.current_wal_lsn.bytes_since(sent),
                    unwritten_bytes: sent.bytes_since(written),
                    unapplied_bytes: written.bytes_since(flushed),
                })
            });
        self.lag = parts;
        self
    }
}

impl Sample {
    /// Takes in how old the subscriber's state is.
    pub(super) fn with_age(&mut self, age: Option<Age>) {
        self.lag_seconds = age.and_then(Age::at_least);
        self.lag_seconds_at_most = age.and_then(Age::at_most);
    }

    /// The subscription's own slot.
    pub(super) fn slot(&self) -> Option<&Slot> {
        let slots = &self.publisher.as_ref()?.slots;
        slots
            .iter()
            .find(|slot| Some(&slot.slot_name) == self.slot_name.as_ref())
    }

    /// Where the data comes from and where it goes, as the configuration calls them.
    pub(crate) fn sides(&self) -> (Side, Side) {
        sides(self.direction)
    }

    /// The walsender that uses that slot.
    pub(super) fn walsender(&self) -> Option<&Walsender> {
        let pid = self.slot()?.active_pid?;
        let walsenders = &self.publisher.as_ref()?.walsenders;
        walsenders.iter().find(|it| it.pid == pid)
    }
}

fn apart<T>(answer: Answer<T>) -> (Option<T>, Option<Unanswered>) {
    match answer {
        Ok(answer) => (Some(answer), None),
        Err(why) => (None, Some(why)),
    }
}

fn with_retained(mut publisher: PublisherSample) -> PublisherSample {
    let current = publisher.current_wal_lsn;
    for slot in &mut publisher.slots {
        slot.retained_wal_bytes = slot.restart_lsn.map(|restart| current.bytes_since(restart));
    }
    publisher
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn sample() -> Sample {
        let publisher = json!({
            "current_wal_lsn": "0/3000000", "max_slot_wal_keep_size": null,
            "slots": [
                {"slot_name": "other", "plugin": "pgoutput", "active": false, "restart_lsn": "0/1000000"},
                {"slot_name": "of_sub", "plugin": "pgoutput", "active": true, "active_pid": 7,
                 "restart_lsn": "0/2000000", "confirmed_flush_lsn": "0/2FFFF00"},
            ],
            "walsenders": [{"pid": 7, "usename": "repl", "application_name": "sub", "state": "streaming",
                            "sent_lsn": "0/3000000", "write_lsn": "0/2FFFF80", "flush_lsn": "0/2FFFF00"}],
            "connections": [{"usename": "app", "count": 4, "active": 1}],
        });
        let subscriber = json!({
            "subscription": {"subname": "sub", "subenabled": true, "subslotname": "of_sub", "subpublications": ["p"]},
            "workers": [{"pid": 9, "received_lsn": "0/3000000"}],
            "table_states": {"r": 2, "d": 1},
            "unready": [{"table": "public.big", "srsubstate": "d", "bytes": 1048576}],
            "errors": null,
            "connections": [],
        });
        Sample::of(
            "2026-01-02T03:04:05Z".into(),
            Direction::Forward,
            "shop",
            "sub",
            Ok(serde_json::from_value(publisher).unwrap()),
            Ok(serde_json::from_value(subscriber).unwrap()),
        )
    }

    #[test]
    fn lag_is_that_of_the_subscriptions_own_slot() {
        let sample = sample();
        assert_eq!(sample.slot_name.as_deref(), Some("of_sub"));
        assert_eq!(sample.lag_bytes, Some(0x100));
        assert_eq!(sample.retained_wal_bytes, Some(0x1000000));
        assert_eq!(sample.tables, Some(Tables { total: 3, ready: 2 }));
    }

    #[test]
    fn a_server_that_does_not_answer_leaves_the_rest() {
        let gone = |why: &str| Err(Unanswered::silent(why));
        let other = sample();
        let half = Sample::of(
            "t".into(),
            Direction::Forward,
            "shop",
            "of_sub",
            Ok(other.publisher.unwrap()),
            gone("refused"),
        );
        assert_eq!(half.lag_bytes, Some(0x100));
        assert_eq!(
            (half.tables, half.subscriber_error.map(|it| it.message)),
            (None, Some("refused".to_owned()))
        );
        let none = Sample::of(
            "t".into(),
            Direction::Forward,
            "shop",
            "sub",
            Err(Unanswered::silent("a")),
            Err(Unanswered::silent("b")),
        );
        assert_eq!((none.lag_bytes, none.active), (None, None));
    }
}
