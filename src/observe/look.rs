//! One look at several subscriptions, as fast as it can be had: a session on the publisher and one in each database
//! of the subscriber, all at once. Only a subscription that is behind is looked at a second time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::age::Age;
use super::causes::lock_in_words;
use super::retention::retention;
use super::sample::{Answer, PublisherSample, Sample, SubscriberSample, Survey, Worker};
use super::sampler::now;
use super::side_session::{SideSession, Silent};
use super::suspects::{Stopped, Suspect, SuspectKind, suspects};
use super::unanswered::Unanswered;
use super::verdict::is_unexplained;
use super::{lsn_history, oldest_change};
use crate::catalog::subscriptions;
use crate::config::{Config, Lag, Subscription};
use crate::error::{Failure, Result, message_of};
use crate::journal::Direction;
use crate::server::{Session, interrupt, is_identity_mismatch, params};

/// A subscriber that is alive confirms a position within this: its commits are flushed by the WAL writer's clock.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(20);

/// Subscriptions of the configuration, with their names.
pub(super) type Declared<'c> = [(&'c str, &'c Subscription)];

/// Whether a look leaves something behind for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Where the publisher was, in the lsn_history.
    Position,
    /// Nothing: whoever looks promised to change nothing.
    None,
}

/// A sample, and what only a second look can tell.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) sample: Sample,
    /// What went wrong between the two looks.
    pub(super) trouble: Option<String>,
}

/// Looks at declared subscriptions.
///
/// # Errors
/// When a server is not the declared one, or a signal came. What cannot be reached is in the sample.
pub(super) fn look(
    config: &Arc<Config>,
    application_name: &str,
    direction: Direction,
    declared: &Declared<'_>,
    limits: &Lag,
    trace: Trace,
    silent: &Silent,
) -> Result<Vec<Seen>> {
    let (publisher, mut subscribers, samples) =
        first_look(config, application_name, direction, declared, trace, silent)?;
    let mut seen: Vec<Seen> = samples
        .into_iter()
        .map(|sample| Seen {
            sample,
            trouble: None,
        })
        .collect();
    std::thread::scope(|scope| {
        for (seen, (_, declared)) in seen.iter_mut().zip(declared) {
            let publisher = &publisher;
            scope.spawn(move || {
                measure_seconds(publisher, declared, &mut seen.sample);
                measure_retention(publisher, limits, &mut seen.sample);
            });
        }
    });
    for Seen { sample, trouble } in &mut seen {
        if let Some(to) = subscribers
            .get(&sample.dbname)
            .and_then(SideSession::session)
        {
            sample.follows = third_server(config, sample, to);
        }
        if let Some(subscriber) = subscribers.get_mut(&sample.dbname)
            && stands_still(sample)
        {
            *trouble = trouble_since(sample, subscriber);
        }
        if is_unexplained(sample, trouble.as_deref())
            && let Some(subscriber) = subscribers.get(&sample.dbname)
            && let Some(to) = subscriber.session()
        {
            let as_owner = || subscriber.enter_as_owner(&sample.dbname);
            let found = publisher
                .enter(&sample.dbname)
                .map(|(from, _)| suspects(&stopped(config, sample, (&from, to), &as_owner)));
            sample.suspects = kept(found.map(Some)).unwrap_or_default();
        }
    }
    interrupt::check()?;
    Ok(seen)
}

type FirstLook = (SideSession, BTreeMap<String, SideSession>, Vec<Sample>);

fn first_look(
    config: &Arc<Config>,
    application_name: &str,
    direction: Direction,
    declared: &Declared<'_>,
    trace: Trace,
    silent: &Silent,
) -> Result<FirstLook> {
    let mut by_database: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (subname, subscription) in declared {
        let subnames = by_database.entry(&subscription.dbname).or_default();
        subnames.push(subname);
    }
    let mut publisher = SideSession::publisher(config, application_name, direction).unless(silent);
    let mut subscribers = BTreeMap::new();
    let mut subscriptions = BTreeMap::new();
    let publishers = std::thread::scope(|scope| {
        let asked: Vec<_> = by_database
            .iter()
            .map(|(dbname, subnames)| {
                let mut subscriber =
                    SideSession::subscriber(config, application_name, direction, dbname)
                        .unless(silent);
                scope.spawn(move || {
                    let answers = ask_all::<SubscriberSample>(&mut subscriber, subnames);
                    (*dbname, subscriber, answers)
                })
            })
            .collect();
        let dbnames: Vec<&str> = by_database.keys().copied().collect();
        let publishers = ask_all::<PublisherSample>(&mut publisher, &dbnames);
        for thread in asked {
            let (dbname, subscriber, answers) = thread
                .join()
                .map_err(|_| Failure::new("look at the subscriber: its thread has ended"))?;
            subscribers.insert(dbname.to_owned(), subscriber);
            subscriptions.extend(answers?);
        }
        // Only now that neither is the wrong server.
        if let (Ok(answers), Some(session), Trace::Position) =
            (&publishers, publisher.session(), trace)
        {
            note(session, answers);
        }
        publishers
    })?;
    let time = now();
    let samples = declared.iter().map(|(subname, subscription)| {
        let publisher = publishers.get(subscription.dbname.as_str());
        let subscriber = subscriptions.remove(subname);
        Sample::of(
            time.clone(),
            direction,
            &subscription.dbname,
            subname,
            publisher.cloned().unwrap_or_else(unasked),
            subscriber.unwrap_or_else(unasked),
        )
    });
    let samples = samples.collect();
    Ok((publisher, subscribers, samples))
}

