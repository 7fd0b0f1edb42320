//! Before the pause, as long as it takes: everything that could stop it is looked at, opened and warmed up.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::backends::no_prepared_transaction;
use super::clearing::Clearing;
use super::lock::{lock_out_others, take_over_unfinished};
use super::probe::{Probe, catch_up};
use super::ready::{
    Stream, every_table_is_ready, may_clear, may_lock, roles_exist, status_table_is_ready,
    stream_of,
};
use super::rights::Door;
use super::sessions::{Sessions, at_the_door};
use super::state::{Pause, PauseParts, PauseRequest};
use super::wall::tables;
use crate::catalog::privileges::DatabasePrivileges;
use crate::config::Config;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::journal::{self, Direction, Entry, PausedDatabase, Step};
use crate::replicate::{Mode, Run};
use crate::server::{Pair, Publisher, Session, params};

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
    may_clear(publisher, request)?;
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
        published,
    });
    if run.mode == Mode::DryRun {
        return Ok(Prepared::DryRun(Box::new(pause)));
    }
    journal::create(publisher)?;
    journal::record(&pause.sessions.door.session, &entry)?;
    warm_up(&pause)?;
    Ok(Prepared::Ready(Box::new(pause)))
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
    let grantors: Vec<String> = door.other_grantors().into_iter().collect();
    let (user, out_of_reach): (String, Vec<String>) = at_the_door(publisher, dbname, |session| {
        let out_of_reach = session.value(
            "SELECT array(SELECT name FROM unnest($1) name WHERE NOT pg_has_role(name, 'MEMBER'))",
            params![grantors],
        )?;
        Ok((session.endpoint().user.clone(), out_of_reach))
    })?;
    match out_of_reach.is_empty() {
        true => Ok(()),
        false => Failure::new(format!(
            "pause {dbname:?}: CONNECT was granted by {}, and {:?} could not give that back",
            out_of_reach.join(", "),
            user
        ))
        .hint(format!(
            "GRANT {} TO that user, or let the database's owner make those grants",
            out_of_reach.join(", ")
        ))
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
fn warm_up(pause: &Pause) -> Result<()> {
    let wall = &pause.sessions.wall.session;
    if !pause.published.is_empty() {
        let names: Vec<String> = pause.published.iter().map(ToString::to_string).collect();
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
