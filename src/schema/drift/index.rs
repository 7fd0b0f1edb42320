//! Indexes: which count, and those of partitions, which are told by whose they are and not by their names.

use std::collections::BTreeSet;

use super::mend::Mend;
use super::{Drift, Kind, Pairs, Row, Sides};

/// An index that is not valid is none; on the subscriber it is in the way of the publisher's of its name.
pub(super) fn without_those_that_do_not_count(pairs: &mut Pairs) {
    let counts = |row: &Row| !row.body.ends_with(" (not valid)");
    pairs.retain(|(kind, _), sides| {
        if *kind == Kind::Index {
            sides.publisher = sides.publisher.take().filter(counts);
            if sides.publisher.is_none() {
                sides.subscriber = sides.subscriber.take().filter(counts);
            }
        }
        sides.publisher.is_some() || sides.subscriber.is_some()
    });
}

/// One of a partition gets the publisher's name and options. The body is `name`, or `name WITH (options)`; `away` resets
/// all options.
pub(super) fn of_partition(ours: &Row, theirs: &Row) -> Mend {
    let parts = |row: &Row| match row.body.split_once(" WITH (") {
        Some((name, options)) => (
            name.to_owned(),
            options.strip_suffix(')').map(str::to_owned),
        ),
        None => (row.body.clone(), None),
    };
    let ((name, options), (there, their_options)) = (parts(ours), parts(theirs));
    let schema = ours.fixed.as_deref().unwrap_or_default();
    let mut statements = Vec::new();
    if name != there {
        statements.push(format!("ALTER INDEX {schema}.{there} RENAME TO {name}"));
    }
    if options != their_options {
        statements.extend(theirs.away.as_ref().map(|reset| {
            let given = reset.rfind(" RESET (").map_or("", |at| &reset[at..]);
            format!("ALTER INDEX {schema}.{name}{given}")
        }));
        let given = options.map(|it| format!("ALTER INDEX {schema}.{name} SET ({it})"));
        statements.extend(given);
    }
    Mend::Run {
        statement: statements.join("; "),
        adds: false,
    }
}

/// Takes out of the pairs what is a part of an index on one side only. It comes and goes with its partition, and with the
/// index; else it is attached by a statement, and no statement detaches it.
pub(super) fn attached_on_one_side(pairs: &mut Pairs) -> Vec<Drift> {
    let apart = partitions_of_one_side(pairs);
    let is_one_sided = |sides: &Sides| sides.publisher.is_none() || sides.subscriber.is_none();
    let parts = pairs
        .iter()
        .filter(|((kind, _), sides)| *kind == Kind::PartitionIndex && is_one_sided(sides));
    let parts: Vec<String> = parts.map(|((_, name), _)| name.clone()).collect();
    let mut found: Vec<Drift> = Vec::new();
    let mut detached: BTreeSet<String> = BTreeSet::new();
    for name in parts {
        let Some(sides) = pairs.remove(&(Kind::PartitionIndex, name.clone())) else {
            continue;
        };
        let whole = sides.parent().unwrap_or_default();
        let whole_is_one_sided = [Kind::Index, Kind::Constraint].iter().any(|kind| {
            let whole = pairs.get(&(*kind, whole.to_owned()));
            whole.is_some_and(is_one_sided)
        });
        if whole_is_one_sided || apart.iter().any(|it| name.ends_with(it)) {
            continue;
        }
        let (statement, advice) = match (&sides.publisher, &sides.subscriber) {
            (Some(ours), _) => (attaching(pairs, ours), BY_CONSTRAINT),
            (None, Some(theirs)) if detached.insert(whole.to_owned()) => {
                (detaching(pairs, whole, theirs), BY_CONSTRAINT)
            }
            _ => (
                None,
                "the statement that detaches another part of this index detaches this one, too",
            ),
        };
        let body = |row: &Option<Row>| row.as_ref().map(|it| it.body.clone());
        found.push(Drift {
            kind: Kind::PartitionIndex,
            publisher: body(&sides.publisher),
            subscriber: body(&sides.subscriber),
            missing: sides.subscriber.is_none(),
            advice: statement.is_none().then(|| advice.to_owned()),
            statement,
            object: name,
        });
    }
    found
}

const BY_CONSTRAINT: &str = "the index is a constraint's: what belongs to it is attached, or not, when the constraint is made";

/// ` on app.p1` of each partition that one side does not have, or has not attached, and of those below.
fn partitions_of_one_side(pairs: &Pairs) -> BTreeSet<String> {
    let one_sided = |of: Kind| {
        let of_kind = pairs.iter().filter(move |((kind, _), _)| *kind == of);
        let one_sided =
            of_kind.filter(|(_, sides)| sides.publisher.is_none() || sides.subscriber.is_none());
        one_sided.map(|((_, name), sides)| (name, sides))
    };
    let child = |sides: &Sides| sides.parent().unwrap_or_default().to_owned();
    let mut apart: BTreeSet<String> = one_sided(Kind::Table)
        .map(|(name, _)| name.clone())
        .collect();
    apart.extend(one_sided(Kind::Inheritance).map(|(_, sides)| child(sides)));
    loop {
        let of_these = pairs.iter().filter(|((kind, name), sides)| {
            let parent = name.strip_prefix(&format!("{} from ", child(sides)));
            *kind == Kind::Inheritance && parent.is_some_and(|it| apart.contains(it))
        });
        let below: Vec<String> = of_these.map(|(_, sides)| child(sides)).collect();
        let before = apart.len();
        apart.extend(below);
        if apart.len() == before {
            return apart.iter().map(|it| format!(" on {it}")).collect();
        }
    }
}

/// What makes it a part: of an index that the subscriber has by itself, or of a new one.
fn attaching(pairs: &mut Pairs, ours: &Row) -> Option<String> {
    let (made, attached) = ours.make.as_deref()?.rsplit_once("; ALTER INDEX ")?;
    let part = attached.rsplit_once(" ATTACH PARTITION ")?.1;
    let by_itself = (Kind::Index, part.to_owned());
    let is_there = |sides: &Sides| {
        let theirs = sides.subscriber.as_ref();
        sides.publisher.is_none() && theirs.is_some_and(|it| it.body == made)
    };
    if !pairs.get(&by_itself).is_some_and(is_there) {
        return ours.make.clone();
    }
    pairs.remove(&by_itself);
    Some(format!("ALTER INDEX {attached}"))
}

/// The whole index is made again, with the parts that the publisher's has.
fn detaching(pairs: &Pairs, whole: &str, theirs: &Row) -> Option<String> {
    let again = theirs.mend.clone()?;
    let parts = pairs.iter().filter(|((kind, _), sides)| {
        *kind == Kind::PartitionIndex && sides.parent() == Some(whole)
    });
    let parts = parts.filter_map(|(_, sides)| sides.publisher.as_ref()?.make.clone());
    let statements: Vec<String> = std::iter::once(again).chain(parts).collect();
    Some(statements.join("; "))
}
