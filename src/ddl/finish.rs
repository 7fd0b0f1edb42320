//! What comes after statements: the subscription takes the tables that they have made, and what earlier runs have left on
//! one side alone is finished, decided or told.

use postgres::error::SqlState;

use super::carried::{is_there, leaves_unvalidated, stuck_for_good};
use super::decide::{self, Decision};
use super::keys::{self, Aside};
use super::record;
use super::report::DdlReport;
use super::run::empty;
use super::script::shown;
use super::settle;
use super::sides::Sides;
use super::tables;
use crate::catalog::foreign_keys::ForeignKey;
use crate::catalog::{publications, subscriptions};
use crate::config::Config;
use crate::error::Result;
use crate::replicate::{Run, refresh};
use crate::server::{Pair, Server, Session, at_once, sqlstate_of};
use crate::value::TableName;

/// Finishes what earlier runs have left on one side, and takes the tables that the subscription lacks.
pub(crate) fn retry(sides: &Sides<'_>, run: &Run) -> Result<DdlReport> {
    sides.streaming()?;
    let mut report = empty(sides, run);
    if report.dry_run {
        let admin = sides.pair.publisher.admin();
        let left = record::unfinished(admin, sides.config, sides.dbname())?;
        let notes = left
            .iter()
            .map(|it| format!("would finish {}", shown(&it.statement)));
        report.notes = notes.collect();
        return Ok(report);
    }
    report.notes = settle::settle(sides, run)?.notes;
    let aside = keys::clear(sides, run)?;
    report.notes.extend(decide::retry(sides)?);
    sides.act_as(sides.owner())?;
    tables::close(sides, run)?;
    let all = tables::ordinary(&sides.open)?;
    let (tables, notes) = tables::take(sides, &all, run)?;
    report.tables = tables;
    report.notes.extend(notes);
    report.notes.extend(returned(sides, &aside)?);
    if leaves_unvalidated(sides.records().1)? {
        sides.copied()?;
        sides.validate()?;
        // What is still left has failed.
        report.notes.extend(decide::retry(sides)?);
    }
    if report.notes.is_empty() && report.tables.is_empty() {
        // Apply tries again by itself, too.
        report.notes.push("no statement waits any more".to_owned());
    }
    Ok(report)
}

/// Has the subscription take what the receiving side has been given since, closed as the rest is, and awaits its rows.
pub(crate) fn take_over(sides: &Sides<'_>, run: &Run) -> Result<(Vec<TableName>, Vec<String>)> {
    sides.streaming()?;
    sides.act_as(sides.owner())?;
    tables::close(sides, run)?;
    let aside = keys::clear(sides, run)?;
    let (tables, mut notes) = if is_there(sides.records().0)? {
        take_as_they_come(sides, run)?
    } else {
        let all = tables::ordinary(&sides.open)?;
        tables::take(sides, &all, run)?
    };
    sides.copied()?;
    notes.extend(returned(sides, &aside)?);
    sides.validate()?;
    Ok((tables, notes))
}

/// Foreign keys that were set aside are made again, when what they stood in the way of has been applied.
fn returned(sides: &Sides<'_>, aside: &Aside) -> Result<Option<String>> {
    if aside.keys.is_empty() {
        return Ok(None);
    }
    sides.copied()?;
    sides.catch_up()?;
    keys::give_back(sides, aside)?;
    let names: Vec<String> = aside.keys.iter().map(ForeignKey::to_string).collect();
    Ok(Some(format!(
        "{} taken away for TRUNCATE to pass, and made again",
        names.join(", ")
    )))
}

/// Has a carried statement skipped, or another run instead, on the receiving side.
pub(crate) fn decide(
    sides: &Sides<'_>,
    id: i64,
    decision: &Decision,
    run: &Run,
) -> Result<DdlReport> {
    let mut report = empty(sides, run);
    report.notes = if report.dry_run {
        vec![format!("would decide about statement {id}")]
    } else {
        decide::decide(sides, id, decision)?
    };
    report.decided = !report.dry_run;
    Ok(report)
}

/// How often it is tried while others go on making tables.
const TRIES: usize = 10;

/// Has the subscription take tables that carried statements have made, once they have come, and waits for their rows.
pub(crate) fn follow(sides: &Sides<'_>, run: &Run) -> Result<Vec<TableName>> {
    let published = publications::tables(sides.reader_of_open(), &sides.stream.pubname)?;
    let relations = subscriptions::relations(&sides.reader, &sides.stream.subname)?;
    if refresh::missing(&published, &relations).is_empty() {
        sides.validate()?;
        return Ok(Vec::new());
    }
    keys::clear_the_way(sides, run)?;
    Ok(take_as_they_come(sides, run)?.0)
}

/// Takes tables behind the carried statements that make them.
fn take_as_they_come(sides: &Sides<'_>, run: &Run) -> Result<(Vec<TableName>, Vec<String>)> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        sides.catch_up()?;
        let all = tables::ordinary(&sides.open)?;
        match tables::take(sides, &all, run) {
            // A table that was made behind what has arrived: its statement comes before the next row.
            Err(report)
                if tries > 0 && sqlstate_of(&report) == Some(&SqlState::UNDEFINED_TABLE) => {}
            taken => return taken,
        }
    }
}

/// Statements of `flare ddl` of which not both sides are known to have them.
pub(crate) fn half_done(pair: &Pair, config: &Config, dbname: &str) -> Result<Vec<String>> {
    let of = |server: &Server| record::unfinished(server.admin(), config, dbname);
    let (here, there) = at_once(|| of(&pair.publisher), || of(&pair.subscriber));
    let records = here?.into_iter().chain(there?);
    Ok(records.map(|it| shown(&it.statement)).collect())
}

/// The same, and carried ones, for whoever must not go on then: what stands on one side
/// alone would be on one server for good after a switch.
///
/// # Errors
/// When the record cannot be read.
pub(crate) fn unsettled(pair: &Pair, config: &Config, dbname: &str) -> Result<Vec<String>> {
    let mut found = half_done(pair, config, dbname)?;
    let (open, receiving) = pair.visit(dbname)?;
    let mut stuck = stuck_for_good(&open, &receiving)?;
    stuck.sort_by_key(|it| it.error.is_none());
    found.extend(stuck.iter().map(|it| it.in_words(dbname)));
    Ok(found)
}

/// The texts of carried statements that have not come to the receiving side, though they have had time to and none fails
/// there.
pub(crate) fn on_the_way(open: &Session, receiving: &Session) -> Result<Vec<String>> {
    let stuck = stuck_for_good(open, receiving)?;
    if stuck.iter().any(|it| it.error.is_some()) {
        return Ok(Vec::new());
    }
    Ok(stuck.into_iter().map(|it| it.statement).collect())
}
