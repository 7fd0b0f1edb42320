//! Before the pause, as long as it takes: everything that could stop it is looked at, opened and warmed up.

use std::collections::BTreeSet;

use serde::Deserialize;
use uuid::Uuid;

use super::clear::{Clearing, no_prepared_transaction};
use super::door::Door;
use super::drain::{Probe, catch_up};
use super::pause::{Pause, PauseParts, PauseRequest};
use super::sessions::{Sessions, door_login};
use super::undo;
use super::wall::{STATUS_TABLE, tables};
use crate::catalog::privileges::DatabasePrivileges;
use crate::config::Config;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::journal::{self, Direction, Entry, PausedDatabase, Step};
use crate::replicate::{Mode, Run};
use crate::server::{Pair, Publisher, Server, Session, params};

/// What came of preparing.
pub(crate) enum Prepared {
    /// This database is paused already.
    Already { run: Uuid },
    /// Everything is as it must be, and nothing was changed.
    DryRun(Box<Pause>),
    /// The next statement is the pause's first.
    Ready(Box<Pause>),
}

/// Looks, opens, warms up, and writes the journal.
pub(crate) fn prepare(
    pair: &Pair,
    config: &Config,
    request: &PauseRequest<'_>,
    run: &Run,
) -> Result<Prepared> {
    let publisher = &pair.publisher;
    let admin = publisher.admin();
    lock_out_others(pair, request.dbname)?;
    if let Some(held) = journal::find(admin, request.dbname, &[Step::Held])? {
        return Ok(Prepared::Already { run: held.run });
    }
    take_over_unfinished(publisher, request.dbname, run)?;
    let stream = stream_of(publisher, request)?;
    roles_exist(admin, request)?;
    no_prepared_transaction(admin, request.dbname)?;

    let before = DatabasePrivileges::read(admin, request.dbname)?;
    let keep = who_stays(publisher, config, request, &stream)?;
    let door = Door::new(before, keep);
    can_be_opened_again(publisher, &door)?;

    let sessions = Sessions::open(pair, request.dbname)?;
    let published = tables(&sessions.wall.session, request.pubname)?;
    status_table_is_ready(&sessions, request)?;
    every_table_is_ready(&sessions.arrival, request)?;
    may_lock(&sessions.wall.session, request.pubname)?;

    let own_pids = sessions.own_pids(publisher.facts().pid);
    let open_wall = open_wall(publisher, &sessions.wall.session)?;
    let run_id = Uuid::new_v4();
    let entry = entry(run_id, request, &door, &sessions);
    let pause = Pause::new(PauseParts {
        run: run_id,
        door,
        pubname: request.pubname.to_owned(),
        clearing: clearing(request),
        max_pause: request.max_pause,
        identifier: publisher.identifier(),
        own_pids,
        open_wall,
        sessions,
        tables: published.len(),
    });
    if run.mode == Mode::DryRun {
        return Ok(Prepared::DryRun(Box::new(pause)));
    }
    journal::create(publisher, &pause.sessions.door.session.endpoint().user)?;
    journal::record(&pause.sessions.door.session, &entry)?;
    warm_up(&pause, &published)?;
    Ok(Prepared::Ready(Box::new(pause)))
}

/// The first key of a run's advisory lock, "flar" in ASCII; the second is the database's name, hashed.
const RUN_LOCK: i32 = 0x66_6c_61_72;

/// One run at a time for a database: a lock in `postgres` of both servers, always in the same order.
fn lock_out_others(pair: &Pair, dbname: &str) -> Result<()> {
    let mut servers: [&Server; 2] = [&pair.publisher, &pair.subscriber];
    servers.sort_by_key(|server| server.identifier());
    for server in servers {
        let locked: bool = server.admin().value(
            "SELECT pg_try_advisory_lock($1, hashtext($2))",
            params![RUN_LOCK, dbname],
        )?;
        if !locked {
            let holders: Vec<String> = server.admin().value(
                "SELECT array(SELECT format('%s (pid %s since %s)', a.application_name, a.pid, a.backend_start)
                   FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                    AND l.classid::bigint = $1 AND l.objid::bigint = hashtext($2)::bigint & 4294967295)",
                params![RUN_LOCK, dbname],
            )?;
            return Failure::new(format!(
                "start a pause of {dbname:?}: another flare is at work on it, on the {}: {}",
                server.target().endpoint,
                holders.join(", ")
            ))
            .hint(format!(
                "wait for it; `flare resume_write {dbname}` ends it at once"
            ))
            .err();
        }
    }
    Ok(())
}

