//! Before anything is changed: everything that could stop the run is looked at, and its sessions are opened.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::catalog::privileges::DatabasePrivileges;
use crate::catalog::{publications, subscriptions};
use crate::config::Config;
use crate::cutover::before::checks;
use crate::cutover::before::ready::{self, Running};
use crate::cutover::before::record::entry;
use crate::cutover::before::run_lock::lock_out_others_once_ended;
use crate::cutover::clients::hooks;
use crate::cutover::clients::pgbouncer::Poolers;
use crate::cutover::deadline::Deadline;
use crate::cutover::pause::backends::no_prepared_transaction;
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::sessions::{DatabaseSessions, Sessions, as_database_owner, joined};
use crate::cutover::state::{Database, Pause, PauseRequest, RoundTrip, Target, Wanted};
use crate::error::{Failure, Result};
use crate::journal::{self, Purpose, Step, Stream};
use crate::preflight::Preflight;
use crate::replicate::{closed, status_table};
use crate::server::{Pair, Server, Session, at_once, begin_before_autovacuum, params};
use crate::value::TableName;

/// What came of looking.
pub(crate) enum Looked<'a> {
    /// This database is paused already.
    Already { run: Uuid },
    /// This stands in the way of a switch.
    Blocked { found: Preflight, refusal: Failure },
    /// Everything is as it must be, and nothing was changed.
    Ready(Box<Pause<'a>>),
}

/// Looks at everything that could stop the run, and opens its sessions. Changes nothing.
pub(crate) fn look<'a>(
    pair: &'a Pair,
    config: &'a Config,
    request: &PauseRequest,
) -> Result<Looked<'a>> {
    let from = &pair.publisher;
    let dbnames: Vec<&str> = request
        .databases
        .iter()
        .map(|wanted| wanted.dbname.as_str())
        .collect();
    lock_out_others_once_ended(pair, &dbnames)?;
    for dbname in &dbnames {
        if let Some(held) = journal::find(from.admin(), dbname, &[Step::Held])? {
            match request.purpose {
                Purpose::PauseWrite => return Ok(Looked::Already { run: held.run }),
                Purpose::Switch => return ready::held(dbname, &held),
            }
        }
    }
    ready::may_terminate(from, &dbnames)?;
    ready::roles_exist(from.admin(), request)?;
    let mut streams = Vec::new();
    for wanted in &request.databases {
        streams.push(match request.purpose {
            Purpose::PauseWrite => ready::only_stream(from, request, &request.stream(wanted))?,
            Purpose::Switch => ready::own_stream(pair, request, &request.stream(wanted))?,
        });
    }
    let mut warnings = Vec::new();
    if request.purpose == Purpose::Switch {
        let found = checks::found(pair, config, request)?;
        if let Some(refusal) = found.refusal() {
            return Ok(Looked::Blocked { found, refusal });
        }
        warnings = found.warnings();
        warnings.extend(found.notes_of(&checks::LEAVING));
    }
    let (databases, sessions) = at_once(
        || look_at_all(pair, request, streams),
        || Sessions::open(pair, &dbnames),
    );
    let (databases, sessions) = (databases?, sessions?);
    let privileges: Vec<&ConnectPrivileges> = databases.iter().map(|it| &it.privileges).collect();
    can_be_restored(from, &dbnames, &privileges)?;
    let poolers = match request.purpose {
        Purpose::PauseWrite => Poolers::unconnected(&[], request.command()),
        Purpose::Switch => {
            hooks::check(&config.cutover.hooks)?;
            let mut poolers = Poolers::connect(&config.cutover.poolers, request.command())?;
            poolers.none_is_paused()?;
            poolers
        }
    };
    let mut own_pids = vec![from.facts().pid];
    own_pids.extend(sessions.on_from().map(|own| own.backend.pid));
    for database in &databases {
        own_pids.extend(database.sessions.on_from().map(|own| own.backend.pid));
    }
    let begin_locks = match databases.first() {
        Some(database) => begin_before_autovacuum(from, &database.sessions.lock.session)?,
        None => return Failure::usage("name at least one subscription").err(),
    };
    let entry = entry(pair, request, &databases, &sessions)?;
    Ok(Looked::Ready(Box::new(Pause {
        pair,
        config,
        poolers,
        entry,
        terminating: request.terminating.clone(),
        max_pause: request.max_pause,
        deadline: Deadline::of_the_pause(request.max_pause),
        own_pids,
        begin_locks,
        heartbeat: None,
        began_at: None,
        opened_at: None,
        way_back_runs: false,
        round_trip: RoundTrip::default(),
        sessions,
        guard_answer: None,
        databases,
        fencing: Vec::new(),
        steps: Vec::new(),
        warnings,
    })))
}

/// How many databases are looked at at the same time: four sessions each.
const AT_ONCE: usize = 4;

