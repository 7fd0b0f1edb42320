//! `adopt`: a clone of the publisher becomes the subscriber, and no row is copied.
//!
//! The slot is there before the clone is taken, so the stream holds all that the clone lacks; `measure` finds the point that
//! the clone has reached, and proves it by the transactions of the stream; `finish` has the subscription begin there.

mod clone;
mod counts;
mod measure;
mod report;
mod taken;
mod taker;

use serde::Deserialize;

use super::sources;
use super::under_way::UnderWay;
use crate::catalog::{publications, slots, subscriptions, tables};
use crate::config::Subscription;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::journal::own_schema;
use crate::replicate::slot::{self, Standby};
use crate::replicate::subscription::{self, Begin, Target, Wait, create_after_copy};
use crate::replicate::{Change, Mode, Plan, Run, sequences};
use crate::server::{Login, Pair, Publisher, Session, Side, params};
use crate::value::{Ident, Literal, Lsn, ShellWord};

pub(crate) use measure::measure;
pub use report::{AdoptBegun, AdoptMeasured};

/// What is on record of an adoption, in the publisher's `postgres`.
#[derive(Clone, Debug, Deserialize)]
struct Recorded {
    slot_name: String,
    /// Where the slot begins; none until it is there.
    slot_lsn: Option<Lsn>,
    /// What the clone has reached.
    point: Option<Lsn>,
}

const CREATE: &str = concat!(
    own_schema!(),
    "
    CREATE TABLE IF NOT EXISTS flare.adopt (
        subname     text PRIMARY KEY,
        slot_name   text NOT NULL,
        slot_lsn    text,
        point       text,
        began_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
        measured_at timestamptz
    )"
);

const EXISTS: &str = "SELECT to_regclass('flare.adopt') IS NOT NULL";

fn recorded(session: &Session, subname: &str) -> Result<Option<Recorded>> {
    if !session.value::<bool>(EXISTS, params![])? {
        return Ok(None);
    }
    session
        .first(
            "SELECT jsonb_build_object('slot_name', slot_name, 'slot_lsn', slot_lsn, 'point', point) FROM flare.adopt WHERE subname = $1",
            params![subname],
        )
        .wrap_err("read what is on record of the adoption")
}

/// Takes an adoption off the record; the table goes with the last one.
fn forget(session: &Session, subname: &str) -> Result<()> {
    session.execute(
        "DELETE FROM flare.adopt WHERE subname = $1",
        params![subname],
    )?;
    if session.value("SELECT NOT EXISTS (SELECT FROM flare.adopt)", params![])? {
        session.batch("DROP TABLE flare.adopt")?;
    }
    Ok(())
}

/// Off the record; the clone has brought the publisher's record along, and it may be that of other databases, too.
fn forget_everywhere(pair: &Pair, subname: &str) -> Result<()> {
    let (publisher, subscriber) = (pair.publisher.admin(), pair.subscriber.admin());
    let others: bool = publisher.value(
        "SELECT EXISTS (SELECT FROM flare.adopt WHERE subname <> $1)",
        params![subname],
    )?;
    subscriber.batch("DROP TABLE IF EXISTS flare.sample")?;
    if !others {
        subscriber.batch("DROP TABLE IF EXISTS flare.adopt")?;
    } else if subscriber.value(EXISTS, params![])? {
        forget(subscriber, subname)?;
    }
    forget(publisher, subname)
}

/// The record of an adoption whose subscription is there goes.
pub(crate) fn forget_finished(pair: &Pair, subname: &str) -> Result<()> {
    match recorded(pair.publisher.admin(), subname)? {
        Some(_) => forget_everywhere(pair, subname),
        None => Ok(()),
    }
}

/// Fails when an adoption is on record: its slot has to stay until the clone is there.
pub(crate) fn check_none(admin: &Session, subname: &str) -> Result<()> {
    let Some(recorded) = recorded(admin, subname)? else {
        return Ok(());
    };
    Failure::new(format!(
        "subscription {subname:?} is that of a clone that is being adopted: slot {:?} of the publisher waits for it",
        recorded.slot_name
    ))
    .hint(format!(
        "go on with flare adopt; or give the adoption up: flare drop_subscription {}",
        ShellWord(subname)
    ))
    .err()
}

/// What `status` says of it.
pub(crate) fn under_way(admin: &Session, subname: &str) -> Result<Option<UnderWay>> {
    let Some(recorded) = recorded(admin, subname)? else {
        return Ok(None);
    };
    let slot = slots::find(admin, &recorded.slot_name)?;
    Ok(Some(UnderWay::Adoption {
        slot_lsn: recorded.slot_lsn,
        point: recorded.point,
        slot_is_there: slot.is_some_and(|it| !it.is_lost()),
    }))
}

