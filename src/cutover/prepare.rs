//! Before the pause, as long as it takes: everything that could stop it is looked at, built, opened and warmed up.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::backends::no_prepared_transaction;
use super::clear::sweep;
use super::clearing::Clearing;
use super::clients::run_hooks;
use super::deadline::Deadline;
use super::door::{in_transaction, shut_one};
use super::heartbeat::Heartbeat;
use super::hooks::{self, Moment};
use super::lock::lock_out_others;
use super::pgbouncer::Poolers;
use super::probe::{CATCH_UP, catch_up};
use super::ready;
use super::rights::Door;
use super::sessions::{DatabaseSessions, Sessions, at_the_door, backend_of};
use super::state::{Database, Pause, PauseRequest, Wanted};
use super::undo::again_while_it_passes;
use super::wall::{tables, touch};
use super::{sequences, way_back};
use crate::catalog::privileges::DatabasePrivileges;
use crate::catalog::publications;
use crate::config::Config;
use crate::error::{Failure, Result, WrapErr};
use crate::journal::{self, Entry, Member, Purpose, Step};
use crate::replicate::{Run, reverse};
use crate::server::{Login, Pair, Server, begin_before_autovacuum, params};

/// What came of looking.
pub(crate) enum Looked<'a> {
    /// This database is paused already.
    Already { run: Uuid },
    /// Everything is as it must be, and nothing was changed.
    Ready(Box<Pause<'a>>),
}

/// Looks at everything that could stop the run, and opens its sessions. Changes nothing.
pub(crate) fn look<'a>(
    pair: &'a Pair,
    config: &'a Config,
    request: &PauseRequest,
) -> Result<Looked<'a>> {
    let (from, to) = (&pair.publisher, &pair.subscriber);
    let dbnames: Vec<&str> = request
        .databases
        .iter()
        .map(|wanted| wanted.dbname.as_str())
        .collect();
    lock_out_others(pair, &dbnames)?;
    for dbname in &dbnames {
        if let Some(held) = journal::find(from.admin(), dbname, &[Step::Held])? {
            match request.purpose {
                Purpose::PauseWrite => return Ok(Looked::Already { run: held.run }),
                Purpose::Switch => return ready::held(dbname, &held),
            }
        }
    }
    ready::may_clear(from, &dbnames)?;
    ready::roles_exist(from.admin(), request)?;
    let mut databases = Vec::new();
    for wanted in &request.databases {
        databases.push(look_at(pair, request, wanted)?);
    }
    let doors: Vec<&Door> = databases.iter().map(|it| &it.door).collect();
    can_be_opened_again(from, &dbnames, &doors)?;
    if request.purpose == Purpose::Switch {
        let gates: Vec<&Door> = databases.iter().filter_map(|it| it.gate.as_ref()).collect();
        can_be_opened_again(to, &dbnames, &gates)?;
        ready::room(pair, request)?;
    }
    let poolers = match request.purpose {
        Purpose::PauseWrite => Poolers::unconnected(&[], request.command()),
        Purpose::Switch => {
            hooks::check(&config.cutover.hooks)?;
            let mut poolers = Poolers::connect(&config.cutover.poolers, request.command())?;
            poolers.none_is_paused()?;
            poolers
        }
    };
    let sessions = Sessions::open(pair, &dbnames)?;
    let mut own_pids = vec![from.facts().pid];
    own_pids.extend(sessions.on_from().map(|own| own.backend.pid));
    for database in &databases {
        own_pids.extend(database.sessions.on_from().map(|own| own.backend.pid));
    }
    let open_wall = match databases.first() {
        Some(database) => begin_before_autovacuum(from, &database.sessions.wall.session)?,
        None => return Failure::usage("name at least one subscription").err(),
    };
    let entry = entry(pair, request, &databases, &sessions)?;
    Ok(Looked::Ready(Box::new(Pause {
        pair,
        config,
        poolers,
        entry,
        clearing: request.clearing.clone(),
        max_pause: request.max_pause,
        deadline: Deadline::of_the_pause(request.max_pause),
        own_pids,
        open_wall,
        sessions,
        guard_answer: None,
        databases,
        steps: Vec::new(),
        warnings: Vec::new(),
    })))
}

