//! How a subscriber's schema has drifted from its publisher's, by the catalogs of both: no dump, no lock beyond
//! AccessShare, two statements a side. What spells differently from one version to another is the same.

mod access;
mod commands;
mod index;
mod inherited;
mod items;
mod kind;
mod labels;
mod mend;
mod objects;
mod order;
mod parts;
mod query;
mod renamed;
mod same;
mod settings;
mod short;
mod tables;
mod users;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub(crate) use self::commands::made_by;
pub use self::kind::Kind;
pub(crate) use self::kind::lost_by;
use self::mend::Mend;
use self::query::{Printing, Row};
use self::same::same;
use self::users::Users;
use crate::config::Host;
use crate::error::Result;
use crate::schema::keywords::names_of_10;
use crate::server::{Session, Side};

/// An object that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Its name, quoted as in SQL.
    pub object: String,
    /// What it is.
    pub kind: Kind,
    /// Its definition on the publisher; none where it is not there.
    pub publisher: Option<String>,
    /// Its definition on the subscriber; none where it is not there.
    pub subscriber: Option<String>,
    /// What makes the subscriber's equal, where that is known.
    pub statement: Option<String>,
    /// Whether the subscriber only lacks it: the statement adds, and changes nothing that is there.
    pub missing: bool,
    /// What to do where there is no statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Where a statement is typed by hand: a side that is closed has sessions that are read-only by default.
pub(crate) fn by_hand(on: Side) -> String {
    format!("on the {on} (after BEGIN READ WRITE while it is closed)")
}

impl Drift {
    /// Whether the server's description of an object is of this one, or of a part of it.
    fn is_described_by(&self, words: &str) -> bool {
        let column = self.object.rsplit_once('.');
        match column.filter(|_| self.kind == Kind::Column) {
            Some((table, column)) => words.contains(&format!("column {column} of table {table}")),
            None => words
                .split_once(&self.object)
                .is_some_and(|(before, after)| {
                    before.ends_with(' ') && after.chars().next().is_none_or(|c| c != '.')
                }),
        }
    }
}

/// Roles that are known by the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roles {
    /// Those that flare works as: what they were granted is not the user's schema.
    names: Vec<String>,
    /// The application's: they have to do with the database, though they may hold what PUBLIC does alone.
    applications: Vec<String>,
}

impl Roles {
    pub(crate) fn of(hosts: [&Host; 2]) -> Roles {
        let names = hosts.iter().flat_map(|host| {
            let repl = host.repl.as_ref().map(|it| it.user.clone());
            repl.into_iter().chain([host.superuser.user.clone()])
        });
        Roles {
            names: names.collect(),
            applications: hosts[0].app_users.clone(),
        }
    }
}

/// The differences between two databases, in the order in which they are mended.
pub(crate) fn compare(from: &Session, to: &Session, roles: &Roles) -> Result<Vec<Drift>> {
    settings::of_both_versions(differences(from, to, roles)?, from, to)
}

fn differences(from: &Session, to: &Session, roles: &Roles) -> Result<Vec<Drift>> {
    let (old, new) = (from.major()?, to.major()?);
    let older = old.min(new);
    let from = Printing::of(from, older, roles);
    let to = Printing::of(to, older, roles);
    let (ours, theirs) = at_once(|| from.fingerprints(), || to.fingerprints())?;
    let kinds: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let differ = |kind: &&String| ours.get(*kind) != theirs.get(*kind);
    let mut kinds: Vec<String> = kinds.into_iter().filter(differ).cloned().collect();
    // Their columns tell a table that was renamed.
    if kinds.iter().any(|kind| kind == "table") && !kinds.iter().any(|kind| kind == "column") {
        kinds.push("column".to_owned());
    }
    // And their parents what they have from there.
    let has = |kinds: &[String], kind: &str| kinds.iter().any(|it| it == kind);
    if (has(&kinds, "column") || has(&kinds, "constraint")) && !has(&kinds, "inheritance") {
        kinds.extend(["inheritance", "column", "constraint"].map(str::to_owned));
    }
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let target = Target::new(new);
    let (ours, theirs) = at_once(|| from.objects(&kinds), || to.objects(&kinds))?;
    let pairs = paired(ours, theirs);
    if !rests_count(&pairs, &target) {
        return Ok(drift(pairs, &target));
    }
    // What goes with an object that is made again, and what rests on it.
    let ((ours, theirs), users) = (
        at_once(|| from.objects(&[]), || to.objects(&[]))?,
        to.users()?,
    );
    Ok(drift(paired(ours, theirs), &Target { users, ..target }))
}

