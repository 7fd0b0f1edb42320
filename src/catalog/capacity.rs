//! Room for one more subscription: slots, walsenders, workers.

use serde::Deserialize;

use crate::error::{Failure, Result, WrapErr};
use crate::server::{Session, params};

/// A limit of the server and how much of it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Room {
    /// The setting.
    pub(crate) name: String,
    pub(crate) limit: i64,
    pub(crate) used: i64,
}

impl Room {
    pub(crate) fn free(&self) -> i64 {
        self.limit - self.used
    }
}

/// What a publisher has room for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PublisherRoom {
    pub(crate) wal_level: String,
    pub(crate) rooms: Vec<Room>,
}

/// What a subscriber has room for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct SubscriberRoom {
    pub(crate) max_sync_workers_per_subscription: i64,
    pub(crate) rooms: Vec<Room>,
}

/// What the publisher has room for.
pub(crate) fn of_publisher(session: &Session) -> Result<PublisherRoom> {
    let found = session
        .first(
            "SELECT jsonb_build_object('wal_level', current_setting('wal_level'), 'rooms', jsonb_build_array(
                  jsonb_build_object('name', 'max_replication_slots', 'limit', current_setting('max_replication_slots')::int8,
                                     'used', (SELECT count(*) FROM pg_replication_slots)),
                  jsonb_build_object('name', 'max_wal_senders', 'limit', current_setting('max_wal_senders')::int8,
                                     'used', (SELECT count(*) FROM pg_stat_get_wal_senders()))))",
            params![],
        )
        .wrap_err("read the publisher's limits")?;
    Ok(found.ok_or_else(|| Failure::new("read the publisher's limits: no row came back"))?)
}

/// What the subscriber has room for. Until 17 `max_replication_slots` limits the origins of subscriptions too.
pub(crate) fn of_subscriber(session: &Session) -> Result<SubscriberRoom> {
    let found = session
        .first(
            "SELECT jsonb_build_object(
                'max_sync_workers_per_subscription', current_setting('max_sync_workers_per_subscription')::int8,
                'rooms', jsonb_build_array(
                  jsonb_build_object('name', 'max_logical_replication_workers', 'limit', current_setting('max_logical_replication_workers')::int8,
                                     'used', (SELECT count(pid) FROM pg_stat_subscription)),
                  jsonb_build_object('name', o.name, 'limit', current_setting(o.name)::int8,
                                     'used', (SELECT count(*) FROM pg_replication_origin))))
               FROM (SELECT CASE WHEN current_setting('max_active_replication_origins', true) IS NULL
                                 THEN 'max_replication_slots' ELSE 'max_active_replication_origins' END AS name) o",
            params![],
        )
        .wrap_err("read the subscriber's limits")?;
    Ok(found.ok_or_else(|| Failure::new("read the subscriber's limits: no row came back"))?)
}

/// How many more sessions of ordinary roles a server takes. Before 12 walsenders count among those it has.
pub(crate) fn free_sessions(session: &Session) -> Result<i64> {
    session
        .value(
            "SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
                    - coalesce(current_setting('reserved_connections', true), '0')::int8
                    - coalesce((SELECT sum(numbackends) FROM pg_stat_database), 0)::int8
                    + CASE WHEN current_setting('server_version_num')::int < 120000 THEN 0 ELSE (SELECT count(*) FROM pg_stat_get_wal_senders()) END
                    + (SELECT count(pid) FROM pg_stat_subscription)",
            params![],
        )
        .wrap_err("read how many sessions the server has room for")
}