/// Takes an adoption that nobody goes on with off the record; its slot is the subscription's.
pub(crate) fn give_up(publisher: &Publisher, subname: &str, run: &Run) -> Result<Change> {
    let admin = publisher.admin();
    if recorded(admin, subname)?.is_none() {
        return Ok(Change::none(run));
    }
    let mut plan = Plan::new(Side::Publisher, "postgres");
    plan.step(
        format!("give up the adoption of a clone as subscription {subname:?}"),
        format!(
            "DELETE FROM flare.adopt WHERE subname = {}",
            Literal(subname)
        ),
    );
    plan.carry_out_by(run, |_| forget(admin, subname))
}

fn not_begun(subname: &str) -> Failure {
    Failure::new(format!(
        "adopt a clone as subscription {subname:?}: no adoption is on record on the publisher"
    ))
    .hint(format!(
        "begin with flare adopt begin {}: the slot has to be there before the clone is taken",
        ShellWord(subname)
    ))
}

/// Makes the slot, before the clone is taken; then `hook` takes it, a program and its arguments, where there is one.
pub(crate) fn begin(
    publisher: &Publisher,
    subname: &str,
    declared: &Subscription,
    hook: &[String],
    run: &Run,
) -> Result<AdoptBegun> {
    let program = taken::program(hook)?;
    let mut begun = make_slot(publisher, subname, declared, run)?;
    begun.hook = program.clone();
    if let (Some(program), Mode::Apply) = (program, run.mode) {
        run.progress
            .step(&format!("{} takes the clone", program.display()));
        taken::run(&program, hook, &begun)?;
        begun.cloned = true;
        begun.changed = true;
    }
    Ok(begun)
}

fn make_slot(
    publisher: &Publisher,
    subname: &str,
    declared: &Subscription,
    run: &Run,
) -> Result<AdoptBegun> {
    let Subscription {
        dbname, pubname, ..
    } = declared;
    let attempt = || format!("begin to adopt a clone as subscription {subname:?}");
    let session = publisher.connect(Login::Superuser, dbname)?;
    if publications::find(&session, pubname)?.is_none() {
        return Failure::new(format!(
            "{}: the publisher has no publication {pubname:?}",
            attempt()
        ))
        .hint(format!(
            "run flare create_publication {}",
            ShellWord(dbname)
        ))
        .err();
    }
    let slot_name = slots::name_for(subname);
    let admin = publisher.admin();
    let found = slots::find(admin, &slot_name)?;
    let before = recorded(admin, subname)?;
    let mut begun = AdoptBegun {
        subname: subname.to_owned(),
        dbname: dbname.clone(),
        changed: false,
        dry_run: run.mode == Mode::DryRun,
        slot_name: slot_name.clone(),
        slot_lsn: before.as_ref().and_then(|it| it.slot_lsn),
        cloned: false,
        hook: None,
        host: publisher.declared().host.clone(),
        port: publisher.declared().port,
    };
    match (&found, &before) {
        (Some(_), Some(known)) if known.slot_lsn.is_some() => return Ok(begun),
        (Some(_), None) => {
            return Failure::new(format!(
                "{}: the publisher has a slot {slot_name:?} already, and it is not on record as one of an adoption",
                attempt()
            ))
            .hint(format!("flare drop_subscription {} drops it where nothing uses it", ShellWord(subname)))
            .err();
        }
        _ if run.mode == Mode::DryRun => return Ok(begun),
        _ => {}
    }
    // On record before it is there: a run that is cut off in between is gone on with.
    admin.batch(CREATE)?;
    admin.execute(
        "INSERT INTO flare.adopt (subname, slot_name) VALUES ($1, $2)
         ON CONFLICT (subname) DO UPDATE SET slot_name = excluded.slot_name, slot_lsn = NULL, point = NULL, measured_at = NULL",
        params![subname, &slot_name],
    )?;
    if found.is_none() {
        let creation = slot::creation(&slot_name, Standby::Ignored);
        if let Err(report) = slot::create(publisher, dbname, &slot_name, &creation, &*run.progress)
        {
            forget(admin, subname)?;
            return Err(report).wrap_err_with(attempt);
        }
    }
    let made = slots::find(admin, &slot_name)?.and_then(|slot| slot.confirmed_flush_lsn);
    let Some(lsn) = made else {
        return Failure::new(format!("{}: the new slot has no point", attempt())).err();
    };
    // Something after the slot, so that a clone of an idle publisher is beyond its point, too.
    session
        .batch("SELECT pg_logical_emit_message(true, 'flare', 'adopt')")
        .and_then(|()| {
            admin.execute(
                "UPDATE flare.adopt SET slot_lsn = $2 WHERE subname = $1",
                params![subname, lsn.to_string()],
            )
        })
        .wrap_err_with(attempt)
        .hint(|| format!("run flare adopt begin {} again", ShellWord(subname)))?;
    begun.changed = true;
    begun.slot_lsn = Some(lsn);
    Ok(begun)
}