/// The server on which the statements are to be run.
#[derive(Debug, Default)]
struct Target {
    version: i32,
    users: Users,
}

impl Target {
    fn new(version: i32) -> Self {
        Target {
            version,
            users: Users::new(),
        }
    }

    /// `view app.v rests on it`, if anything does.
    fn users_of(&self, kind: Kind, name: &str) -> Option<String> {
        let users = self.users.get(&(kind, name.to_owned()))?;
        let verb = if users.len() == 1 { "rests" } else { "rest" };
        Some(format!("{} {verb} on it", users::in_words(users)))
    }
}

/// Both answers, or the first error.
fn at_once<T: Send>(
    one: impl FnOnce() -> Result<T> + Send,
    other: impl FnOnce() -> Result<T>,
) -> Result<(T, T)> {
    let (other, one) = crate::server::at_once(other, one);
    Ok((one?, other?))
}

impl Row {
    /// Both sides name an object alike, whichever words they quote; what is to be run stays as its server spells it.
    fn named_as_by_10(mut self) -> Row {
        self.name = names_of_10(&self.name);
        self.parent = self.parent.as_deref().map(names_of_10);
        self
    }
}

/// An object, and what it is on each side.
#[derive(Clone, Debug, Default)]
struct Sides {
    publisher: Option<Row>,
    subscriber: Option<Row>,
}

impl Sides {
    fn parent(&self) -> Option<&str> {
        let row = self.publisher.as_ref().or(self.subscriber.as_ref())?;
        row.parent.as_deref()
    }
}

type Pairs = BTreeMap<(Kind, String), Sides>;

/// Both sides' rows, by kind and name.
fn paired(publisher: Vec<(Kind, Row)>, subscriber: Vec<(Kind, Row)>) -> Pairs {
    let mut pairs = Pairs::new();
    for (kind, row) in publisher {
        let row = row.named_as_by_10();
        let sides = pairs.entry((kind, row.name.clone())).or_default();
        sides.publisher = Some(row);
    }
    for (kind, row) in subscriber {
        let row = row.named_as_by_10();
        let sides = pairs.entry((kind, row.name.clone())).or_default();
        sides.subscriber = Some(row);
    }
    pairs
}

/// How each object that is on both sides and differs is mended.
fn mends<'p>(
    pairs: &'p Pairs,
    target: &'p Target,
) -> impl Iterator<Item = (&'p (Kind, String), &'p Row, Mend)> {
    pairs.iter().filter_map(|(key, sides)| {
        let (ours, theirs) = sides.publisher.as_ref().zip(sides.subscriber.as_ref())?;
        let differs = key.0 != Kind::Role
            && !key.0.is_beside_schemas()
            && !same(key.0, &ours.body, &theirs.body);
        differs.then(|| (key, theirs, Mend::of(key.0, ours, theirs, target.version)))
    })
}

/// Whether a mend depends on what rests on the object. Functions that are named anew are no pair yet.
fn rests_count(pairs: &Pairs, target: &Target) -> bool {
    let mut mends = mends(pairs, target);
    let one_sided = |kind: Kind, side: fn(&Sides) -> bool| {
        let mut pairs = pairs.iter();
        pairs.any(|((it, _), sides)| *it == kind && side(sides))
    };
    let extra = pairs
        .iter()
        .filter(|((kind, _), it)| it.publisher.is_none() && !kind.is_beside_schemas())
        .count();
    extra > 1
        || mends.any(|(.., mend)| matches!(mend, Mend::Unused(_) | Mend::Anew))
        || one_sided(Kind::Function, |sides| sides.publisher.is_none())
            && one_sided(Kind::Function, |sides| sides.subscriber.is_none())
}

