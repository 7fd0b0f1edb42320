//! What the subscriber's schema lacks of the publisher's: looked at, said, and loaded where it is only missing.

use std::fmt;

use postgres::error::SqlState;
use serde::Serialize;

use super::borrowed::Borrowed;
use super::{Change, Done, Mode, Run, not_valid};
use crate::catalog::objects;
use crate::catalog::roles::foreign_roles;
use crate::config::names_object;
use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::schema::drift::{self, Drift, Kind, Roles};
use crate::server::{Pair, Session, Side, is_contention, is_lost, sqlstate_of};
use crate::value::counted;

/// How many differences a message names.
const SHOWN: usize = 10;

/// The differences between the two databases of a pair. flare's own objects, and what the roles it works as were granted,
/// do not count.
pub(crate) fn look(pair: &Pair, dbname: &str) -> Result<Vec<Drift>> {
    let (from, to) = pair.visit(dbname)?;
    between(pair, &from, &to)
}

/// The same in sessions that are open.
pub(crate) fn between(pair: &Pair, from: &Session, to: &Session) -> Result<Vec<Drift>> {
    let compared = match drift::compare(from, to, &own_roles(pair)) {
        // "cache lookup failed": an object that was dropped while it was read.
        Err(report) if sqlstate_of(&report) == Some(&SqlState::INTERNAL_ERROR) => {
            drift::compare(from, to, &own_roles(pair))
        }
        compared => compared,
    };
    compared.wrap_err("compare the schemas")
}

/// Those that the application would meet, but for what the configuration names.
pub(crate) fn met<'d>(found: &'d [Drift], named: &[String]) -> Vec<&'d Drift> {
    let met = |it: &&Drift| it.matters() && !names_object(named, &it.object);
    found.iter().filter(met).collect()
}

/// Those, and the roles, settings and properties of the database that are not there: no switch waits for these.
pub(crate) fn noticed<'d>(found: &'d [Drift], named: &[String]) -> Vec<&'d Drift> {
    let noticed = |it: &&Drift| {
        (it.matters() || it.kind.is_beside_schemas()) && !names_object(named, &it.object)
    };
    found.iter().filter(noticed).collect()
}

pub(super) fn own_roles(pair: &Pair) -> Roles {
    Roles::of([pair.publisher.declared(), pair.subscriber.declared()])
}

/// Why a switch would leave something behind, when it would: differences that the application would meet, but for those
/// that the configuration names.
pub(crate) fn obstacle(
    pair: &Pair,
    dbname: &str,
    found: &[Drift],
    named: &[String],
) -> Option<Failure> {
    let left = met(found, named);
    if left.is_empty() {
        return None;
    }
    let (from, to) = (pair.publisher.side(), pair.subscriber.side());
    let shown: Vec<String> = left
        .iter()
        .take(SHOWN)
        .map(|it| it.in_words(from, to))
        .collect();
    let more = match left.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("; and {more} more"),
        _ => String::new(),
    };
    let hint = drift::made_by(left.iter().copied(), to, dbname).unwrap_or_else(|| {
        let statements = left.iter().filter_map(|it| it.statement.as_deref());
        let statements: Vec<&str> = statements.take(SHOWN).collect();
        let run = if statements.is_empty() {
            format!("make the {to}'s objects equal")
        } else {
            format!("{}: {}", drift::by_hand(to), statements.join("; "))
        };
        format!("{run}; or name what may differ in publications.{dbname}.leave_behind")
    });
    Some(
        Failure::new(format!(
            "the schema of {dbname:?} on the {to} is not the {from}'s: {}{more}",
            shown.join("; ")
        ))
        .hint(hint),
    )
}

/// What was loaded of what was only missing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MissingLoaded {
    /// The database.
    pub dbname: String,
    /// Whether anything was loaded.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// The statements, in the order in which they were run.
    pub statements: Vec<Done>,
    /// What still differs: not only missing, or not to be made by a statement that is known.
    pub differences: Vec<Drift>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Whether it is a constraint that is NOT VALID, and missing: PostgreSQL's own copy would hold every old row against it.
pub(crate) fn is_made_after_copy(it: &Drift) -> bool {
    let makes = it.statement.as_deref().unwrap_or_default();
    it.missing && it.kind == Kind::Constraint && makes.ends_with(" NOT VALID")
}

