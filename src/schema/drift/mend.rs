//! How an object that is on both sides becomes the publisher's.

use super::items::{items, named};
use super::kind::holds_all_of;
use super::labels::{enum_values, literals};
use super::{Drift, Kind, Row, index};
use crate::value::Literal;

/// What mends a difference.
pub(super) enum Mend {
    /// A statement changes the object. It only adds something, or not.
    Run { statement: String, adds: bool },
    /// The same, unless something rests on the object.
    Unused(String),
    /// It is removed and made again, with what goes with it, unless something rests on it.
    Anew,
    /// Differences of their own.
    Each(Vec<Drift>),
    /// No statement does, and why.
    Never(&'static str),
}

impl Mend {
    fn run(statement: impl Into<String>) -> Mend {
        Mend::Run {
            statement: statement.into(),
            adds: false,
        }
    }

    /// What mends `theirs`, on a server of version `target`.
    pub(super) fn of(kind: Kind, ours: &Row, theirs: &Row, target: i32) -> Mend {
        match kind {
            Kind::Enum => labels(ours, theirs),
            Kind::CompositeType => attributes(ours, theirs),
            Kind::Column => column(ours, theirs, target),
            Kind::Options => options(ours, theirs),
            Kind::PartitionIndex => index::of_partition(ours, theirs),
            Kind::ForeignOptions => foreign_options(ours, theirs),
            Kind::Sequence => sequence(ours, theirs),
            Kind::TextSearch if ours.name.starts_with("dictionary ") => dictionary(ours, theirs),
            Kind::Constraint if is_validated(&ours.body, &theirs.body) => validation(theirs),
            Kind::Grants | Kind::DefaultPrivileges => {
                match ours.mend.as_ref().or(ours.make.as_ref()) {
                    Some(statement) => Mend::Run {
                        statement: statement.clone(),
                        adds: holds_all_of(&ours.body, &theirs.body),
                    },
                    None => Mend::Never(NONE),
                }
            }
            Kind::ColumnOrder => Mend::Never(
                "columns keep the order in which they were made; rows are carried by name: only SELECT * and INSERT without a list of columns see the order",
            ),
            Kind::Table if !both(ours, theirs, "foreign table") && !is_changeable(ours, theirs) => {
                Mend::Never("a table becomes that only by being made, and copied, anew")
            }
            Kind::BaseType => Mend::Never(
                "a type written in C is not described by the catalogs: install it as on the publisher",
            ),
            // OR REPLACE of an aggregate is 12's.
            Kind::Aggregate if target < 12 => anew(ours, theirs),
            _ => match &ours.mend {
                Some(statement) if is_changeable(ours, theirs) => Mend::run(statement),
                _ => anew(ours, theirs),
            },
        }
    }
}

const NONE: &str = "PostgreSQL has no statement that changes it";

fn anew(ours: &Row, theirs: &Row) -> Mend {
    if ours.make.is_some() && theirs.away.is_some() {
        Mend::Anew
    } else {
        Mend::Never(NONE)
    }
}

/// Whether `mend` can change everything that differs: what it cannot is the same, or goes on as a view's columns may.
fn is_changeable(ours: &Row, theirs: &Row) -> bool {
    let [ours, theirs] = [ours, theirs].map(|it| it.fixed.as_deref().unwrap_or_default());
    ours.starts_with(theirs)
}

fn both(ours: &Row, theirs: &Row, head: &str) -> bool {
    ours.body.starts_with(head) && theirs.body.starts_with(head)
}

/// The object's name as its server quotes it: behind the words of the statement that removes it.
fn behind<'r>(row: &'r Row, words: &str) -> &'r str {
    let away = row.away.as_deref().unwrap_or_default();
    away.strip_prefix(words).unwrap_or(&row.name)
}

/// Values are added and get other names; none is taken out or moved.
fn labels(ours: &Row, theirs: &Row) -> Mend {
    if let Some(values) = enum_values(&ours.name, &ours.body, &theirs.body) {
        return Mend::Each(values);
    }
    let name = behind(theirs, "DROP TYPE ");
    let (ours_has, theirs_has) = (literals(&ours.body), literals(&theirs.body));
    let pairs: Vec<(&String, &String)> = ours_has
        .iter()
        .zip(&theirs_has)
        .filter(|(one, other)| one != other)
        .collect();
    let renamed = ours_has.len() == theirs_has.len()
        && pairs
            .iter()
            .all(|(one, other)| !theirs_has.contains(one) && !ours_has.contains(other));
    if !renamed {
        return anew(ours, theirs);
    }
    let statements = pairs.iter().map(|(one, other)| {
        format!(
            "ALTER TYPE {name} RENAME VALUE {} TO {}",
            Literal(other),
            Literal(one)
        )
    });
    Mend::run(statements.collect::<Vec<_>>().join("; "))
}