/// Looks at one database, and opens its sessions.
fn look_at(pair: &Pair, request: &PauseRequest, wanted: &Wanted) -> Result<Database> {
    let (from, to) = (&pair.publisher, &pair.subscriber);
    let stream = request.stream(wanted);
    let dbname = wanted.dbname.as_str();
    let running = match request.purpose {
        Purpose::PauseWrite => ready::only_stream(from, request, &stream)?,
        Purpose::Switch => ready::own_stream(pair, request, &stream)?,
    };
    no_prepared_transaction(from.admin(), dbname)?;
    let shut = journal::is_shut(from.admin(), dbname)?;
    if shut {
        return Failure::new(format!(
            "the door of {dbname:?} on the {} is shut already",
            from.side()
        ))
        .hint("flare status says by whom, and what to do")
        .err();
    }
    let sessions = DatabaseSessions::open(pair, &stream)?;
    let (wall, arrival) = (&sessions.wall.session, &sessions.arrival.session);
    let published = tables(wall, &stream.pubname)?;
    ready::status_table_is_ready(wall, arrival, &stream)?;
    ready::every_table_is_ready(arrival, &stream)?;
    ready::may_lock(wall, &stream.pubname)?;
    if request.purpose == Purpose::Switch {
        ready::may_fence(wall, &stream.pubname)?;
        ready::every_table_is_subscribed(arrival, &stream, &published)?;
    }
    let before = DatabasePrivileges::read(from.admin(), dbname)?;
    let mut keep = request.keep_users.clone();
    keep.extend(running.usename.clone());
    keep.extend(from.declared().repl.as_ref().map(|repl| repl.user.clone()));
    keep.insert(from.declared().superuser.user.clone());
    let gate = match request.purpose {
        Purpose::PauseWrite => None,
        Purpose::Switch => Some(gate(to, request, dbname, running.subowner)?),
    };
    Ok(Database {
        door: Door::new(before, needing_a_grant(from, keep)?),
        gate,
        stream,
        sessions,
        published,
        on_from: BTreeMap::new(),
        on_to: BTreeMap::new(),
        drained: None,
        ended: BTreeSet::new(),
    })
}

