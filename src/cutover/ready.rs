//! What has to be true before a pause begins: the stream is sound, the probe can travel, the tables can be locked.

use serde::Deserialize;

use super::sessions::Sessions;
use super::state::PauseRequest;
use super::wall::STATUS_TABLE;
use crate::catalog::subscriptions;
use crate::error::{Failure, Result};
use crate::server::{Publisher, Session, params};
use crate::value::{Ident, TableName};

/// The one replication slot of the database, with its walsender.
#[derive(Debug, Deserialize)]
pub(super) struct Stream {
    slot_name: String,
    active: bool,
    pub(super) usename: Option<String>,
    age_seconds: Option<f64>,
}

const STREAMS_OF: &str = "
    SELECT jsonb_build_object('slot_name', s.slot_name, 'active', s.active, 'usename', r.usename,
           'age_seconds', extract(epoch FROM clock_timestamp() - r.backend_start))
      FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
     WHERE s.database = $1 ORDER BY s.slot_name";

/// Refuses, as the original does, when the walsender is too young or the database has more than one slot.
pub(super) fn stream_of(publisher: &Publisher, request: &PauseRequest<'_>) -> Result<Stream> {
    let mut streams: Vec<Stream> = publisher
        .admin()
        .list(STREAMS_OF, params![request.dbname])?;
    let PauseRequest {
        dbname,
        subname,
        allowed_rep_duration,
        ..
    } = request;
    if streams.len() > 1 {
        let names: Vec<&str> = streams
            .iter()
            .map(|stream| stream.slot_name.as_str())
            .collect();
        return Failure::new(format!(
            "pause {dbname:?}: it has {} replication slots ({}), where there should be one: an initial copy is under way, or something else replicates too",
            names.len(),
            names.join(", ")
        ))
        .hint("wait for the copy (flare monitor), or drop the slot that is not needed")
        .err();
    }
    let stream = streams.pop().ok_or_else(|| {
        Failure::new(format!(
            "pause {dbname:?}: nothing replicates it, there is no replication slot"
        ))
        .hint(format!("flare create_subscription {subname}"))
    })?;
    let age = stream
        .age_seconds
        .filter(|_| stream.active)
        .ok_or_else(|| {
            Failure::new(format!(
                "pause {dbname:?}: slot {:?} is not active, the subscriber does not replicate",
                stream.slot_name
            ))
            .hint("see flare monitor and the subscriber's log for what stops apply")
        })?;
    if age < allowed_rep_duration.as_secs_f64() {
        return Failure::new(format!(
            "pause {dbname:?}: replication runs only since {age:.1} s, less than {}; an apply that fails is started again and again",
            humantime::format_duration(*allowed_rep_duration)
        ))
        .hint(format!(
            "run the command again in {:.0} s, or lower --allowed-rep-duration",
            (allowed_rep_duration.as_secs_f64() - age).ceil()
        ))
        .err();
    }
    Ok(stream)
}

pub(super) fn roles_exist(admin: &Session, request: &PauseRequest<'_>) -> Result<()> {
    let named: Vec<String> = request
        .app_users
        .iter()
        .chain(&request.keep_users)
        .cloned()
        .collect();
    let unknown: Vec<String> = admin.value(
        "SELECT array(SELECT name FROM unnest($1) name WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name))",
        params![named],
    )?;
    match unknown.is_empty() {
        true => Ok(()),
        false => Failure::usage(format!(
            "pause {:?}: there is no role {}",
            request.dbname,
            unknown.join(", ")
        ))
        .hint("correct --app-user, cutover.app_users or cutover.keep_users")
        .err(),
    }
}

/// The status table has to be on both sides, and in the stream: the probe row goes through it.
pub(super) fn status_table_is_ready(sessions: &Sessions, request: &PauseRequest<'_>) -> Result<()> {
    let published: bool = sessions.wall.session.value(
        "SELECT EXISTS (SELECT FROM pg_publication_tables
                         WHERE pubname = $1 AND schemaname = 'public' AND tablename = $2)",
        params![request.pubname, STATUS_TABLE],
    )?;
    let status = TableName::new("public", STATUS_TABLE);
    let relations = subscriptions::relations(&sessions.arrival, request.subname)?;
    let subscribed = relations.iter().any(|relation| relation.name == status);
    let missing = match (published, subscribed) {
        (true, true) => return Ok(()),
        (false, _) => format!("it is not in publication {:?}", request.pubname),
        (true, false) => format!("subscription {:?} does not follow it", request.subname),
    };
    Failure::new(format!(
        "pause {:?}: the table {STATUS_TABLE} is not ready: {missing}",
        request.dbname
    ))
    .hint(format!(
        "flare create_replication_status_table {}",
        request.dbname
    ))
    .err()
}

/// A table that is still being copied would miss what the probe does not.
pub(super) fn every_table_is_ready(arrival: &Session, request: &PauseRequest<'_>) -> Result<()> {
    let waiting: Vec<String> = subscriptions::relations(arrival, request.subname)?
        .iter()
        .filter(|relation| relation.srsubstate != 'r')
        .map(|relation| relation.name.plain())
        .collect();
    match waiting.is_empty() {
        true => Ok(()),
        false => Failure::new(format!(
            "pause {:?}: {} tables are still being copied, among them {}",
            request.dbname,
            waiting.len(),
            waiting
                .iter()
                .take(3)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ")
        ))
        .hint("wait until flare monitor shows every table ready")
        .err(),
    }
}

/// Without these an administrator neither sees what other sessions do nor may end them.
pub(super) fn may_clear(publisher: &Publisher, request: &PauseRequest<'_>) -> Result<()> {
    let lacking: Vec<String> = publisher.admin().value(
        "SELECT array(SELECT rolname::text FROM pg_roles
                       WHERE rolname IN ('pg_read_all_stats', 'pg_signal_backend') AND NOT pg_has_role(oid, 'USAGE') ORDER BY 1)",
        params![],
    )?;
    if lacking.is_empty() {
        return Ok(());
    }
    let user = Ident::new(&publisher.declared().superuser.user);
    Failure::new(format!(
        "pause {:?}: {user} is no member of {}, which it takes to see and end the application's sessions",
        request.dbname,
        lacking.join(" and ")
    ))
    .hint(format!(
        "GRANT {} TO {user} on the publisher; on Amazon RDS GRANT rds_superuser TO {user}",
        lacking.join(", ")
    ))
    .err()
}

/// LOCK needs a right to write.
pub(super) fn may_lock(wall: &Session, pubname: &str) -> Result<()> {
    let refused: Vec<String> = wall.value(
        "SELECT array(SELECT format('%I.%I', n.nspname, c.relname)
                        FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname
                        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
                       WHERE p.pubname = $1
                         AND NOT has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE'))",
        params![pubname],
    )?;
    match refused.is_empty() {
        true => Ok(()),
        false => Failure::new(format!(
            "lock the published tables: {:?} may not lock {}",
            wall.endpoint().user,
            refused.join(", ")
        ))
        .hint("GRANT UPDATE or DELETE on them to that user")
        .err(),
    }
}
