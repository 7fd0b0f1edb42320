//! Subscriptions, their tables and their workers.

use serde::Deserialize;

use super::tables::LOCKED;
use crate::config::Via;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::TableName;

/// A subscription of the session's database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) oid: String,
    pub(crate) subname: String,
    pub(crate) subenabled: bool,
    pub(crate) subslotname: Option<String>,
    pub(crate) subpublications: Vec<String>,
    pub(crate) owner: String,
    /// Whether the session's role may do what the owner may.
    pub(crate) mine: bool,
}

/// Before 14 only superusers read more than these columns, and not the oid; the view of workers has that for everyone,
/// and only in the subscription's own database does `pg_subscription_rel` have tables of it.
const WITHOUT_OID: &str = "
    (SELECT s.subdbid, s.subname, s.subenabled, s.subslotname, s.subpublications, s.subowner,
            (SELECT w.subid FROM pg_stat_subscription w WHERE w.subname = s.subname
              ORDER BY EXISTS (SELECT FROM pg_subscription_rel r WHERE r.srsubid = w.subid) DESC, w.subid LIMIT 1) AS oid
       FROM pg_subscription s)";

/// `pg_subscription` as far as the session's role may read it, for a FROM.
fn readable(session: &Session) -> Result<&'static str> {
    // From 14 on everybody may read all but subconninfo.
    let whole = session.major()? >= 14
        || session.value(
            "SELECT has_column_privilege('pg_subscription', 'oid', 'SELECT')",
            params![],
        )?;
    Ok(if whole {
        "pg_subscription"
    } else {
        WITHOUT_OID
    })
}

/// The subscriptions of the session's database. Column by column: `subconninfo` is the superuser's alone.
pub(crate) fn all(session: &Session) -> Result<Vec<Subscription>> {
    let subscriptions = readable(session)?;
    let sql = format!(
        "SELECT jsonb_build_object('oid', coalesce(s.oid::text, ''), 'subname', s.subname, 'subenabled', s.subenabled,
                  'subslotname', s.subslotname, 'subpublications', to_jsonb(s.subpublications),
                  'owner', pg_get_userbyid(s.subowner), 'mine', pg_has_role(s.subowner, 'USAGE'))
           FROM {subscriptions} s
          WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY s.subname"
    );
    session
        .list(&sql, params![])
        .wrap_err("read the subscriptions")
}

/// The subscription of this name in the session's database.
pub(crate) fn find(session: &Session, subname: &str) -> Result<Option<Subscription>> {
    let mut subscriptions = all(session)?.into_iter();
    Ok(subscriptions.find(|subscription| subscription.subname == subname))
}

/// Where a subscription's connection leads, `host:port`, as far as it says so; none where the role may not read it.
fn leads_to(session: &Session, subname: &str) -> Result<Option<String>> {
    let readable: bool = session.value(
        "SELECT has_column_privilege('pg_subscription', 'subconninfo', 'SELECT')",
        params![],
    )?;
    if !readable {
        return Ok(None);
    }
    let rows = session.rows(
        r"SELECT substring(subconninfo from '(?:^|\s)host\s*=\s*''?([^''\s]+)') || ':'
                 || coalesce(substring(subconninfo from '(?:^|\s)port\s*=\s*''?([0-9]+)'), '5432')
            FROM pg_subscription WHERE subname = $1 AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        params![subname],
    )?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// The same where it is not the address that the configuration has for its publisher.
pub(crate) fn leads_elsewhere(
    session: &Session,
    subname: &str,
    declared: &Via,
) -> Result<Option<String>> {
    let declared = format!("{}:{}", declared.host, declared.port);
    Ok(leads_to(session, subname)?.filter(|found| *found != declared))
}

/// The oids of all subscriptions of the server.
pub(crate) fn oids(session: &Session) -> Result<Vec<String>> {
    session.value(
        "SELECT array(SELECT DISTINCT subid::text FROM pg_stat_subscription)",
        params![],
    )
}

/// A table of a subscription (`pg_subscription_rel`) and who works on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Relation {
    #[serde(flatten)]
    pub(crate) name: TableName,
    /// i, d, f, s, r: waiting, copying, copied, in step, ready.
    pub(crate) srsubstate: char,
    /// Bytes here by now, while it is copied; a size waits for whoever has locked the table.
    pub(crate) bytes: i64,
    /// The worker that copies it.
    pub(crate) pid: Option<i32>,
}

/// The tables of a subscription.
pub(crate) fn relations(session: &Session, subname: &str) -> Result<Vec<Relation>> {
    let subscriptions = readable(session)?;
    session
        .list(
            &format!(
                "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'srsubstate', r.srsubstate,
                      'bytes', CASE WHEN r.srsubstate IN ('i', 'd') AND c.oid NOT IN ({LOCKED}) THEN pg_relation_size(c.oid) ELSE 0 END,
                      'pid', (SELECT max(w.pid) FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.relid = c.oid))
                   FROM {subscriptions} s JOIN pg_subscription_rel r ON r.srsubid = s.oid
                   JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                  ORDER BY n.nspname, c.relname"
            ),
            params![subname],
        )
        .wrap_err_with(|| format!("read the tables of subscription {subname:?}"))
}

/// How the subscription's own workers fare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Health {
    pub(crate) subenabled: bool,
    /// The apply worker.
    pub(crate) pid: Option<i32>,
    /// When it last had a message, by the subscriber's clock.
    pub(crate) heard_at: Option<String>,
    /// After how many milliseconds one that has ended is started again.
    #[serde(default)]
    pub(crate) retry_ms: u64,
    /// From 15 on.
    pub(crate) apply_error_count: Option<i64>,
    /// From 15 on.
    pub(crate) sync_error_count: Option<i64>,
}

/// How the subscription fares; `None` when there is none. `major` is the server's.
pub(crate) fn health(session: &Session, subname: &str, major: i32) -> Result<Option<Health>> {
    let errors = match major {
        15.. => {
            "(SELECT jsonb_build_object('apply_error_count', e.apply_error_count, 'sync_error_count', e.sync_error_count)
                   FROM pg_stat_subscription_stats e WHERE e.subid = s.oid)"
        }
        _ => "'{}'::jsonb",
    };
    let subscriptions = readable(session)?;
    session
        .first(
            &format!(
                "SELECT jsonb_build_object('subenabled', s.subenabled,
                          'pid', w.pid, 'heard_at', w.last_msg_receipt_time,
                          'retry_ms', (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_retrieve_retry_interval')) || {errors}
                   FROM {subscriptions} s LEFT JOIN LATERAL (
                        SELECT v.pid, v.last_msg_receipt_time FROM pg_stat_subscription v
                         WHERE v.subid = s.oid AND v.relid IS NULL AND to_jsonb(v) ->> 'leader_pid' IS NULL AND v.pid IS NOT NULL
                         ORDER BY v.pid DESC LIMIT 1) w ON true
                  WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ),
            params![subname],
        )
        .wrap_err_with(|| format!("read how subscription {subname:?} fares"))
}
