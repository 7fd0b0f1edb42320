//! What has to be true before a pause begins: the stream is sound, the probe can travel, the tables can be locked.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::catalog::subscriptions::{self, Relation};
use crate::catalog::tables;
use crate::cutover::pause::terminating::Terminating;
use crate::cutover::state::{Database, PauseRequest};
use crate::error::{Failure, Result, WrapErr};
use crate::journal::{Entry, Stream};
use crate::replicate::{Run, unsubscribe};
use crate::server::{ActAs, Login, Pair, Publisher, Session, Timeout, at_once, interrupt, params};
use crate::value::{Ident, ShellWord, TableName, counted};

/// A replication slot, with its walsender.
#[derive(Debug, Default, Deserialize)]
pub(in crate::cutover) struct Running {
    slot_name: String,
    active: bool,
    pub(in crate::cutover) usename: Option<String>,
    age_seconds: Option<f64>,
    /// The owner of the subscription on the other side, and as whom flare acts for it.
    #[serde(skip)]
    pub(in crate::cutover) subowner: Option<(String, Login)>,
}

const STREAMS_OF: &str = "
    SELECT jsonb_build_object('slot_name', s.slot_name, 'active', s.active, 'usename', r.usename,
           'age_seconds', extract(epoch FROM clock_timestamp() - r.backend_start))
      FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
     WHERE s.database = $1 ORDER BY s.slot_name";

/// Refuses, as the original does, when the walsender is too young or the database has more than one slot.
pub(in crate::cutover) fn only_stream(
    publisher: &Publisher,
    request: &PauseRequest,
    stream: &Stream,
) -> Result<Running> {
    let Stream {
        dbname, subname, ..
    } = stream;
    let allowed_rep_duration = &request.allowed_rep_duration;
    let mut streams: Vec<Running> = publisher.admin().list(STREAMS_OF, params![dbname])?;
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
        .hint("wait for the copy (flare monitor); a slot that is read by somebody else (Debezium, a warehouse, a backup) is theirs, does not follow, and stands in the way of pause_write alone: flare cutover knows its own")
        .err();
    }
    let stream = streams.pop().ok_or_else(|| {
        Failure::new(format!(
            "pause {dbname:?}: nothing replicates it, there is no replication slot"
        ))
        .hint(format!("flare create_subscription {}", ShellWord(subname)))
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

/// The stream that a switch ends: its subscription on *to* and its slot, used or not.
pub(in crate::cutover) fn own_stream(
    pair: &Pair,
    request: &PauseRequest,
    stream: &Stream,
) -> Result<Running> {
    let (from, to) = (&pair.publisher, &pair.subscriber);
    let Stream {
        dbname, subname, ..
    } = stream;
    let attempt = format!("{} {dbname:?}", request.command());
    let session = to.visit(dbname)?;
    let all = subscriptions::all(&session)?;
    let Some(subscription) = all.iter().find(|it| it.subname == *subname) else {
        return Failure::new(format!(
            "{attempt}: the {} has no subscription {subname:?}",
            to.side()
        ))
        .hint("flare status says where the migration stands")
        .err();
    };
    let slot_name = subscription.subslotname.clone().unwrap_or_default();
    let running = if subscription.subenabled {
        awaited(from, dbname, &slot_name)?
    } else {
        None
    };
    Ok(Running {
        subowner: Some((
            subscription.owner.clone(),
            unsubscribe::login_of(to, subscription),
        )),
        ..running.unwrap_or_default()
    })
}

/// How long a worker may take to come back after a server was restarted: it tries every `wal_retrieve_retry_interval`,
/// by default 5 s, and looks for work of its own that often.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(15);

/// The slot, in use if that comes to pass soon.
fn awaited(from: &Publisher, dbname: &str, slot_name: &str) -> Result<Option<Running>> {
    let since = Instant::now();
    loop {
        let streams: Vec<Running> = from.admin().list(STREAMS_OF, params![dbname])?;
        let found = streams.into_iter().find(|it| it.slot_name == slot_name);
        match &found {
            Some(running) if !running.active && since.elapsed() < COMES_BACK_WITHIN => {
                log::info!("wait for slot {slot_name:?} to be used");
                interrupt::sleep(Duration::from_millis(200))?;
            }
            _ => return Ok(found),
        }
    }
}

/// A pause by `pause_write` has to end first.
pub(in crate::cutover) fn held<T>(dbname: &str, held: &Entry) -> Result<T> {
    Failure::new(format!(
        "writes to {dbname:?} are paused by pause_write (since {}, by {})",
        held.changed_at, held.holder
    ))
    .hint(format!(
        "flare resume_write {}, then run the command again",
        ShellWord(dbname)
    ))
    .err()
}

/// No statistics, no good plans: what lacks them is analyzed now, while the application does not wait for it.
pub(in crate::cutover) fn statistics(pair: &Pair, database: &Database, run: &Run) -> Result<()> {
    let to = &pair.subscriber;
    let session = to.visit(database.dbname())?;
    if !tables::lack_statistics(&session)? {
        return Ok(());
    }
    run.progress.step(&format!(
        "analyzing {:?} on the {}: tables there have no statistics",
        database.dbname(),
        to.side()
    ));
    let owner = to.connect(ActAs::Tables, database.dbname())?;
    owner
        .with_timeout(Timeout::WhileServerAnswers)
        .batch("ANALYZE")
        .wrap_err("gather statistics on the target")
}

/// The fence is a trigger on each table, and a function in a schema of its own.
pub(in crate::cutover) fn may_fence(lock: &Session, pubname: &str) -> Result<()> {
    let refused: Vec<String> = lock.value(
        "SELECT array(SELECT format('%I.%I', n.nspname, c.relname)
                        FROM pg_publication p, pg_get_publication_tables(p.pubname) t
                        JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE p.pubname = $1 AND NOT has_table_privilege(c.oid, 'TRIGGER')
                      UNION ALL
                      SELECT 'database ' || quote_ident(current_database())
                       WHERE NOT has_database_privilege(current_database(), 'CREATE'))",
        params![pubname],
    )?;
    if refused.is_empty() {
        Ok(())
    } else {
        Failure::new(format!(
            "fence the tables after the switch: {:?} lacks TRIGGER, or CREATE, on {}",
            lock.endpoint().user,
            refused.join(", ")
        ))
        .hint("GRANT TRIGGER on those tables (CREATE on the database) to that user")
        .err()
    }
}

pub(in crate::cutover) fn roles_exist(admin: &Session, request: &PauseRequest) -> Result<()> {
    let app_users = match &request.terminating {
        Terminating::Roles(roles) => roles.clone(),
        _ => Default::default(),
    };
    let named: Vec<String> = app_users.union(&request.keep_users).cloned().collect();
    if named.is_empty() {
        return Ok(());
    }
    let unknown: Vec<String> = admin.value(
        "SELECT array(SELECT name FROM unnest($1) name WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name))",
        params![named],
    )?;
    if unknown.is_empty() {
        Ok(())
    } else {
        Failure::usage(format!(
            "{}: there is no role {}",
            request.command(),
            unknown.join(", ")
        ))
        .hint("correct --app-user, cutover.app_users or cutover.keep_users")
        .err()
    }
}

/// The status table has to be on both sides, and in the stream: the probe row goes through it.
pub(in crate::cutover) fn status_table_is_ready(
    (lock, arrival): (&Session, &Session),
    stream: &Stream,
    status: &TableName,
) -> Result<()> {
    let published = || {
        lock.value::<bool>(
            "SELECT EXISTS (SELECT FROM pg_publication p, pg_get_publication_tables(p.pubname) t
                          JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
                         WHERE p.pubname = $1 AND n.nspname = $2 AND c.relname = $3)",
        params![
            &stream.pubname,
            status.schema.as_str(),
            status.table.as_str()
        ],
        )
    };
    let (published, relations) = at_once(published, || {
        subscriptions::relations(arrival, &stream.subname)
    });
    status_table_follows(published?, &relations?, stream, status)
}

