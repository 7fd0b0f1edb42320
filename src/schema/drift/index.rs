//! Indexes: which count, and those of partitions, which are told by whose they are and not by their names.

use super::mend::Mend;
use super::{Kind, Pairs, Row};

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