fn unasked<T>() -> Answer<T> {
    Err(Unanswered::silent("it was not asked"))
}

/// Asks about each name. A server that cannot be reached is not tried again; one that is the wrong one is an error.
fn ask_all<'n, T: serde::de::DeserializeOwned>(
    side: &mut SideSession,
    names: &[&'n str],
) -> Result<BTreeMap<&'n str, Answer<T>>> {
    let opened = match side.open() {
        Err(report) if is_identity_mismatch(&report) => return Err(report),
        opened => opened.map_err(|report| Unanswered::from(&report)),
    };
    let answers = names.iter().map(|name| {
        let answer = match &opened {
            Err(why) => Err(why.clone()),
            Ok(()) => side
                .ask(params![*name])
                .map_err(|report| Unanswered::from(&report)),
        };
        (*name, answer)
    });
    Ok(answers.collect())
}

/// Writes down where the publisher was, for the looks to come.
fn note(session: &Session, answers: &BTreeMap<&str, Answer<PublisherSample>>) {
    let Some(sample) = answers.values().find_map(|answer| answer.as_ref().ok()) else {
        return;
    };
    if let Err(report) = lsn_history::write(session, sample) {
        log::debug!("{}", message_of(&report));
    }
}

/// A subscription whose workers end, as its suspects are looked for.
pub(super) fn stopped<'a>(
    config: &'a Config,
    sample: &'a Sample,
    (from, to): (&'a Session, &'a Session),
    as_owner: &'a dyn Fn() -> Result<Session>,
) -> Stopped<'a> {
    let sides = sample.sides();
    let host = sides.0.host(config);
    Stopped {
        from,
        to,
        as_owner,
        db_owner: &sides.1.host(config).db_owner.user,
        subname: &sample.subname,
        repl: &host.repl.as_ref().unwrap_or(&host.superuser).user,
        sides,
    }
}

/// Where a subscription leads whose slot is not on the server that it should follow, where it leads elsewhere.
pub(super) fn third_server(config: &Config, sample: &Sample, to: &Session) -> Option<String> {
    let subscription = sample.subscriber.as_ref()?.subscription.as_ref()?;
    if subscription.subslotname.is_none() || sample.publisher.is_none() || sample.slot().is_some() {
        return None;
    }
    let via = &sample.sides().0.host(config).via;
    kept(subscriptions::leads_elsewhere(to, &sample.subname, via))
}

/// Finds out how old the subscriber's state is.
fn measure_seconds(publisher: &SideSession, declared: &Subscription, sample: &mut Sample) {
    let age = kept(age(publisher, declared, sample));
    sample.with_age(age);
}

/// Finds out how long the slot's WAL has room, by how it grew since earlier looks.
fn measure_retention(publisher: &SideSession, limits: &Lag, sample: &mut Sample) {
    let (Some(answer), Some(slot), Some(session)) =
        (&sample.publisher, sample.slot(), publisher.session())
    else {
        return;
    };
    let retained = slot.retained_wal_bytes.unwrap_or(0);
    let mut growth = None;
    let mut directory = None;
    if slot.safe_wal_size.is_some() || limits.wal_disk.is_some() {
        growth = kept(lsn_history::growth(
            session,
            answer.lsn_history,
            &slot.slot_name,
            retained,
        ));
    }
    if limits.wal_disk.is_some() {
        directory = kept(Survey::wal_directory(session));
    }
    sample.retention = retention(sample, growth, limits, directory);
}

fn kept<T>(found: Result<Option<T>>) -> Option<T> {
    found.unwrap_or_else(|report| {
        log::debug!("{}", message_of(&report));
        None
    })
}