/// The door of *to*, shut already or still open.
fn gate(
    to: &Server,
    request: &PauseRequest,
    dbname: &str,
    subowner: Option<String>,
) -> Result<Door> {
    if let Some(shut) = journal::shut_door(to.admin(), dbname)? {
        return Ok(Door::new(shut.privileges, shut.keep.into_iter().collect()));
    }
    let mut keep = request.keep_users.clone();
    keep.extend(subowner);
    keep.insert(reverse::user_of(to).to_owned());
    keep.insert(to.declared().superuser.user.clone());
    let before = DatabasePrivileges::read(to.admin(), dbname)?;
    Ok(Door::new(before, needing_a_grant(to, keep)?))
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
fn can_be_opened_again(server: &Server, dbnames: &[&str], doors: &[&Door]) -> Result<()> {
    let grantors: BTreeSet<String> = doors.iter().flat_map(|it| it.other_grantors()).collect();
    let grantors: Vec<String> = grantors.into_iter().collect();
    let (user, out_of_reach): (String, Vec<String>) = at_the_door(server, dbnames, |session| {
        let out_of_reach = session.value(
            "SELECT array(SELECT name FROM unnest($1) name WHERE NOT pg_has_role(name, 'MEMBER'))",
            params![grantors],
        )?;
        Ok((session.endpoint().user.clone(), out_of_reach))
    })?;
    match out_of_reach.is_empty() {
        true => Ok(()),
        false => Failure::new(format!(
            "shut the door of {}: CONNECT was granted by {}, and {user:?} could not give that back",
            dbnames.join(", "),
            out_of_reach.join(", "),
        ))
        .hint(format!(
            "GRANT {} TO that user, or let the database's owner make those grants",
            out_of_reach.join(", ")
        ))
        .err(),
    }
}

fn entry(
    pair: &Pair,
    request: &PauseRequest,
    databases: &[Database],
    sessions: &Sessions,
) -> Result<Entry> {
    let mut members = Vec::new();
    for (database, wanted) in databases.iter().zip(&request.databases) {
        members.push(Member {
            dbname: wanted.dbname.clone(),
            subname: wanted.subname.clone(),
            pubname: wanted.pubname.clone(),
            privileges: database.door.before().clone(),
            keep: database.door.keep().iter().cloned().collect(),
            had_publication: false,
            mark: None,
        });
    }
    let mut backends = vec![backend_of(pair.publisher.facts())];
    backends.extend(sessions.on_from().map(|own| own.backend.clone()));
    for database in databases {
        let own = database.sessions.on_from();
        backends.extend(own.map(|own| own.backend.clone()));
    }
    Ok(Entry {
        run: Uuid::new_v4(),
        generation: 0,
        command: request.command().into(),
        purpose: request.purpose,
        direction: request.direction,
        reverse: request.reverse && request.purpose == Purpose::Switch,
        step: Step::Preparing,
        databases: members,
        backends,
        holder: holder(),
        max_pause_ms: i64::try_from(request.max_pause.as_millis()).unwrap_or(i64::MAX),
        started_at: String::new(),
        changed_at: String::new(),
        silent_seconds: 0.0,
    })
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

/// Puts the run on record on both servers. From here on whatever it makes is found again.
pub(crate) fn record(pause: &mut Pause<'_>, config: &Config) -> Result<()> {
    let (from, to) = (&pause.pair.publisher, &pause.pair.subscriber);
    journal::create(from)?;
    let mut newest = journal::generation(from.admin())?;
    if pause.entry.purpose == Purpose::Switch {
        journal::create(to)?;
        newest = newest.max(journal::generation(to.admin())?);
        for member in &mut pause.entry.databases {
            let stream = member.stream(pause.entry.direction.flipped());
            let session = to.connect(Login::Superuser, &stream.dbname)?;
            member.had_publication = publications::find(&session, &stream.pubname)?.is_some();
        }
    }
    pause.entry.generation = newest + 1;
    journal::record(&pause.sessions.door.session, config, &pause.entry)?;
    if pause.entry.purpose == Purpose::Switch {
        let mut backends = vec![backend_of(to.facts()), pause.sessions.gate.backend.clone()];
        for database in &pause.databases {
            let own = database.sessions.on_to();
            backends.extend(own.map(|own| own.backend.clone()));
        }
        let there = Entry {
            backends,
            ..pause.entry.clone()
        };
        journal::record(&pause.sessions.gate.session, config, &there)?;
    }
    Ok(())
}

/// Builds the way back, shuts *to*, and lets everything that the pause will use be used once.
pub(crate) fn build(pause: &mut Pause<'_>, config: &Config, run: &Run) -> Result<()> {
    let _alive = Heartbeat::start(&pause.pair.publisher, pause.run())?;
    if pause.entry.purpose == Purpose::Switch {
        if pause.entry.reverse {
            for member in &pause.entry.databases {
                run.progress
                    .step(&format!("building the way back of {:?}", member.dbname));
                way_back::build(pause.pair, config, &pause.entry, member, run)?;
            }
        }
        run.progress.step("shutting the door of the target");
        shut_target(pause)?;
        for at in 0..pause.databases.len() {
            let database = &mut pause.databases[at];
            run.progress.step(&format!(
                "carrying the sequences of {:?} over",
                database.dbname()
            ));
            sequences::set_all(database)?;
            ready::statistics(pause.pair, &pause.databases[at], run)?;
        }
    }
    if pause.entry.purpose == Purpose::Switch {
        run_hooks(config, &pause.entry, Moment::BeforePause, None)?;
    }
    warm_up(pause, run)
}

/// Nobody writes on *to* while it subscribes, so that a client that knows both servers cannot be early.
fn shut_target(pause: &Pause<'_>) -> Result<()> {
    let gate = &pause.sessions.gate.session;
    for database in &pause.databases {
        let Some(door) = &database.gate else { continue };
        let dbname = database.dbname();
        let shutting = match journal::is_shut(gate, dbname)? {
            false => again_while_it_passes(|| in_transaction(gate, || shut_one(gate, door))),
            // Somebody may have died while the owner came in ([`Server::enter_as`]).
            true => again_while_it_passes(|| gate.batch(&door.shutting_out_the_owner())),
        };
        shutting.wrap_err_with(|| format!("shut the door of {dbname:?} on the target"))?;
        let own: Vec<i32> = gate.value(
            "SELECT array(SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'flare/%')",
            params![],
        )?;
        let everyone = Clearing::Everyone {
            but: door.keep().clone(),
        };
        sweep(
            pause.pair.subscriber.admin(),
            &[dbname.to_owned()],
            &own,
            &everyone,
            &Deadline::after(CATCH_UP),
        )?;
    }
    Ok(())
}

/// Plans, caches and pages: what is used in the pause is used once before. The lock taken here hinders nobody.
fn warm_up(pause: &Pause<'_>, run: &Run) -> Result<()> {
    for database in &pause.databases {
        let wall = &database.sessions.wall.session;
        touch(wall, pause.open_wall, &database.published)?;
        let probe = database.probe(pause.pair.publisher.identifier());
        let quickest =
            catch_up(&probe, pause.max_pause).wrap_err("wait for the subscriber to catch up")?;
        run.progress.step(&format!(
            "{:?} keeps up: a row takes {:.1} ms",
            database.dbname(),
            quickest.as_secs_f64() * 1000.0
        ));
    }
    Ok(())
}