/// Has the subscription begin at the point that was measured.
pub(crate) fn finish(
    pair: &Pair,
    subname: &str,
    declared: &Subscription,
    login: Login,
    run: &Run,
) -> Result<Change> {
    let Subscription {
        dbname, pubname, ..
    } = declared;
    let attempt = || format!("finish the adoption of subscription {subname:?}");
    let admin = pair.publisher.admin();
    let session = pair.subscriber.connect(Login::Superuser, dbname)?;
    if subscriptions::find(&session, subname)?.is_some_and(|it| it.subenabled) {
        if run.mode == Mode::Apply {
            forget_finished(pair, subname)?;
        }
        // Also one that pg_createsubscriber has made: its server is open still.
        return subscription::create(
            pair,
            subname,
            declared,
            (login, Target::Closed),
            Wait::No,
            run,
            || Ok(Change::none(run)),
        );
    }
    let Some(recorded) = recorded(admin, subname)?.filter(|it| it.slot_lsn.is_some()) else {
        return not_begun(subname).err();
    };
    let Some(point) = recorded.point else {
        return Failure::new(format!("{}: the clone was not measured", attempt()))
            .hint(format!(
                "start the clone alone and run flare adopt measure {} --clone CONNINFO",
                ShellWord(subname)
            ))
            .err();
    };
    let slot = slots::find(admin, &recorded.slot_name)?.filter(|it| !it.is_lost());
    let confirmed = slot.and_then(|it| it.confirmed_flush_lsn);
    if confirmed.is_none_or(|confirmed| confirmed > point) {
        return Failure::new(format!(
            "{}: slot {:?} of the publisher is {}, and the clone has reached {point}: rows in between would be lost",
            attempt(),
            recorded.slot_name,
            confirmed.map_or("gone, or has lost its WAL".to_owned(), |lsn| format!("at {lsn}"))
        ))
        .hint("begin again with a new clone: flare drop_subscription, then flare adopt begin")
        .err();
    }
    let published =
        publications::tables(&pair.publisher.connect(Login::Superuser, dbname)?, pubname)?;
    let missing = tables::missing(&session, &published)?;
    if !missing.is_empty() {
        return Failure::new(format!(
            "{}: the subscriber's database {dbname:?} lacks {}: it is no clone, or the tables are newer than it",
            attempt(),
            tables::listed(&missing)
        ))
        .hint("create them there as they are on the publisher, or begin again with a new clone")
        .err();
    }
    let note =
        taker::check(pair, &session, subname, &recorded, &published).wrap_err_with(attempt)?;
    let mut plan = Plan::new(Side::Subscriber, dbname);
    if publications::find(&session, pubname)?.is_some() {
        plan.step(
            format!("drop publication {pubname:?}, which came along in the clone"),
            format!("DROP PUBLICATION {}", Ident::from(pubname.as_str())),
        );
    }
    let change = plan.carry_out(&session, run)?;
    sequences::replicate(pair, dbname, run)?;
    let copied: Vec<_> = published.into_iter().map(|name| (name, None)).collect();
    let begin = Begin::At(point);
    let mut change = change.and(create_after_copy(
        pair,
        subname,
        declared,
        login,
        (&copied, begin),
        run,
    )?);
    if run.mode == Mode::Apply {
        forget_everywhere(pair, subname)?;
    }
    if let Some(note) = note {
        change = change.with_note(note);
    }
    let objects = sources::large_objects(&session)?;
    if objects > 0 {
        change = change.with_note(format!(
            "{objects} large objects came along in the clone; those written since are not replicated"
        ));
    }
    if tables::lack_statistics(&session)? {
        change = change.with_note(format!(
            "tables have no statistics: flare vacuum_analyze {}",
            ShellWord(dbname)
        ));
    }
    Ok(change)
}