/// Makes what the subscriber's database only lacks, as one transaction; values of enums, which 10 and 11 add in none,
/// before that. While carried statements are `on_the_way`, only what rows may wait for and none of them makes.
pub(crate) fn load_missing(
    pair: &Pair,
    dbname: &str,
    on_the_way: &[String],
    run: &Run,
) -> Result<MissingLoaded> {
    let copying = not_valid::is_copying(&*pair.subscriber.visit(dbname)?)?;
    let made_again = not_valid::make_again(&pair.subscriber, dbname, run)?;
    let mut found = look(pair, dbname)?;
    let waits = |it: &Drift| copying && is_made_after_copy(it);
    let waiting = found.iter().any(waits);
    found.retain(|it| !waits(it));
    let before = found.len();
    found.retain(|it| on_the_way.is_empty() || holds_rows_up(it, on_the_way));
    let left = before - found.len();
    let (missing, differences): (Vec<Drift>, Vec<Drift>) = found
        .into_iter()
        .partition(|it| it.missing && it.statement.is_some() && it.kind != Kind::Role);
    let done = |drift: &Drift| Done {
        side: pair.subscriber.side(),
        dbname: dbname.to_owned(),
        what: format!("make {} {}", drift.kind.in_words(), drift.object),
        sql: drift.statement.clone().unwrap_or_default(),
    };
    let mut loaded = MissingLoaded {
        dbname: dbname.to_owned(),
        dry_run: run.mode == Mode::DryRun,
        changed: made_again.changed,
        statements: made_again
            .statements
            .into_iter()
            .chain(missing.iter().map(done))
            .collect(),
        differences,
        ..MissingLoaded::default()
    };
    if waiting {
        loaded.notes.push("constraints that are NOT VALID are made once every table is copied: run the command again then".into());
    }
    if left > 0 {
        loaded.notes.push(format!(
            "{} left for now, since {} yet to come: run the command again then",
            counted(left, "difference"),
            match on_the_way.len() {
                1 => "a carried statement is".to_owned(),
                count => format!("{count} carried statements are"),
            }
        ));
    }
    if loaded.differences.iter().any(|it| it.kind == Kind::Role) {
        loaded
            .notes
            .push("roles come with flare replicate_roles".into());
    }
    if missing.iter().any(|it| it.kind == Kind::Table) {
        loaded.notes.push("a table that is published is copied and followed once flare create_subscription has run again, or flare initial_copy while that is under way".into());
    }
    if run.mode == Mode::DryRun || missing.is_empty() {
        return Ok(loaded);
    }
    let session = pair.subscriber.visit(dbname)?;
    let (values, rest): (Vec<&Drift>, Vec<&Drift>) =
        missing.iter().partition(|it| it.kind == Kind::EnumValue);
    for value in values {
        let statement = value.statement.as_deref().unwrap_or_default();
        session
            .batch(statement)
            .wrap_err_with(|| done(value).what)?;
    }
    let owners = objects::named_roles(&*pair.publisher.visit(dbname)?)?.owners;
    let borrowed = Borrowed::of(&pair.subscriber, foreign_roles(&pair.subscriber, &owners)?)?;
    let in_order = run.ddl.retry(&session, || {
        session.batch(&format!(
            "BEGIN; SET LOCAL check_function_bodies = off; SET LOCAL lock_timeout = {}",
            run.ddl.lock_timeout.as_millis()
        ))?;
        for statement in borrowed.grants() {
            statement.run(&session)?;
        }
        let order = make(&session, &rest)?;
        for statement in borrowed.revokes() {
            statement.run(&session)?;
        }
        session.batch("COMMIT")?;
        Ok(order)
    })?;
    loaded
        .statements
        .retain(|it| !rest.iter().any(|drift| done(drift) == *it));
    loaded.statements.extend(in_order.into_iter().map(done));
    loaded.changed = true;
    Ok(loaded)
}

/// Whether apply may stop for want of it, and no statement that is on its way has its name, as that one would be in its way.
fn holds_rows_up(drift: &Drift, on_the_way: &[String]) -> bool {
    let name = drift.object.to_lowercase();
    let last = name.trim_end_matches('"').rsplit(['.', '"']).next();
    let named = |text: &String| last.is_none_or(|it| text.to_lowercase().contains(it));
    matches!(drift.kind, Kind::Table | Kind::Column) && !on_the_way.iter().any(named)
}

/// Runs the statements in an order in which each finds what it rests on: what fails is tried again after the others.
fn make<'d>(session: &Session, missing: &[&'d Drift]) -> Result<Vec<&'d Drift>> {
    let mut waiting: Vec<&Drift> = missing.to_vec();
    let mut made = Vec::new();
    while !waiting.is_empty() {
        let mut failed: Vec<(&Drift, Report)> = Vec::new();
        let tried = waiting.len();
        for drift in waiting {
            match attempt(session, drift)? {
                None => made.push(drift),
                Some(report) => failed.push((drift, report)),
            }
        }
        if failed.len() == tried {
            let (drift, report) = failed.swap_remove(0);
            return Err(report)
                .wrap_err_with(|| format!("make {} {}", drift.kind.in_words(), drift.object))
                .hint(|| {
                    "mend what the server says and run the command again: nothing was made".into()
                });
        }
        waiting = failed.into_iter().map(|(drift, _)| drift).collect();
    }
    Ok(made)
}

/// Runs one statement behind a savepoint; why it failed, when it did. A lock that is not to be had ends the whole try.
fn attempt(session: &Session, drift: &Drift) -> Result<Option<Report>> {
    let statement = drift.statement.as_deref().unwrap_or_default();
    match session.batch(&format!("SAVEPOINT one; {statement}")) {
        Ok(()) => session.batch("RELEASE SAVEPOINT one").map(|()| None),
        Err(report) if is_lost(&report) || sqlstate_of(&report).is_none_or(is_contention) => {
            Err(report)
        }
        Err(report) => session
            .batch("ROLLBACK TO SAVEPOINT one")
            .map(|()| Some(report)),
    }
}

impl fmt::Display for MissingLoaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = Change {
            changed: self.changed,
            dry_run: self.dry_run,
            statements: self.statements.clone(),
            notes: self.notes.clone(),
        };
        write!(f, "{change}")?;
        for drift in &self.differences {
            writeln!(
                f,
                "differs still: {}",
                drift.in_words(Side::Publisher, Side::Subscriber)
            )?;
            if let Some(statement) = &drift.statement {
                writeln!(f, "    {statement};")?;
            }
        }
        Ok(())
    }
}