/// Attributes are added at the end, dropped and renamed, also where columns are of the type; CASCADE takes the tables along
/// that are made of it.
fn attributes(ours: &Row, theirs: &Row) -> Mend {
    let name = behind(theirs, "DROP TYPE ");
    let (wanted, there) = (items(&ours.body), items(&theirs.body));
    let renamed = wanted.len() == there.len()
        && wanted
            .iter()
            .zip(&there)
            .all(|(one, other)| named(one).1 == named(other).1);
    let new_name = |one: &&str, list: &[&str]| list.iter().all(|it| named(it).0 != named(one).0);
    let change = |words: String| format!("ALTER TYPE {name} {words} CASCADE");
    let statements: Vec<String> = if renamed {
        let pairs = wanted
            .iter()
            .zip(&there)
            .filter(|(one, other)| one != other);
        let pairs: Vec<_> = pairs.collect();
        if !pairs
            .iter()
            .all(|(one, other)| new_name(one, &there) && new_name(other, &wanted))
        {
            return anew(ours, theirs);
        }
        let renaming = |(one, other): (&&str, &&str)| {
            change(format!(
                "RENAME ATTRIBUTE {} TO {}",
                named(other).0,
                named(one).0
            ))
        };
        pairs.into_iter().map(renaming).collect()
    } else {
        let (kept, dropped): (Vec<&str>, Vec<&str>) =
            there.iter().partition(|it| wanted.contains(it));
        if !wanted.starts_with(&kept) {
            return anew(ours, theirs);
        }
        let added = wanted[kept.len()..].iter();
        let dropping = |it: &&str| change(format!("DROP ATTRIBUTE {}", named(it).0));
        dropped
            .iter()
            .map(dropping)
            .chain(added.map(|it| change(format!("ADD ATTRIBUTE {it}"))))
            .collect()
    };
    Mend::run(statements.join("; "))
}

/// Storage parameters that only the subscriber has are taken away.
fn options(ours: &Row, theirs: &Row) -> Mend {
    let names = |row: &Row| -> Vec<String> {
        let list = items(&row.body).into_iter();
        list.map(|it| it.split('=').next().unwrap_or(it).to_owned())
            .collect()
    };
    let wanted = names(ours);
    let Some(set) = &ours.mend else {
        return Mend::Never(NONE);
    };
    match &theirs.away {
        Some(reset) if names(theirs).iter().any(|it| !wanted.contains(it)) => {
            Mend::run(format!("{reset}; {set}"))
        }
        _ => Mend::run(set),
    }
}

/// `ALTER SERVER s` with `OPTIONS (ADD .., SET .., DROP ..)`.
fn foreign_options(ours: &Row, theirs: &Row) -> Mend {
    let Some(head) = &ours.mend else {
        return Mend::Never(NONE);
    };
    let (wanted, there) = (items(&ours.body), items(&theirs.body));
    let has = |list: &[&str], one: &str| list.iter().any(|it| named(it).0 == named(one).0);
    let given = wanted.iter().filter(|it| !there.contains(it)).map(|it| {
        let verb = if has(&there, it) { "SET" } else { "ADD" };
        format!("{verb} {it}")
    });
    let gone = there
        .iter()
        .filter(|it| !has(&wanted, it))
        .map(|it| format!("DROP {}", named(it).0));
    let changes: Vec<String> = given.chain(gone).collect();
    Mend::run(format!("{head} OPTIONS ({})", changes.join(", ")))
}

/// An option without a value is taken away.
fn dictionary(ours: &Row, theirs: &Row) -> Mend {
    let (Some(head), true) = (&ours.mend, is_changeable(ours, theirs)) else {
        return anew(ours, theirs);
    };
    let (wanted, there) = (items(&ours.body), items(&theirs.body));
    let gone = there
        .iter()
        .skip(1)
        .map(|it| named(it).0)
        .filter(|name| wanted.iter().skip(1).all(|it| named(it).0 != *name));
    let changes: Vec<&str> = wanted.iter().skip(1).copied().chain(gone).collect();
    Mend::run(format!("{head} ({})", changes.join(", ")))
}

