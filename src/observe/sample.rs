//! What both servers say at one moment. `None` is what a version does not have, or a role may not see.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::journal::Direction;
use crate::value::Lsn;

/// Both sides of one subscription, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// How old the subscriber's state is: 0 when it has confirmed everything; none when nobody knows.
    pub lag_seconds: Option<f64>,
    /// Write-ahead log that the slot keeps on the publisher.
    pub retained_wal_bytes: Option<u64>,
    /// `wal_status` of the slot (13 and later).
    pub wal_status: Option<String>,
    /// How many of the subscription's tables are ready, and how many there are.
    pub tables: Option<Tables>,
    /// The publisher, when it answered.
    pub publisher: Option<PublisherSample>,
    /// Why it did not.
    pub publisher_error: Option<String>,
    /// The subscriber, when it answered.
    pub subscriber: Option<SubscriberSample>,
    /// Why it did not.
    pub subscriber_error: Option<String>,
}

/// How far the initial copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tables {
    /// All tables of the subscription.
    pub total: u64,
    /// Those that are copied and follow.
    pub ready: u64,
}

/// What the publisher says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublisherSample {
    /// The publisher's clock.
    #[serde(default)]
    pub time: String,
    /// `pg_current_wal_lsn()`.
    pub current_wal_lsn: Lsn,
    /// `max_slot_wal_keep_size` (13 and later), as the server writes it; `-1`: no limit.
    pub max_slot_wal_keep_size: Option<String>,
    /// The replication slots of the database.
    pub slots: Vec<Slot>,
    /// The walsenders that use them.
    pub walsenders: Vec<Walsender>,
    /// Sessions in the database, by user.
    pub connections: Vec<Connection>,
    /// What may be done with the table of earlier positions.
    #[serde(default, skip_serializing)]
    pub(super) lsn_history: LsnHistory,
}

/// What the session's role may do with `flare.sample`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum LsnHistory {
    /// Read and write.
    Usable,
    /// It is not there, and may be made.
    Creatable,
    /// Nothing.
    #[default]
    Denied,
}

/// A slot as `pg_replication_slots` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name.
    pub slot_name: String,
    /// Its output plugin.
    pub plugin: Option<String>,
    /// Whether a session uses it.
    pub active: bool,
    /// That session.
    pub active_pid: Option<i32>,
    /// The oldest position it needs.
    pub restart_lsn: Option<Lsn>,
    /// Up to here the subscriber has confirmed.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost` (13 and later).
    pub wal_status: Option<String>,
    /// Why it is lost (17 and later).
    pub invalidation_reason: Option<String>,
    /// What may still be written before the slot is lost (13 and later).
    pub safe_wal_size: Option<i64>,
    /// From `restart_lsn` to the current position.
    #[serde(default)]
    pub retained_wal_bytes: Option<u64>,
}

/// A walsender as `pg_stat_replication` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Walsender {
    /// Its process.
    pub pid: i32,
    /// The role it replicates for.
    pub usename: Option<String>,
    /// The subscription, or the table sync's slot.
    pub application_name: Option<String>,
    /// Where the subscriber is.
    pub client_addr: Option<String>,
    /// `startup`, `catchup`, `streaming`.
    pub state: Option<String>,
    /// Sent up to here.
    pub sent_lsn: Option<Lsn>,
    /// Flushed by the subscriber up to here.
    pub flush_lsn: Option<Lsn>,
    /// When it started.
    pub backend_start: Option<String>,
}

/// Sessions of one user in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The role; none for the server's own processes.
    pub usename: Option<String>,
    /// How many sessions.
    pub count: u64,
    /// How many of them run a statement.
    pub active: u64,
}

/// What the subscriber says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubscriberSample {
    /// The subscription; none when there is none of that name in the database.
    pub subscription: Option<Subscription>,
    /// Its workers, as `pg_stat_subscription` shows them.
    pub workers: Vec<Worker>,
    /// Its tables by `srsubstate`: `i` initialize, `d` copying, `f` copied, `s` synchronised, `r` ready.
    pub table_states: BTreeMap<String, u64>,
    /// The tables that are not ready, the largest first, a hundred at most.
    pub unready: Vec<Unready>,
    /// Errors so far (15 and later).
    pub errors: Option<ApplyErrors>,
    /// Sessions in the database, by user.
    pub connections: Vec<Connection>,
}

