//! What the server that receives says, in one query.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::publisher::{Connection, RowCounts, SEES_ALL, Waits, connections_in, rows_in, yes};
use crate::catalog::tables::LOCKED;
use crate::value::Lsn;

/// What the subscriber says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriberSample {
    /// The subscription; none when there is none of that name in the database.
    pub subscription: Option<Subscription>,
    /// Whether flare's own copy is under way in the database, or was interrupted.
    #[serde(default, skip_serializing)]
    pub(in crate::observe) copy_on_record: bool,
    /// Where the subscriber's own WAL is: what applying has written moves it.
    pub wal_insert_lsn: Option<Lsn>,
    /// Its workers, as `pg_stat_subscription` shows them.
    pub workers: Vec<Worker>,
    /// How many workers there are, and may be.
    #[serde(default)]
    pub worker_slots: Workers,
    /// Its tables by `srsubstate`: `i` initialize, `d` copying, `f` copied, `s` synchronised, `r` ready.
    pub table_states: BTreeMap<String, u64>,
    /// The tables that are not ready: those at work first, two hundred at most.
    pub unready: Vec<Unready>,
    /// Tables being copied (`pg_stat_progress_copy`, 14 and later).
    #[serde(default)]
    pub copies: Vec<CopyProgress>,
    /// Indexes being built in the database (`pg_stat_progress_create_index`, 12 and later).
    #[serde(default)]
    pub index_builds: Vec<IndexBuild>,
    /// Errors so far (15 and later).
    pub errors: Option<ApplyErrors>,
    /// Conflicts so far, by kind (18 and later).
    #[serde(default)]
    pub conflicts: BTreeMap<String, u64>,
    /// Rows changed in the database: what applying and copying did.
    pub rows: Option<RowCounts>,
    /// Sessions in the database, by user.
    pub connections: Vec<Connection>,
    /// Whether the role may see what others' sessions do (`pg_read_all_stats`).
    #[serde(default = "yes")]
    pub sees_all: bool,
}

/// A subscription, as far as everybody may read `pg_subscription`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Worker {
    /// Its process.
    pub pid: i32,
    /// The process that leads it, where it applies one transaction of another's (16 and later).
    pub leader_pid: Option<i32>,
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
    /// How long ago that was.
    pub silent_seconds: Option<f64>,
    /// When it started.
    pub backend_start: Option<String>,
    /// How long its transaction has been open.
    pub xact_seconds: Option<f64>,
    /// What it waits for.
    #[serde(flatten)]
    pub waits: Waits,
    /// Who holds the lock that it waits for.
    #[serde(default)]
    pub blockers: Vec<Blocker>,
    /// The table whose lock it waits for.
    pub locked_table: Option<String>,
    /// Tables of the subscription that its open transaction has changed, five at most.
    #[serde(default)]
    pub changes: Vec<String>,
}

/// A session that holds a lock which a worker waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Blocker {
    /// Its process; 0 is a prepared transaction.
    pub pid: i32,
    /// Whose it is.
    pub usename: Option<String>,
    /// What it calls itself.
    pub application_name: Option<String>,
    /// `active`, `idle in transaction`.
    pub state: Option<String>,
    /// How long its transaction has been open.
    pub seconds: Option<f64>,
}

/// Workers of all subscriptions of the server, and the settings that limit them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Workers {
    /// Apply and sync workers that run, of all subscriptions.
    pub running: u64,
    /// `max_sync_workers_per_subscription`.
    pub max_sync_workers_per_subscription: u64,
    /// `max_logical_replication_workers`.
    pub max_logical_replication_workers: u64,
    /// `max_worker_processes`.
    pub max_worker_processes: u64,
}

/// A table whose copy is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unready {
    /// The table.
    pub table: String,
    /// `srsubstate`.
    pub srsubstate: String,
    /// Its size on the subscriber so far, without indexes; none before its copy has begun.
    pub bytes: Option<u64>,
}

