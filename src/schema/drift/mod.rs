//! How a subscriber's schema has drifted from its publisher's, by the catalogs of both: no dump, no lock beyond
//! AccessShare, two statements a side. What spells differently from one version to another is the same.

mod access;
mod inherited;
mod kind;
mod objects;
mod query;
mod renamed;
mod same;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use self::kind::Kind;
pub(crate) use self::kind::lost_by;
use self::query::{Printing, Row};
use self::same::same;
use crate::error::Result;
use crate::schema::keywords::names_of_10;
use crate::server::Session;

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
}

impl Drift {
    /// Whether it is about what is granted on the database itself, which is compared with its other properties.
    pub(crate) fn is_of_grants_on_database(&self) -> bool {
        self.kind == Kind::Grants && self.object.starts_with("DATABASE ")
    }
}

/// The roles that flare works as: what they were granted is not the user's schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roles {
    pub(crate) names: Vec<String>,
}

/// The differences between two databases, in the order in which they are mended.
pub(crate) fn compare(from: &Session, to: &Session, roles: &Roles) -> Result<Vec<Drift>> {
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
    let found = if kinds.is_empty() {
        Vec::new()
    } else {
        let (ours, theirs) = at_once(|| from.objects(&kinds), || to.objects(&kinds))?;
        drift(ours, theirs)
    };
    Ok(found)
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

/// The differences between both sides' rows: pure.
fn drift(publisher: Vec<(Kind, Row)>, subscriber: Vec<(Kind, Row)>) -> Vec<Drift> {
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
    inherited::fill(&mut pairs);
    let mut found = renamed::take(&mut pairs);
    let gone = |pairs: &Pairs, side: fn(&Sides) -> bool| -> BTreeSet<String> {
        let one_sided = pairs.iter().filter(|(_, sides)| side(sides));
        let named = one_sided.filter(|((kind, _), _)| kind.is_an_object());
        named.map(|((_, name), _)| name.clone()).collect()
    };
    let lacking = gone(&pairs, |sides| sides.subscriber.is_none());
    let extra = gone(&pairs, |sides| sides.publisher.is_none());
    // What goes with an object that is not there is made together with it.
    let mut with: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((kind, _), sides) in &pairs {
        let top = topmost(&pairs, sides.parent(), &lacking);
        let Some((top, publisher)) = top.zip(sides.publisher.as_ref()) else {
            continue;
        };
        if !kind.is_part_of_creation() {
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
        found.extend(kind.difference(name, sides, also.unwrap_or_default()));
    }
    found.sort_by(|one, other| (one.kind, &one.object).cmp(&(other.kind, &other.object)));
    found
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