fn age(publisher: &SideSession, declared: &Subscription, sample: &Sample) -> Result<Option<Age>> {
    let (Some(answer), Some(slot), Some(session)) =
        (&sample.publisher, sample.slot(), publisher.session())
    else {
        return Ok(None);
    };
    let (Some(confirmed), false) = (slot.confirmed_flush_lsn, slot.is_lost()) else {
        return Ok(None);
    };
    let looked_at = Instant::now();
    if confirmed >= answer.current_wal_lsn {
        return Ok(Some(Age::exactly(0.0)));
    }
    if !slot.active {
        let subscription = sample
            .subscriber
            .as_ref()
            .and_then(|it| it.subscription.as_ref());
        let declared_names = [declared.pubname.clone()];
        let pubnames = subscription.map_or(&declared_names[..], |it| it.subpublications.as_slice());
        let peeked = publisher
            .enter(&declared.dbname)
            .and_then(|(session, _)| oldest_change::age(&session, &slot.slot_name, pubnames));
        match peeked {
            Ok(age) => return Ok(age.map(Age::exactly)),
            // Without REPLICATION only the lsn_history knows.
            Err(report) => log::debug!("{}", message_of(&report)),
        }
        return lsn_history::age_of(session, answer.lsn_history, confirmed).map(Some);
    }
    let seen = lsn_history::age_of(session, answer.lsn_history, confirmed)?;
    while looked_at.elapsed() < CONFIRMED_WITHIN {
        let arrived: bool = session.value(
            "SELECT coalesce(bool_or(confirmed_flush_lsn >= $2::pg_lsn), false)
               FROM pg_replication_slots WHERE slot_name = $1",
            params![slot.slot_name.as_str(), answer.current_wal_lsn],
        )?;
        if arrived {
            return Ok(Some(Age::exactly(looked_at.elapsed().as_secs_f64())));
        }
        interrupt::sleep(EVERY)?;
    }
    // What a worker is at in an open transaction was there before it began, however seldom anybody looks.
    let worker = sample.subscriber.as_ref().and_then(SubscriberSample::apply);
    let at_work = worker.and_then(|it| it.xact_seconds);
    let waited = looked_at.elapsed().as_secs_f64();
    Ok(Some(seen.or_older(Some(waited)).or_older(at_work)))
}

/// Whether the slot is in use, and what was not confirmed at the first look is not confirmed yet.
fn stands_still(sample: &Sample) -> bool {
    let waited = |seconds: f64| seconds > CONFIRMED_WITHIN.as_secs_f64();
    sample.active == Some(true)
        && sample.lag_bytes.is_some_and(|bytes| bytes > 0)
        && sample.lag_seconds.is_none_or(waited)
}

/// The worker that holds the lock which apply waits for, and waits for apply: a TRUNCATE of a table that is copied, up to 13.
fn copied_for_ever<'w>(apply: &Worker, workers: &'w [Worker]) -> Option<&'w Worker> {
    let holds = |it: &&Worker| apply.blockers.iter().any(|held| held.pid == it.pid);
    let waits = |it: &&Worker| it.table.is_some() && it.waits.is("LogicalSyncStateChange");
    workers.iter().filter(holds).find(waits)
}

/// What has happened to the worker since the first look.
fn trouble_since(sample: &mut Sample, subscriber: &mut SideSession) -> Option<String> {
    let after: SubscriberSample = subscriber.ask(params![sample.subname.as_str()]).ok()?;
    let (_, to) = sample.sides();
    let before = sample.subscriber.as_ref()?;
    let waits = |it: &&Worker| it.waits.is_for("Lock");
    let waited = |it: &&Worker| {
        before
            .workers
            .iter()
            .filter(waits)
            .any(|old| old.pid == it.pid)
    };
    if let Some(worker) = after.workers.iter().filter(waits).find(waited) {
        sample.suspects = vec![Suspect {
            suspect: SuspectKind::Lock,
            message: lock_in_words(worker, to),
            statement: copied_for_ever(worker, &after.workers).map(|copies| {
                format!(
                    "SELECT pg_terminate_backend({}) on the {to}: that worker copies the table and waits for apply, for ever; it begins anew",
                    copies.pid
                )
            }),
            table: None,
        }];
        return None;
    }
    let errors = |it: &SubscriberSample| it.errors.as_ref().map(|it| it.apply_error_count);
    if errors(&after) > errors(before) {
        return Some("applying fails again and again".to_owned());
    }
    match (before.apply_pid(), after.apply_pid()) {
        (Some(one), Some(other)) if one != other => {
            Some("its apply worker ended and was started anew".to_owned())
        }
        (Some(_), None) => Some("its apply worker has just ended".to_owned()),
        _ => None,
    }
}
