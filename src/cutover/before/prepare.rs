//! Before the pause, as long as it takes: everything that could stop it is looked at, built, opened and warmed up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::catalog::privileges::DatabasePrivileges;
use crate::catalog::publications;
use crate::config::Config;
use crate::cutover::before::checks;
use crate::cutover::before::heartbeat::Heartbeat;
use crate::cutover::before::ready::{self, Running};
use crate::cutover::before::run_lock::lock_out_others;
use crate::cutover::before::sequences;
use crate::cutover::before::views;
use crate::cutover::before::way_back;
use crate::cutover::clients::hooks::{self, Moment};
use crate::cutover::clients::pgbouncer::Poolers;
use crate::cutover::clients::run_hooks;
use crate::cutover::deadline::Deadline;
use crate::cutover::pause::backends::no_prepared_transaction;
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::pause::rehearsal;
use crate::cutover::pause::table_locks::{tables, touch};
use crate::cutover::probe::catch_up;
use crate::cutover::sessions::{DatabaseSessions, Sessions, as_database_owner, backend_of, joined};
use crate::cutover::state::{Database, Pause, PauseRequest, RoundTrip, Target, Wanted};
use crate::error::{Failure, Result, WrapErr};
use crate::journal::{self, Entry, Member, Purpose, Step};
use crate::preflight::Preflight;
use crate::replicate::{Run, closed, fence, status_table};
use crate::server::{Pair, Server, Session, at_once, begin_before_autovacuum, params};

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
    lock_out_others(pair, &dbnames)?;
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
    if journal::is_shut(from.admin(), dbname)? {
        return Failure::new(format!(
            "nobody can connect to {dbname:?} on the {} already",
            from.side()
        ))
        .hint("flare status says by whom, and what to do")
        .err();
    }
    let sessions = DatabaseSessions::open(pair, &stream)?;
    let (lock, arrival) = (&sessions.lock.session, &sessions.arrival.session);
    let published = tables(lock, &stream.pubname)?;
    ready::status_table_is_ready((lock, arrival), &stream, &status_table::table(from))?;
    ready::every_table_is_ready(arrival, &stream)?;
    ready::may_lock(lock, &stream.pubname)?;
    if request.purpose == Purpose::Switch {
        ready::may_fence(lock, &stream.pubname)?;
    }
    let before = DatabasePrivileges::read(from.admin(), dbname)?;
    let mut keep = request.keep_users.clone();
    keep.extend(running.usename.clone());
    keep.extend(from.declared().repl.as_ref().map(|repl| repl.user.clone()));
    keep.insert(from.declared().superuser.user.clone());
    Ok(Database {
        privileges: ConnectPrivileges::new(before, needing_a_grant(from, keep)?),
        default_before: closed::now(from.admin(), dbname, None)?,
        target: Target::default(),
        subowner: running.subowner,
        stream,
        sessions,
        published,
        on_from: BTreeMap::new(),
        on_to: BTreeMap::new(),
        drained: None,
        ended: BTreeSet::new(),
    })
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
fn can_be_restored(
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
    match out_of_reach.is_empty() {
        true => Ok(()),
        false => Failure::new(format!(
            "revoke CONNECT on {}: it was granted by {}, and {user:?} could not give that back",
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
            privileges: database.privileges.before().clone(),
            keep: database.privileges.keep().iter().cloned().collect(),
            default_before: database.default_before.setting.clone(),
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
            let session = to.visit(&stream.dbname)?;
            member.had_publication = publications::find(&session, &stream.pubname)?.is_some();
        }
    }
    pause.entry.generation = newest + 1;
    journal::record(&pause.sessions.connect.session, config, &pause.entry)?;
    if pause.entry.purpose == Purpose::Switch {
        let mut backends = vec![backend_of(to.facts())];
        backends.extend(pause.sessions.on_to().map(|own| own.backend.clone()));
        for database in &pause.databases {
            let own = database.sessions.on_to();
            backends.extend(own.map(|own| own.backend.clone()));
        }
        let there = Entry {
            backends,
            ..pause.entry.clone()
        };
        journal::record(&pause.sessions.target.session, config, &there)?;
    }
    Ok(())
}

/// Closes *to* where that is not so yet, builds the way back, and lets everything that the pause will use be used once.
pub(crate) fn build(pause: &mut Pause<'_>, config: &Config, run: &Run) -> Result<()> {
    pause.heartbeat = Some(Heartbeat::start(&pause.pair.publisher, pause.run())?);
    payload_column(pause, run)?;
    if pause.entry.purpose == Purpose::Switch {
        run.progress.step("closing the target");
        for at in 0..pause.databases.len() {
            let target = close_target(pause, &pause.databases[at], run)?;
            pause.databases[at].target = target;
        }
        for database in &pause.databases {
            let left_behind = config.left_behind(database.dbname());
            let old = views::refresh(pause.pair, database, left_behind, run)?;
            pause.warnings.extend(old);
        }
        if pause.entry.reverse {
            for member in &pause.entry.databases {
                run.progress
                    .step(&format!("building the way back of {:?}", member.dbname));
                way_back::build(pause.pair, config, &pause.entry, member, run)?;
            }
        }
        for at in 0..pause.databases.len() {
            let database = &mut pause.databases[at];
            run.progress.step(&format!(
                "carrying the sequences of {:?} over",
                database.dbname()
            ));
            sequences::set_all(database)?;
            ready::statistics(pause.pair, &pause.databases[at], run)?;
        }
        run_hooks(config, &pause.entry, Moment::BeforePause, None)?;
    }
    warm_up(pause, run)?;
    rehearsal::play(pause)?;
    // The pause ends whatever is connected to the database: those would count as an application's.
    pause.pair.publisher.end_visits();
    pause.pair.subscriber.end_visits();
    Ok(())
}

/// The probe row carries the sequences in a column that the original's table lacks; *to* gets it first, since a column
/// that it lacks stops its apply.
fn payload_column(pause: &Pause<'_>, run: &Run) -> Result<()> {
    let (from, to) = (&pause.pair.publisher, &pause.pair.subscriber);
    for database in &pause.databases {
        for server in [&**to, &**from] {
            status_table::add_payload(server, database.dbname(), run)?;
        }
    }
    Ok(())
}

/// Nobody writes on *to* while it subscribes; what closes it is added where it is missing.
fn close_target(pause: &Pause<'_>, database: &Database, run: &Run) -> Result<Target> {
    let to = &pause.pair.subscriber;
    let dbname = database.dbname();
    if let Some((owner, login)) = &database.subowner {
        closed::close(to, dbname, &database.published, (owner, *login), run)?;
    }
    let arrival = &database.sessions.arrival.session;
    let shut = journal::shut_database(to.admin(), dbname)?;
    let shut =
        shut.map(|shut| ConnectPrivileges::new(shut.privileges, shut.keep.into_iter().collect()));
    if let Some(shut) = &shut {
        can_be_restored(to, &[dbname], &[shut])?;
    }
    Ok(Target {
        fenced: fence::is_there(arrival)?,
        shut,
        default_before: closed::recorded(arrival, dbname)?,
    })
}

/// Plans, caches and pages: what is used in the pause is used once before. The lock taken here hinders nobody.
fn warm_up(pause: &mut Pause<'_>, run: &Run) -> Result<()> {
    let round_trip = RoundTrip {
        from: quickest(&pause.sessions.terminate.session)?,
        to: quickest(&pause.sessions.target_watch.session)?,
    };
    pause.round_trip = round_trip;
    for database in &pause.databases {
        let lock = &database.sessions.lock.session;
        touch(lock, pause.begin_locks, &database.published)?;
        let probe = database.probe(&pause.pair.publisher);
        // A probe is a statement there, and at least one look here.
        let line = round_trip.from + round_trip.to * 2;
        let quickest = catch_up(&probe, line, pause.max_pause)
            .wrap_err("wait for the subscriber to catch up")?;
        run.progress.step(&format!(
            "{:?} keeps up: a row takes {:.1} ms",
            database.dbname(),
            quickest.as_secs_f64() * 1000.0
        ));
    }
    Ok(())
}

/// The quickest of a few answers: what the way to the server takes.
pub(in crate::cutover) fn quickest(session: &Session) -> Result<Duration> {
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let since = Instant::now();
        session.value::<i32>("SELECT 1", params![])?;
        quickest = quickest.min(since.elapsed());
    }
    Ok(quickest)
}