/// A subscription, as far as everybody may read `pg_subscription`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its name.
    pub subname: String,
    /// Whether it is enabled.
    pub subenabled: bool,
    /// Its slot on the publisher.
    pub subslotname: Option<String>,
    /// Its publications.
    pub subpublications: Vec<String>,
}

/// A worker of a subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its process.
    pub pid: i32,
    /// The table it copies; none for the one that applies.
    pub table: Option<String>,
    /// `apply`, `parallel apply` or `table synchronization` (17 and later).
    pub worker_type: Option<String>,
    /// Received up to here.
    pub received_lsn: Option<Lsn>,
    /// Reported to the publisher up to here.
    pub latest_end_lsn: Option<Lsn>,
    /// When the last message came.
    pub last_msg_receipt_time: Option<String>,
}

/// A table whose copy is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unready {
    /// The table.
    pub table: String,
    /// `srsubstate`.
    pub srsubstate: String,
    /// Its size on the subscriber so far.
    pub bytes: Option<u64>,
}

/// `pg_stat_subscription_stats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyErrors {
    /// Errors while applying changes.
    pub apply_error_count: u64,
    /// Errors while copying tables.
    pub sync_error_count: u64,
}

/// What one side answered.
pub(super) type Answer<T> = std::result::Result<T, String>;

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
            retained_wal_bytes: slot.and_then(|slot| slot.retained_wal_bytes),
            wal_status: slot.and_then(|slot| slot.wal_status.clone()),
            tables: states.map(|subscriber| Tables {
                total: subscriber.table_states.values().sum(),
                ready: subscriber.table_states.get("r").copied().unwrap_or(0),
            }),
            slot_name,
            publisher,
            publisher_error,
            subscriber,
            subscriber_error,
        }
    }
}

impl Sample {
    /// The subscription's own slot.
    pub(super) fn slot(&self) -> Option<&Slot> {
        let slots = &self.publisher.as_ref()?.slots;
        slots
            .iter()
            .find(|slot| Some(&slot.slot_name) == self.slot_name.as_ref())
    }
}

impl Slot {
    /// Whether WAL it needs is gone, or may be.
    pub(super) fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some()
    }
}

impl SubscriberSample {
    /// The process that applies the changes.
    pub(super) fn apply_pid(&self) -> Option<i32> {
        let apply = self.workers.iter().find(|worker| worker.table.is_none());
        apply.map(|worker| worker.pid)
    }

    /// Whether a table is being copied.
    pub(super) fn copies(&self) -> bool {
        self.workers.iter().any(|worker| worker.table.is_some())
    }
}

fn apart<T>(answer: Answer<T>) -> (Option<T>, Option<String>) {
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
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::observe) fn sample() -> Sample {
        let publisher = json!({
            "current_wal_lsn": "0/3000000", "max_slot_wal_keep_size": null,
            "slots": [
                {"slot_name": "other", "plugin": "pgoutput", "active": false, "restart_lsn": "0/1000000"},
                {"slot_name": "of_sub", "plugin": "pgoutput", "active": true, "active_pid": 7,
                 "restart_lsn": "0/2000000", "confirmed_flush_lsn": "0/2FFFF00"},
            ],
            "walsenders": [{"pid": 7, "usename": "repl", "application_name": "sub", "state": "streaming",
                            "sent_lsn": "0/3000000", "flush_lsn": "0/2FFFF00"}],
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
        let gone = |why: &str| Err(why.to_owned());
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
            (half.tables, half.subscriber_error.as_deref()),
            (None, Some("refused"))
        );
        let none = Sample::of(
            "t".into(),
            Direction::Forward,
            "shop",
            "sub",
            Err("a".into()),
            gone("b"),
        );
        assert_eq!((none.lag_bytes, none.active), (None, None));
    }
}