/// A COPY at work on the subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CopyProgress {
    /// Its process.
    pub pid: i32,
    /// The table.
    pub table: Option<String>,
    /// Bytes read from the publisher.
    pub bytes_processed: u64,
    /// Rows written.
    pub tuples_processed: u64,
}

/// An index being built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IndexBuild {
    /// Its process.
    pub pid: i32,
    /// The table.
    pub table: Option<String>,
    /// The index, once it has a name.
    pub index: Option<String>,
    /// What it is doing.
    pub phase: Option<String>,
    /// Blocks done in this phase.
    pub blocks_done: Option<u64>,
    /// Blocks in all in this phase.
    pub blocks_total: Option<u64>,
    /// Rows done in this phase.
    pub tuples_done: Option<u64>,
    /// Rows in all in this phase.
    pub tuples_total: Option<u64>,
}

/// `pg_stat_subscription_stats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ApplyErrors {
    /// Errors while applying changes.
    pub apply_error_count: u64,
    /// Errors while copying tables.
    pub sync_error_count: u64,
}

impl SubscriberSample {
    /// The worker that applies the changes.
    pub(in crate::observe) fn apply(&self) -> Option<&Worker> {
        let mut workers = self.workers.iter();
        workers.find(|worker| worker.table.is_none() && worker.leader_pid.is_none())
    }

    /// Its process.
    pub(in crate::observe) fn apply_pid(&self) -> Option<i32> {
        self.apply().map(|worker| worker.pid)
    }

    /// The workers that copy tables.
    pub(in crate::observe) fn syncs(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.table.is_some())
    }

    /// Whether a table is being copied.
    pub(in crate::observe) fn copies(&self) -> bool {
        self.syncs().next().is_some()
    }
}

/// A lock is looked at only when a worker waits for one: `pg_blocking_pids` stops the lock manager for a moment.
const WORKERS: &str = "
    (SELECT coalesce(jsonb_agg(to_jsonb(o) || jsonb_build_object(
                'table', o.relid::regclass::text,
                'silent_seconds', extract(epoch FROM clock_timestamp() - o.last_msg_receipt_time),
                'backend_start', a.backend_start,
                'xact_seconds', extract(epoch FROM clock_timestamp() - a.xact_start),
                'wait_event_type', a.wait_event_type, 'wait_event', a.wait_event,
                'blockers', CASE WHEN a.wait_event_type = 'Lock' THEN
                    (SELECT coalesce(jsonb_agg(jsonb_build_object('pid', b.pid, 'usename', s.usename,
                                'application_name', s.application_name, 'state', s.state,
                                'seconds', extract(epoch FROM clock_timestamp() - s.xact_start))), '[]')
                       FROM (SELECT DISTINCT unnest(pg_blocking_pids(o.pid)) AS pid) b
                       LEFT JOIN pg_stat_activity s ON s.pid = b.pid) ELSE '[]' END,
                'locked_table', CASE WHEN a.wait_event_type = 'Lock' THEN
                    (SELECT min(l.relation::regclass::text) FROM pg_locks l
                      WHERE l.pid = o.pid AND l.relation IS NOT NULL
                        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                        AND (NOT l.granted OR l.locktype = 'tuple')) END,
                'changes', CASE WHEN a.xact_start < clock_timestamp() - interval '1 second' AND o.relid IS NULL THEN
                    (SELECT coalesce(jsonb_agg(c.name), '[]')
                       FROM (SELECT DISTINCT l.relation::regclass::text AS name FROM pg_locks l
                              WHERE l.pid = o.pid AND l.locktype = 'relation' AND l.mode = 'RowExclusiveLock'
                                AND l.relation IN (SELECT srrelid FROM rel) LIMIT 5) c) ELSE '[]' END)
                ORDER BY o.relid NULLS FIRST, o.pid), '[]')
       FROM own o LEFT JOIN LATERAL pg_stat_get_activity(o.pid) a ON true WHERE o.pid IS NOT NULL)";