/// A pause whose flare died is undone before a new one begins: nobody else holds the lock, so nobody is at it.
fn take_over_unfinished(publisher: &Publisher, dbname: &str, run: &Run) -> Result<()> {
    let admin = publisher.admin();
    let Some(left) = journal::find(admin, dbname, &[Step::Paused])? else {
        return Ok(());
    };
    if run.mode == Mode::DryRun {
        return Failure::new(format!(
            "an earlier run ({} by {}, begun {}) stopped while writes were paused",
            left.command, left.holder, left.started_at
        ))
        .hint(format!("`flare resume_write {dbname}` opens the door"))
        .err();
    }
    run.progress.step(&format!(
        "an earlier run ({} by {}, begun {}) stopped while writes were paused: undoing it first",
        left.command, left.holder, left.started_at
    ));
    end_backends(admin, &left)?;
    let session = publisher.connect(door_login(publisher, dbname)?, "postgres")?;
    let door = door_of(&left, dbname)?;
    undo::open_door(&session, left.run, &door, &[Step::Paused], Step::Undone)?;
    Ok(())
}

/// Ends what a dead run has left on the server: whoever takes over does this first.
pub(super) fn end_backends(admin: &Session, entry: &Entry) -> Result<()> {
    for backend in journal::backends_alive(admin, &entry.backends)? {
        super::clear::end(admin, backend.pid)?;
    }
    Ok(())
}

/// The door as the journal has it.
pub(super) fn door_of(entry: &Entry, dbname: &str) -> Result<Door> {
    let found = entry
        .databases
        .iter()
        .find(|database| database.dbname == dbname);
    let database = found.ok_or_else(|| {
        Failure::new(format!(
            "read the journal: run {} has no database {dbname:?}",
            entry.run
        ))
    })?;
    Ok(Door::new(
        database.privileges.clone(),
        database.keep.iter().cloned().collect(),
    ))
}

/// The one replication slot of the database, with its walsender.
#[derive(Debug, Deserialize)]
struct Stream {
    slot_name: String,
    active: bool,
    usename: Option<String>,
    age_seconds: Option<f64>,
}

const STREAMS_OF: &str = "
    SELECT jsonb_build_object('slot_name', s.slot_name, 'active', s.active, 'usename', r.usename,
           'age_seconds', extract(epoch FROM clock_timestamp() - r.backend_start))
      FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
     WHERE s.database = $1 ORDER BY s.slot_name";

/// Refuses, as the original does, when the walsender is too young or the database has more than one slot.
fn stream_of(publisher: &Publisher, request: &PauseRequest<'_>) -> Result<Stream> {
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
            "pause {dbname:?}: replication runs only since {age:.0} s, less than {}; an apply that fails is started again and again",
            humantime::format_duration(*allowed_rep_duration)
        ))
        .hint("run the command again later, or lower --allowed-rep-duration")
        .err();
    }
    Ok(stream)
}

fn roles_exist(admin: &Session, request: &PauseRequest<'_>) -> Result<()> {
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

/// Those whom replication needs, and those the configuration names; superusers always can.
fn who_stays(
    publisher: &Publisher,
    config: &Config,
    request: &PauseRequest<'_>,
    stream: &Stream,
) -> Result<BTreeSet<String>> {
    let mut keep = request.keep_users.clone();
    keep.extend(stream.usename.clone());
    keep.extend(config.publisher.repl.as_ref().map(|repl| repl.user.clone()));
    keep.insert(config.publisher.superuser.user.clone());
    let keep: Vec<String> = keep.into_iter().collect();
    let needing_a_grant: Vec<String> = publisher.admin().value(
        "SELECT array(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1) AND NOT rolsuper)",
        params![keep],
    )?;
    Ok(needing_a_grant.into_iter().collect())
}

/// A grant that somebody else made can be made again only by a member of that role.
fn can_be_opened_again(publisher: &Publisher, door: &Door) -> Result<()> {
    let dbname = &door.before().dbname;
    let session = publisher.connect(door_login(publisher, dbname)?, "postgres")?;
    let grantors: Vec<String> = door.other_grantors().into_iter().collect();
    let out_of_reach: Vec<String> = session.value(
        "SELECT array(SELECT name FROM unnest($1) name WHERE NOT pg_has_role(name, 'MEMBER'))",
        params![grantors],
    )?;
    match out_of_reach.is_empty() {
        true => Ok(()),
        false => Failure::new(format!(
            "pause {dbname:?}: CONNECT was granted by {}, and {:?} could not give that back",
            out_of_reach.join(", "),
            session.endpoint().user
        ))
        .hint(format!(
            "GRANT {} TO that user, or let the database's owner make those grants",
            out_of_reach.join(", ")
        ))
        .err(),
    }
}

/// The status table has to be on both sides, and in the stream: the probe row goes through it.
fn status_table_is_ready(sessions: &Sessions, request: &PauseRequest<'_>) -> Result<()> {
    let published: bool = sessions.wall.session.value(
        "SELECT EXISTS (SELECT FROM pg_publication_tables
                         WHERE pubname = $1 AND schemaname = 'public' AND tablename = $2)",
        params![request.pubname, STATUS_TABLE],
    )?;
    let subscribed: bool = sessions.arrival.value(
        "SELECT EXISTS (SELECT FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid
                         WHERE s.subname = $1 AND r.srrelid = to_regclass('public.' || quote_ident($2)))",
        params![request.subname, STATUS_TABLE],
    )?;
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
fn every_table_is_ready(arrival: &Session, request: &PauseRequest<'_>) -> Result<()> {
    let waiting: Vec<String> = arrival.value(
        "SELECT array(SELECT r.srrelid::regclass::text FROM pg_subscription_rel r
                        JOIN pg_subscription s ON s.oid = r.srsubid
                       WHERE s.subname = $1 AND r.srsubstate <> 'r' ORDER BY 1)",
        params![request.subname],
    )?;
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