/// The same, of what is known already.
pub(in crate::cutover) fn status_table_follows(
    published: bool,
    relations: &[Relation],
    stream: &Stream,
    status: &TableName,
) -> Result<()> {
    let subscribed = relations.iter().any(|relation| relation.name == *status);
    let missing = match (published, subscribed) {
        (true, true) => return Ok(()),
        (false, _) => format!("it is not in publication {:?}", stream.pubname),
        (true, false) => format!("subscription {:?} does not follow it", stream.subname),
    };
    Failure::new(format!(
        "pause {:?}: the table {} is not ready: {missing}",
        stream.dbname,
        status.plain()
    ))
    .hint(format!(
        "flare create_replication_status_table {}",
        ShellWord(&stream.dbname)
    ))
    .err()
}

/// A table that is still being copied would miss what the probe does not.
pub(in crate::cutover) fn every_table_is_ready(
    relations: &[Relation],
    stream: &Stream,
) -> Result<()> {
    let waiting: Vec<String> = relations
        .iter()
        .filter(|relation| relation.srsubstate != 'r')
        .map(|relation| relation.name.plain())
        .collect();
    if waiting.is_empty() {
        Ok(())
    } else {
        Failure::new(format!(
            "pause {:?}: {} not copied yet, among them {}",
            stream.dbname,
            counted(waiting.len(), "table"),
            waiting
                .iter()
                .take(3)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ")
        ))
        .hint("wait until flare monitor shows every table ready")
        .err()
    }
}

/// Without these an administrator neither sees what other sessions do nor may end them.
pub(in crate::cutover) fn may_terminate(publisher: &Publisher, dbnames: &[&str]) -> Result<()> {
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
        "pause {}: {user} is no member of {}, which it takes to see and end the application's sessions",
        dbnames.join(", "),
        lacking.join(" and ")
    ))
    .hint(format!(
        "GRANT {} TO {user} on the publisher; on Amazon RDS GRANT rds_superuser TO {user}",
        lacking.join(", ")
    ))
    .err()
}

/// LOCK needs a right to write.
pub(in crate::cutover) fn may_lock(lock: &Session, pubname: &str) -> Result<()> {
    let refused: Vec<String> = lock.value(
        "SELECT array(SELECT format('%I.%I', n.nspname, c.relname)
                        FROM pg_publication p, pg_get_publication_tables(p.pubname) t
                        JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE p.pubname = $1
                         AND NOT has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE'))",
        params![pubname],
    )?;
    if refused.is_empty() {
        Ok(())
    } else {
        Failure::new(format!(
            "lock the published tables: {:?} may not lock {}",
            lock.endpoint().user,
            refused.join(", ")
        ))
        .hint("GRANT UPDATE or DELETE on them to that user")
        .err()
    }
}
