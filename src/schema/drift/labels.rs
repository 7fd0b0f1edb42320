//! The values of an enum, in their order.

use super::{Drift, Kind};
use crate::value::Literal;

/// The labels that only the publisher has, each with its statement; `None` where the subscriber has others.
pub(super) fn enum_values(name: &str, ours: &str, theirs: &str) -> Option<Vec<Drift>> {
    let (ours, theirs) = (literals(ours), literals(theirs));
    let known: Vec<&String> = ours.iter().filter(|it| theirs.contains(it)).collect();
    if known != theirs.iter().collect::<Vec<_>>() {
        return None;
    }
    let added = ours
        .iter()
        .enumerate()
        .filter(|(_, it)| !theirs.contains(it));
    let drift = |(at, label): (usize, &String)| {
        let place = match at.checked_sub(1) {
            Some(before) => format!(" AFTER {}", Literal(&ours[before])),
            None => theirs
                .first()
                .map_or_else(String::new, |it| format!(" BEFORE {}", Literal(it))),
        };
        Drift {
            object: format!("{} of {name}", Literal(label)),
            kind: Kind::EnumValue,
            publisher: Some(label.clone()),
            subscriber: None,
            statement: Some(format!(
                "ALTER TYPE {name} ADD VALUE {}{place}",
                Literal(label)
            )),
            missing: true,
            advice: None,
        }
    };
    // Each stands after one that is there or was just added.
    let (first, rest): (Vec<_>, Vec<_>) = added.partition(|(at, _)| *at == 0);
    Some(first.into_iter().chain(rest).map(drift).collect())
}

/// The values of `'a', 'it''s'`, `E'..\\..'` included.
pub(super) fn literals(list: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = c == 'E' && chars.next_if_eq(&'\'').is_some();
        if !escaped && c != '\'' {
            continue;
        }
        let mut value = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.next_if_eq(&'\'').is_none() => break,
                '\\' if escaped => value.extend(chars.next()),
                c => value.push(c),
            }
        }
        values.push(value);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_they_are_written() {
        assert_eq!(
            literals(r"'a', 'it''s; ,', E'b\\c''d', ''"),
            ["a", "it's; ,", r"b\c'd", ""]
        );
    }

    #[test]
    fn values_are_added_where_the_publisher_has_them() {
        let statements = |ours: &str, theirs: &str| -> Option<Vec<String>> {
            let found = enum_values("app.e", ours, theirs)?;
            Some(found.into_iter().filter_map(|it| it.statement).collect())
        };
        assert_eq!(
            statements("'z', 'a', 'm', 'b'", "'a', 'b'").unwrap(),
            [
                "ALTER TYPE app.e ADD VALUE 'z' BEFORE 'a'",
                "ALTER TYPE app.e ADD VALUE 'm' AFTER 'a'"
            ]
        );
        assert_eq!(statements("'a', 'b'", "'b', 'a'"), None);
        assert_eq!(statements("'a'", "'a', 'b'"), None);
    }
}