fn sequence(ours: &Row, theirs: &Row) -> Mend {
    let Some(mend) = &ours.mend else {
        return Mend::Never(NONE);
    };
    let is_unlogged = |row: &Row| row.body.starts_with("UNLOGGED ");
    let logged = match (is_unlogged(ours), is_unlogged(theirs)) {
        (true, false) => "UNLOGGED",
        (false, true) => "LOGGED",
        _ => return Mend::run(mend),
    };
    let name = mend.strip_prefix("ALTER SEQUENCE ").unwrap_or_default();
    let name = name.rfind(" AS ").map_or(name, |at| &name[..at]);
    Mend::run(format!("{mend}; ALTER SEQUENCE {name} SET {logged}"))
}

/// The constraint differs only in that the publisher has validated it.
fn is_validated(ours: &str, theirs: &str) -> bool {
    theirs.strip_suffix(" NOT VALID") == Some(ours)
}

/// `ALTER TABLE t VALIDATE CONSTRAINT c` of `ALTER TABLE t DROP CONSTRAINT c`.
fn validation(theirs: &Row) -> Mend {
    let away = theirs.away.as_deref().unwrap_or_default();
    Mend::run(away.replacen(" DROP CONSTRAINT ", " VALIDATE CONSTRAINT ", 1))
}

/// A column's type, and whether it is an identity or generated.
fn column(ours: &Row, theirs: &Row, target: i32) -> Mend {
    let (Some(mend), Some(away)) = (&ours.mend, &theirs.away) else {
        return Mend::Never(NONE);
    };
    let made = |row: &Row| row.fixed.clone().unwrap_or_default();
    let (wanted, there) = (made(ours), made(theirs));
    let type_of = |row: &Row, made: &str| {
        let body = row.body.strip_suffix(made).unwrap_or(&row.body);
        body.trim_end().to_owned()
    };
    let retyped = type_of(ours, &wanted) != type_of(theirs, &there);
    let is_identity = |made: &str| made.ends_with("AS IDENTITY");
    let is_generated = |made: &str| !made.is_empty() && !is_identity(made);
    // `ALTER TABLE t DROP COLUMN c`: whatever is done is done to that column.
    let alter = away.replacen(" DROP COLUMN ", " ALTER COLUMN ", 1);
    let mut statements = Vec::new();
    if wanted != there {
        if is_generated(&wanted) {
            let expression = wanted.strip_prefix("GENERATED ALWAYS AS ");
            let stored = |made: &str| made.ends_with(" STORED");
            let expression = expression.map(|it| it.strip_suffix(" STORED").unwrap_or(it));
            return match expression {
                Some(expression)
                    if target >= 17
                        && !retyped
                        && is_generated(&there)
                        && stored(&wanted) == stored(&there) =>
                {
                    Mend::run(format!("{alter} SET EXPRESSION AS {expression}"))
                }
                _ => Mend::Never(
                    "a column becomes generated, or gets another expression before 17, only by DROP COLUMN and ADD COLUMN, which put it last",
                ),
            };
        }
        match (is_identity(&wanted), is_identity(&there)) {
            (true, true) => {
                let words = wanted.strip_suffix(" AS IDENTITY").unwrap_or(&wanted);
                statements.push(format!("{alter} SET {words}"));
            }
            (true, false) if there.is_empty() => {
                let add = ours.make.as_deref().unwrap_or_default();
                let add = add.rfind(&wanted).map_or(wanted.as_str(), |at| &add[at..]);
                let add = add.strip_suffix(" NOT NULL").unwrap_or(add);
                statements.push(format!("{alter} DROP DEFAULT"));
                statements.push(format!("{alter} SET NOT NULL"));
                statements.push(format!("{alter} ADD {add}"));
            }
            (false, true) => statements.push(format!("{alter} DROP IDENTITY")),
            _ if there.ends_with(" STORED") && target >= 13 => {
                statements.push(format!("{alter} DROP EXPRESSION"));
                if is_identity(&wanted) {
                    return Mend::Never(
                        "a generated column becomes an identity in two steps: DROP EXPRESSION, and what verify_schema shows then",
                    );
                }
            }
            _ => {
                return Mend::Never(
                    "this server makes a plain column of a generated one only by DROP COLUMN and ADD COLUMN, which put it last and lose its values",
                );
            }
        }
    }
    if !retyped {
        return Mend::run(statements.join("; "));
    }
    statements.push(mend.clone());
    Mend::Unused(statements.join("; "))
}