/// Looks at the databases, and opens their sessions; the first error in the order of the request.
fn look_at_all(
    pair: &Pair,
    request: &PauseRequest,
    streams: Vec<Running>,
) -> Result<Vec<Database>> {
    let mut databases = Vec::new();
    let mut streams = streams.into_iter();
    for some in request.databases.chunks(AT_ONCE) {
        std::thread::scope(|scope| -> Result<()> {
            let looks: Vec<_> = some
                .iter()
                .zip(streams.by_ref())
                .map(|(wanted, running)| {
                    scope.spawn(move || look_at(pair, request, wanted, running))
                })
                .collect();
            for look in looks {
                databases.push(joined(look)?);
            }
            Ok(())
        })?;
    }
    Ok(databases)
}

/// Looks at one database, and opens its sessions.
fn look_at(
    pair: &Pair,
    request: &PauseRequest,
    wanted: &Wanted,
    running: Running,
) -> Result<Database> {
    let from = &pair.publisher;
    let stream = request.stream(wanted);
    let dbname = wanted.dbname.as_str();
    if request.purpose == Purpose::PauseWrite {
        no_prepared_transaction(from.admin(), dbname)?;
    }
    let (sessions, shut) = at_once(
        || {
            DatabaseSessions::open(
                pair,
                &stream,
                running.subowner.as_ref().map(|(_, login)| *login),
            )
        },
        || journal::is_shut(from.admin(), dbname),
    );
    if shut? {
        return Failure::new(format!(
            "nobody can connect to {dbname:?} on the {} already",
            from.side()
        ))
        .hint("flare status says by whom, and what to do")
        .err();
    }
    let sessions = sessions?;
    let mut keep = request.keep_users.clone();
    keep.extend(running.usename.clone());
    keep.extend(from.declared().repl.as_ref().map(|repl| repl.user.clone()));
    keep.insert(from.declared().superuser.user.clone());
    let (lock, arrival) = (&sessions.lock.session, &sessions.arrival.session);
    // Three sessions, each with questions of its own.
    let (tables, of_database) = at_once(
        || {
            tables_are_ready(
                request,
                (lock, arrival),
                &stream,
                &status_table::table(from),
            )
        },
        || {
            let before = DatabasePrivileges::read(from.admin(), dbname)?;
            let privileges = ConnectPrivileges::new(before, needing_a_grant(from, keep)?);
            Ok((privileges, closed::now(from.admin(), dbname, None)?))
        },
    );
    let (published, (privileges, default_before)) = (tables?, of_database?);
    Ok(Database {
        privileges,
        default_before,
        target: Target::default(),
        subowner: running.subowner,
        stream,
        sessions,
        fence_ahead: None,
        published,
        on_from: BTreeMap::new(),
        on_to: BTreeMap::new(),
        drained: None,
        ended: BTreeSet::new(),
    })
}

/// The tables that are published, when each can be locked and fenced, and follows.
fn tables_are_ready(
    request: &PauseRequest,
    (lock, arrival): (&Session, &Session),
    stream: &Stream,
    status: &TableName,
) -> Result<Vec<TableName>> {
    let (published, followed) = at_once(
        || -> Result<Vec<TableName>> {
            let published = publications::tables(lock, &stream.pubname)?;
            ready::may_lock(lock, &stream.pubname)?;
            if request.purpose == Purpose::Switch {
                ready::may_fence(lock, &stream.pubname)?;
            }
            Ok(published)
        },
        || subscriptions::relations(arrival, &stream.subname),
    );
    let (mut published, followed) = (published?, followed?);
    ready::status_table_follows(published.contains(status), &followed, stream, status)?;
    ready::every_table_is_ready(&followed, stream)?;
    // The probe row goes through flare's own table while the others are locked.
    published.retain(|name| !status_table::is(name));
    Ok(published)
}

/// Those of them who are no superusers; superusers always can.
fn needing_a_grant(server: &Server, keep: BTreeSet<String>) -> Result<BTreeSet<String>> {
    let keep: Vec<String> = keep.into_iter().collect();
    let needing: Vec<String> = server.admin().value(
        "SELECT array(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1) AND NOT rolsuper)",
        params![keep],
    )?;
    Ok(needing.into_iter().collect())
}

/// A grant that somebody else made can be made again only by a member of that role.
pub(super) fn can_be_restored(
    server: &Server,
    dbnames: &[&str],
    privileges: &[&ConnectPrivileges],
) -> Result<()> {
    let grantors: BTreeSet<String> = privileges
        .iter()
        .flat_map(|it| it.other_grantors())
        .collect();
    let grantors: Vec<String> = grantors.into_iter().collect();
    let (user, out_of_reach): (String, Vec<String>) =
        as_database_owner(server, dbnames, |session| {
            let out_of_reach = session.value(
            "SELECT array(SELECT name FROM unnest($1) name WHERE NOT pg_has_role(name, 'MEMBER'))",
            params![grantors],
        )?;
            Ok((session.endpoint().user.clone(), out_of_reach))
        })?;
    if out_of_reach.is_empty() {
        Ok(())
    } else {
        Failure::new(format!(
            "revoke CONNECT on {}: it was granted by {}, and {user:?} could not give that back",
            dbnames.join(", "),
            out_of_reach.join(", "),
        ))
        .hint(format!(
            "GRANT {} TO that user, or let the database's owner make those grants",
            out_of_reach.join(", ")
        ))
        .err()
    }
}