/// The objects that are removed and made again, and those that go with them. One whose name others have too is
/// made again alone: what belongs to which of them is not known by the name.
fn again(pairs: &Pairs, target: &Target) -> BTreeSet<String> {
    let alone = |name: &String| {
        let alike = |(kind, other): &&(Kind, String)| kind.is_an_object() && other == name;
        pairs.keys().filter(alike).count() == 1
    };
    let anew = mends(pairs, target).filter(|(.., mend)| matches!(mend, Mend::Anew));
    let unused =
        anew.filter(|((kind, _), theirs, _)| target.users_of(*kind, &theirs.name).is_none());
    let mut again: BTreeSet<String> = unused
        .map(|((_, name), ..)| name.clone())
        .filter(alone)
        .collect();
    loop {
        let more: Vec<String> = pairs
            .iter()
            .filter(|((kind, name), sides)| {
                let goes_with = sides.parent().is_some_and(|it| again.contains(it));
                kind.is_an_object() && goes_with && !again.contains(name)
            })
            .map(|((_, name), _)| name.clone())
            .collect();
        if more.is_empty() {
            return again;
        }
        again.extend(more);
    }
}

/// The differences between both sides' rows: pure.
fn drift(mut pairs: Pairs, target: &Target) -> Vec<Drift> {
    index::without_those_that_do_not_count(&mut pairs);
    inherited::fill(&mut pairs);
    let mut found = renamed::take(&mut pairs);
    found.extend(index::attached_on_one_side(&mut pairs));
    let gone = |pairs: &Pairs, side: fn(&Sides) -> bool| -> BTreeSet<String> {
        let one_sided = pairs.iter().filter(|(_, sides)| side(sides));
        let named = one_sided.filter(|((kind, _), _)| kind.is_an_object());
        named.map(|((_, name), _)| name.clone()).collect()
    };
    let mut lacking = gone(&pairs, |sides| sides.subscriber.is_none());
    lacking.extend(again(&pairs, target));
    let extra = gone(&pairs, |sides| sides.publisher.is_none());
    // What goes with an object that is not there is made together with it.
    let mut with: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((kind, _), sides) in &pairs {
        let top = topmost(&pairs, sides.parent(), &lacking);
        let Some((top, publisher)) = top.zip(sides.publisher.as_ref()) else {
            continue;
        };
        // A child is made as one of its parents; a partition is attached.
        let is_child = *kind == Kind::Inheritance && publisher.body.parse::<u32>().is_ok();
        if !kind.is_part_of_creation() && !is_child {
            with.entry(top).or_default().extend(publisher.make.clone());
        }
    }
    for ((kind, name), sides) in &pairs {
        let parent = sides.parent().map(str::to_owned);
        let goes_with = |of: &BTreeSet<String>| parent.as_ref().is_some_and(|it| of.contains(it));
        if goes_with(&lacking) || goes_with(&extra) && sides.publisher.is_none() {
            continue;
        }
        let also = with.remove(name).filter(|_| kind.is_an_object());
        found.extend(kind.difference(name, sides, also.unwrap_or_default(), target));
    }
    with_their_tables(&mut found);
    with_their_types(&mut found);
    order::ordered(found, target)
}

/// The default goes with the column's type: its statement takes it off and sets it again.
fn with_their_types(found: &mut Vec<Drift>) {
    let retyped: BTreeSet<String> = found
        .iter()
        .filter(|it| it.kind == Kind::Column)
        .filter(|it| {
            let texts = [&it.statement, &it.advice].into_iter().flatten();
            let mut texts = texts.map(|text| text.contains(" DROP DEFAULT, ALTER COLUMN "));
            texts.any(|it| it)
        })
        .map(|it| it.object.clone())
        .collect();
    found.retain(|it| it.kind != Kind::Default || !retyped.contains(&it.object));
}

/// Partitions are attached to a table that is partitioned as theirs is.
fn with_their_tables(found: &mut [Drift]) {
    let tables: Vec<String> = found
        .iter()
        .filter(|it| it.kind == Kind::Table && it.advice.is_some())
        .map(|it| format!(" from {}", it.object))
        .collect();
    for it in found.iter_mut().filter(|it| it.kind == Kind::Inheritance) {
        if tables.iter().any(|table| it.object.ends_with(table)) {
            it.statement = None;
            it.advice = Some("its parent differs itself: that first".to_owned());
        }
    }
}

/// The outermost of the objects that are not there which something belongs to.
fn topmost(pairs: &Pairs, parent: Option<&str>, lacking: &BTreeSet<String>) -> Option<String> {
    let mut top = parent
        .filter(|parent| lacking.contains(*parent))?
        .to_owned();
    loop {
        let next = pairs
            .iter()
            .find(|((kind, name), _)| kind.is_an_object() && *name == top)
            .and_then(|(_, sides)| sides.parent())
            .filter(|parent| lacking.contains(*parent));
        match next {
            Some(next) => top = next.to_owned(),
            None => return Some(top),
        }
    }
}
