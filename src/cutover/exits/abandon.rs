//! `fallback --abandon-target`: *to* died after the point of no return, and the application goes back to what *from* has.
//! The only way that loses something, so it has to be asked for.
//!
//! After a cutover *to* is the subscriber. After a fallback that could not open the publisher any more it is that one.

use uuid::Uuid;

use crate::catalog::slots;
use crate::config::Config;
use crate::cutover::exits::undo::{self, again_while_it_passes};
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::pause::open::restore;
use crate::cutover::sessions::{as_database_owner, backend_of};
use crate::cutover::state::Wanted;
use crate::error::{Failure, Report, Result};
use crate::journal::{self, Direction, Entry, Purpose, Step, Stream, Transition};
use crate::replicate::{Mode, Run, closed, fence, slot, unsubscribe};
use crate::server::{ActAs, Login, Publisher, params};

/// Opens *from* for the application again, after runs of this direction. What is lost is returned, in words.
pub(crate) fn abandon(
    from: &Publisher,
    direction: Direction,
    config: &Config,
    wanted: &[Wanted],
    dead: &Report,
    run: &Run,
) -> Result<Vec<String>> {
    let admin = from.admin();
    let entries = journal::entries(admin, config)?;
    let left = left_with(&entries, direction, wanted)?;
    let mut lost = Vec::new();
    let mut shut_databases = Vec::new();
    let mut defaults = Vec::new();
    for wanted in wanted {
        let dbname = &wanted.dbname;
        let stream = |direction| Stream::of(dbname, &wanted.subname, &wanted.pubname, direction);
        let (fed, back) = (stream(direction), stream(direction.flipped()));
        lost.push(match direction {
            Direction::Forward => what_is_lost(from, &back)?,
            Direction::Back => format!(
                "lost: what was written to {dbname:?} on the publisher, if it had opened before it died"
            ),
        });
        if let Some(shut) = journal::shut_database(admin, dbname)? {
            shut_databases.push(ConnectPrivileges::new(
                shut.privileges,
                shut.keep.into_iter().collect(),
            ));
        }
        if run.mode == Mode::DryRun {
            continue;
        }
        let unreachable = Err(Failure::new(format!("{dead:#}")).into());
        let how = (unsubscribe::OldSlot::Drop, unsubscribe::Unreachable::Detach);
        unsubscribe::drop(
            &from.as_subscriber(),
            &unreachable,
            &back.subname,
            dbname,
            how,
            run,
        )?;
        // A target that died before it was opened has left the slot that it was fed from.
        slot::drop(from, &slots::name_for(&fed.subname))?;
        let session = from.connect(ActAs::Tables, dbname)?;
        let member = left.iter().find_map(|entry| entry.member(dbname));
        let default = match closed::recorded(&session, dbname)? {
            Some(recorded) => Some(recorded),
            // Flare died before there was a fence.
            None => member.map(undo::default_of),
        };
        defaults.extend(default);
        fence::open(&session)?;
    }
    if run.mode == Mode::DryRun {
        return Ok(lost);
    }
    let generation = journal::generation(admin)? + 1;
    let entry = Entry {
        run: Uuid::new_v4(),
        generation,
        command: "fallback".into(),
        direction: direction.flipped(),
        reverse: false,
        step: Step::Closed,
        databases: left
            .iter()
            .flat_map(|entry| entry.databases.clone())
            .filter(|member| wanted.iter().any(|it| it.dbname == member.dbname))
            .collect(),
        backends: vec![backend_of(from.facts())],
        ..match left.first() {
            Some(entry) => (*entry).clone(),
            None => return Failure::usage("name at least one subscription").err(),
        }
    };
    let dbnames: Vec<&str> = wanted.iter().map(|it| it.dbname.as_str()).collect();
    as_database_owner(from, &dbnames, |session| {
        again_while_it_passes(|| {
            session.transaction(|session| {
                // A run that moved others, too, goes on being theirs.
                let is_wanted = |dbname: &str| wanted.iter().any(|it| it.dbname == dbname);
                let whole = left
                    .iter()
                    .filter(|it| it.databases.iter().all(|member| is_wanted(&member.dbname)));
                for abandoned in whole {
                    journal::advance(session, abandoned.run, Transition::Abandon)?;
                }
                journal::record(session, config, &entry)?;
                shut_databases
                    .iter()
                    .try_for_each(|privileges| restore(session, privileges))?;
                defaults
                    .iter()
                    .try_for_each(|default| session.batch(&default.reopening()))
            })
        })
    })?;
    for Wanted { dbname, .. } in wanted {
        closed::open(from, dbname, run)?;
    }
    Ok(lost)
}

/// The runs that moved these databases to the side that is dead: each is given up as a whole. A publisher that was opened by
/// a fallback is no target any more.
fn left_with<'a>(
    entries: &'a [Entry],
    direction: Direction,
    wanted: &[Wanted],
) -> Result<Vec<&'a Entry>> {
    let (from, to) = direction.sides();
    let moved = |entry: &&Entry| {
        entry.direction == direction
            && (direction == Direction::Forward || entry.step == Step::Switching)
    };
    let mut left: Vec<&Entry> = Vec::new();
    for Wanted { dbname, .. } in wanted {
        let newest = newest_switch(entries, dbname);
        let Some(entry) = newest.filter(moved) else {
            let why = match newest.map_or(Direction::Back, |entry| entry.direction) {
                newest if newest == direction => {
                    format!("the application writes on the {to}, no run is half-way")
                }
                _ => format!("the application writes on the {from} already"),
            };
            return Failure::new(format!("abandon the {to} of {dbname:?}: {why}"))
                .hint("flare status")
                .err();
        };
        let others = entry.databases.iter().filter(|member| {
            newest_switch(entries, &member.dbname) == Some(entry)
                && !wanted.iter().any(|it| it.dbname == member.dbname)
        });
        let others: Vec<&str> = others.map(|member| member.subname.as_str()).collect();
        if !others.is_empty() {
            return Failure::usage(format!(
                "abandon the {to} of {dbname:?}: it was moved in one pause with {}",
                others.join(", ")
            ))
            .hint(format!(
                "name those subscriptions too, or --all: the {to} is dead for them as well"
            ))
            .err();
        }
        if !left.contains(&entry) {
            left.push(entry);
        }
    }
    Ok(left)
}

/// The newest run that moved a database for good.
fn newest_switch<'a>(entries: &'a [Entry], dbname: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| {
        entry.purpose == Purpose::Switch
            && entry.step.is_past_return()
            && entry.member(dbname).is_some()
    })
}

/// How far the way back had come.
fn what_is_lost(publisher: &Publisher, back: &Stream) -> Result<String> {
    let session = publisher.connect(Login::Superuser, &back.dbname)?;
    let seen: Option<serde_json::Value> = session.first(
        "SELECT jsonb_build_object('lsn', latest_end_lsn::text, 'at', latest_end_time::text)
           FROM pg_stat_subscription WHERE subname = $1 AND relid IS NULL",
        params![&back.subname],
    )?;
    let word = |key: &str| {
        let value = seen.as_ref().and_then(|seen| seen.get(key));
        value.and_then(|value| value.as_str()).map(str::to_owned)
    };
    let dbname = &back.dbname;
    Ok(match (word("lsn"), word("at")) {
        (Some(lsn), Some(at)) => format!(
            "lost: what was written to {dbname:?} on the subscriber and had not come back; the way back had reached {lsn}, last heard of at {at}"
        ),
        _ => format!(
            "lost: what was written to {dbname:?} on the subscriber and had not come back; how far that had come is not known"
        ),
    })
}