impl SubscriberSample {
    /// $1: the subscription. Without superuser only some columns of `pg_subscription` can be read, `oid` among them
    /// from 14 on.
    pub(in crate::observe) fn sql(major: i32, oid_is_readable: bool) -> String {
        let here = "(SELECT d.oid FROM pg_database d WHERE d.datname = current_database())";
        let mine = if oid_is_readable {
            format!(
                "v.subid IN (SELECT u.oid FROM pg_subscription u WHERE u.subname = $1 AND u.subdbid = {here})"
            )
        } else {
            "v.subname = $1".to_owned()
        };
        let from = |since: i32, sql: &'static str, otherwise: &'static str| {
            if major >= since { sql } else { otherwise }
        };
        let errors = from(
            15,
            "(SELECT to_jsonb(e) FROM pg_stat_subscription_stats e WHERE e.subid = (SELECT min(subid) FROM own))",
            "NULL",
        );
        let conflicts = from(
            18,
            "(SELECT coalesce(jsonb_object_agg(c.key, c.value), '{}')
                FROM pg_stat_subscription_stats e, jsonb_each(to_jsonb(e)) c
               WHERE e.subid = (SELECT min(subid) FROM own) AND c.key LIKE 'confl%')",
            "'{}'::jsonb",
        );
        let copies = from(
            14,
            "(SELECT coalesce(jsonb_agg(to_jsonb(p) || jsonb_build_object('table', p.relid::regclass::text)
                                        ORDER BY p.pid), '[]')
                FROM pg_stat_progress_copy p
               WHERE p.datname = current_database() AND p.command = 'COPY FROM')",
            "'[]'::jsonb",
        );
        let builds = from(
            12,
            "(SELECT coalesce(jsonb_agg(to_jsonb(p) || jsonb_build_object('table', p.relid::regclass::text,
                                'index', nullif(p.index_relid, 0)::regclass::text) ORDER BY p.pid), '[]')
                FROM pg_stat_progress_create_index p WHERE p.datname = current_database())",
            "'[]'::jsonb",
        );
        format!(
            "WITH own AS (SELECT v.* FROM pg_stat_subscription v WHERE {mine}),
                  rel AS (SELECT r.srrelid, r.srsubstate::text AS srsubstate
                            FROM pg_subscription_rel r WHERE r.srsubid IN (SELECT subid FROM own)),
                  states AS (SELECT srsubstate, count(*) FROM rel GROUP BY srsubstate)
             SELECT jsonb_build_object(
                'subscription', (SELECT jsonb_build_object('subname', u.subname, 'subenabled', u.subenabled,
                                           'subslotname', u.subslotname, 'subpublications', to_jsonb(u.subpublications))
                                   FROM pg_subscription u WHERE u.subname = $1 AND u.subdbid = {here}),
                'copy_on_record', EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                           WHERE n.nspname = 'flare' AND c.relname = 'copy_run'),
                'wal_insert_lsn', CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END,
                'workers', {WORKERS},
                'worker_slots', jsonb_build_object(
                    'running', (SELECT count(*) FROM pg_stat_get_subscription(NULL) w WHERE w.pid IS NOT NULL),
                    'max_sync_workers_per_subscription', current_setting('max_sync_workers_per_subscription')::int,
                    'max_logical_replication_workers', current_setting('max_logical_replication_workers')::int,
                    'max_worker_processes', current_setting('max_worker_processes')::int),
                'table_states', (SELECT coalesce(jsonb_object_agg(t.srsubstate, t.count), '{{}}') FROM states t),
                'unready', (SELECT coalesce(jsonb_agg(to_jsonb(n)), '[]')
                              FROM (SELECT r.srrelid::regclass::text AS \"table\", r.srsubstate,
                                           CASE WHEN r.srsubstate <> 'i' AND r.srrelid NOT IN ({LOCKED}) THEN pg_table_size(r.srrelid) END AS bytes
                                      FROM rel r WHERE r.srsubstate <> 'r'
                                     ORDER BY r.srsubstate = 'i', r.srrelid LIMIT 200) n),
                'copies', {copies},
                'index_builds', {builds},
                'errors', {errors},
                'conflicts', {conflicts},
                {SEES_ALL},
                {},
                {})",
            rows_in(here),
            connections_in("current_database()")
        )
    }
}
