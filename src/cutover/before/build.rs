//! What the pause needs is built and proven: *to* is closed, the way back stands still, everything was used once.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::cutover::before::heartbeat::Heartbeat;
use crate::cutover::before::look::can_be_restored;
use crate::cutover::before::ready;
use crate::cutover::before::sequences;
use crate::cutover::before::views;
use crate::cutover::before::way_back;
use crate::cutover::clients::hooks::Moment;
use crate::cutover::clients::run_hooks;
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::pause::rehearsal;
use crate::cutover::pause::table_locks::touch;
use crate::cutover::probe::catch_up;
use crate::cutover::state::{Database, Pause, RoundTrip, Target};
use crate::error::{Result, WrapErr};
use crate::journal::{self, Direction, Purpose};
use crate::replicate::{Run, closed, fence, made, status_table};
use crate::server::{Session, params};

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
        if pause.entry.direction == Direction::Forward {
            for database in &pause.databases {
                made::keep_what_was_brought(
                    &pause.pair.publisher,
                    &pause.pair.subscriber,
                    database.dbname(),
                )?;
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
        for at in 0..pause.databases.len() {
            let ahead = place_fence(pause, &pause.databases[at], run)?;
            pause.databases[at].fence_ahead = Some(ahead);
        }
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

/// The triggers of *from*'s fence are there before the pause, open: to make each in the pause would lengthen it.
fn place_fence(pause: &Pause<'_>, database: &Database, run: &Run) -> Result<fence::Ahead> {
    let dbname = database.dbname();
    run.progress
        .step(&format!("preparing the fence of {dbname:?}"));
    let ahead = fence::place(
        &database.sessions.lock.session,
        pause.begin_locks,
        &database.published,
        &database.default_before.recording(),
    )
    .wrap_err_with(|| format!("prepare the fence of {dbname:?}"))?;
    log::debug!("the fence of {dbname:?} ahead of the pause: {ahead:?}");
    Ok(ahead)
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