/// LOCK needs a right to write.
fn may_lock(wall: &Session, pubname: &str) -> Result<()> {
    let refused: Vec<String> = wall.value(
        "SELECT array(SELECT format('%I.%I', schemaname, tablename) FROM pg_publication_tables
                       WHERE pubname = $1
                         AND NOT has_table_privilege(format('%I.%I', schemaname, tablename), 'UPDATE, DELETE, TRUNCATE'))",
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

/// Autovacuum yields to a waiting lock after deadlock_timeout; only some may set that.
fn open_wall(publisher: &Publisher, wall: &Session) -> Result<String> {
    let may_set = match publisher.major() {
        ..15 => publisher.facts().superuser,
        _ => wall.value(
            "SELECT has_parameter_privilege('deadlock_timeout', 'SET')",
            params![],
        )?,
    };
    Ok(match may_set {
        true => "BEGIN; SET LOCAL deadlock_timeout = '1ms'".to_owned(),
        false => "BEGIN".to_owned(),
    })
}

fn clearing(request: &PauseRequest<'_>) -> Clearing {
    match request.app_users.is_empty() {
        true => Clearing::EveryoneButSuperusers,
        false => Clearing::Roles(request.app_users.clone()),
    }
}

fn entry(run: Uuid, request: &PauseRequest<'_>, door: &Door, sessions: &Sessions) -> Entry {
    Entry {
        run,
        command: "pause_write".into(),
        direction: Direction::Forward,
        step: Step::Preparing,
        databases: vec![PausedDatabase {
            dbname: request.dbname.to_owned(),
            subname: request.subname.to_owned(),
            privileges: door.before().clone(),
            keep: door.keep().iter().cloned().collect(),
        }],
        backends: sessions.backends(),
        holder: holder(),
        max_pause_ms: i64::try_from(request.max_pause.as_millis()).unwrap_or(i64::MAX),
        started_at: String::new(),
        changed_at: String::new(),
    }
}

/// This machine and process, for whoever finds the run later.
fn holder() -> String {
    let host = rustix::system::uname();
    format!(
        "{}:{}",
        host.nodename().to_string_lossy(),
        std::process::id()
    )
}

/// Plans, caches and pages: what is used in the pause is used once before. The lock taken here hinders nobody.
fn warm_up(pause: &Pause, published: &[crate::value::TableName]) -> Result<()> {
    let wall = &pause.sessions.wall.session;
    if !published.is_empty() {
        let names: Vec<String> = published.iter().map(ToString::to_string).collect();
        let touched = wall.batch(&format!(
            "{}; SET LOCAL lock_timeout = '2s'; LOCK TABLE {} IN ACCESS SHARE MODE",
            pause.open_wall,
            names.join(", ")
        ));
        wall.batch("ROLLBACK")?;
        touched.wrap_err("touch the published tables").hint(|| {
            "a session holds them exclusively: find it in pg_locks, and run the command again"
                .into()
        })?;
    }
    let probe = Probe {
        writer: &pause.sessions.probe.session,
        reader: &pause.sessions.arrival,
        identifier: pause.identifier,
    };
    let quickest = catch_up(&probe, pause.max_pause)?;
    log::info!(
        "the subscriber keeps up: a probe row took {:.1} ms",
        quickest.as_secs_f64() * 1000.0
    );
    Ok(())
}
