//! What pg_dump prints of both sides, beside what the catalogs have named: each object is named once.

use std::collections::BTreeSet;

use super::{SchemaDifference, of_drift};
use crate::replicate::schema::Shadowed;
use crate::schema::Difference;

/// Both comparisons see most differences; what the catalogs have named has its statement, and is named once.
pub(super) fn of_shadow(shadowed: Shadowed) -> Vec<SchemaDifference> {
    let Shadowed { drift, printed } = shadowed;
    let known: Vec<SchemaDifference> = drift.iter().cloned().map(of_drift).collect();
    // The order of columns is compared between the databases themselves.
    let not_by_dumps = drift.into_iter().filter(|it| !it.is_changed_by_dumps());
    let mut differences: Vec<SchemaDifference> = not_by_dumps.map(of_drift).collect();
    let parts = parts_of_known_indexes(&printed, &known);
    for Difference {
        kind,
        object,
        publisher,
        subscriber,
    } in printed
    {
        let texts: Vec<&String> = [&publisher, &subscriber].into_iter().flatten().collect();
        let flares_own = texts
            .iter()
            .all(|text| text.contains("FUNCTION flare.") || text.contains("PROCEDURE flare."));
        let is_part = part_named(&kind, &object).is_some_and(|it| parts.contains(&it));
        if flares_own || is_part || known.iter().any(|it| is_about(it, &object, &texts)) {
            continue;
        }
        let name = object.strip_prefix(&kind).unwrap_or(&object).trim();
        let statement = match (&publisher, &subscriber) {
            (Some(printed), None) => runnable(printed),
            _ => None,
        };
        differences.push(SchemaDifference {
            object: name.to_owned(),
            kind: kind.to_lowercase(),
            advice: statement.is_none().then(|| PRINTED.to_owned()),
            publisher,
            subscriber,
            statement,
        });
    }
    differences
}

/// What to do about what pg_dump alone prints.
const PRINTED: &str = "no statement is known for it: take away what the side that follows has and run what the other's says";

/// What pg_dump prints of what the subscriber only lacks is what makes it. Who grants goes back to who runs it.
fn runnable(printed: &str) -> Option<String> {
    let printed = printed.trim().trim_end_matches(';');
    let reset = if printed.starts_with("SET SESSION AUTHORIZATION") {
        ";\nRESET SESSION AUTHORIZATION"
    } else {
        ""
    };
    (!printed.is_empty()).then(|| format!("{printed}{reset}"))
}

/// The indexes of partitions that come and go with an index, or a constraint, that is named already.
fn parts_of_known_indexes(printed: &[Difference], known: &[SchemaDifference]) -> BTreeSet<String> {
    let bare = |text: &str| text.replace('"', "");
    let whole: BTreeSet<String> = known
        .iter()
        .filter_map(|it| match it.kind.as_str() {
            "index" => Some(bare(&it.object)),
            "constraint" => {
                let (name, table) = it.object.split_once(" on ")?;
                let (schema, _) = table.split_once('.')?;
                Some(bare(&format!("{schema}.{name}")))
            }
            _ => None,
        })
        .collect();
    let mut parts = BTreeSet::new();
    // Partitions may be partitioned themselves.
    loop {
        let before = parts.len();
        for it in printed.iter().filter(|it| it.kind == "INDEX ATTACH") {
            let text = it.publisher.as_ref().or(it.subscriber.as_ref());
            let names = text.and_then(|text| {
                let text = text.trim().trim_end_matches(';');
                text.strip_prefix("ALTER INDEX ")?
                    .split_once(" ATTACH PARTITION ")
            });
            let Some((of, part)) = names.map(|(of, part)| (bare(of), bare(part))) else {
                continue;
            };
            if whole.contains(&of) || parts.contains(&of) {
                parts.insert(part);
            }
        }
        if parts.len() == before {
            return parts;
        }
    }
}

/// `app.t1_a_idx` of what pg_dump prints of one index.
fn part_named(kind: &str, object: &str) -> Option<String> {
    if !matches!(kind, "INDEX" | "INDEX ATTACH" | "CONSTRAINT") {
        return None;
    }
    let (name, schema) = object.strip_prefix(kind)?.split_once(" in schema ")?;
    // A constraint's comes behind its table's.
    let name = name.trim();
    let name = match kind {
        "CONSTRAINT" => name.rsplit(' ').next()?,
        _ => name,
    };
    Some(format!("{schema}.{name}"))
}

/// Whether a difference of the catalogs is about an object as pg_dump names it.
fn is_about(known: &SchemaDifference, object: &str, texts: &[&String]) -> bool {
    let bare = |text: &str| text.replace('"', "");
    let last = |name: &str| {
        let name = name.split('(').next().unwrap_or_default().trim();
        let end = bare(name);
        end.rsplit(['.', ' ']).next().unwrap_or_default().to_owned()
    };
    if is_about_privileges(known, &bare(object)) {
        return true;
    }
    // Another schema may have objects of the same names.
    let schema = object.rsplit_once(" in schema ").map(|(_, schema)| schema);
    let of_schema = schema.is_none_or(|schema| {
        let (known, schema) = (bare(&known.object), format!("{schema}."));
        let mut places = known.match_indices(&schema);
        places.any(|(at, _)| {
            known[..at]
                .chars()
                .next_back()
                .is_none_or(|c| " (,".contains(c))
        })
    });
    // `x on app.t` and `app.t.column` are about the table, too.
    let object_of = known.object.split(" using ").next().unwrap_or_default();
    let between = |text: &str| text.split(" on ").map(str::to_owned).collect::<Vec<_>>();
    let mut names: Vec<String> = object_of
        .split(" from ")
        .flat_map(between)
        .map(|it| last(&it))
        .collect();
    let parts: Vec<String> = bare(object_of).split('.').map(str::to_owned).collect();
    names.extend(parts.get(1).cloned());
    // What a table has beside its columns is called `CONSTRAINT t c`: of that, only what is known by its own name, or
    // goes with the whole table.
    const OF_TABLES: [&str; 7] = [
        "CONSTRAINT ",
        "FK CONSTRAINT ",
        "CHECK CONSTRAINT ",
        "TRIGGER ",
        "RULE ",
        "POLICY ",
        "DEFAULT ",
    ];
    let of_table = OF_TABLES.iter().find_map(|it| object.strip_prefix(it));
    let is_whole = known.publisher.is_none() || known.subscriber.is_none();
    let is_renamed = known
        .statement
        .as_ref()
        .is_some_and(|it| it.contains(" RENAME "));
    if of_table.is_some() && !(is_whole && known.kind.ends_with("table")) && !is_renamed {
        names.truncate(1);
    }
    if matches!(known.kind.as_str(), "cluster" | "partition index") {
        let indexes = [&known.publisher, &known.subscriber].into_iter().flatten();
        let name = |it: &String| {
            it.strip_prefix("ON ")
                .unwrap_or(it)
                .split(' ')
                .next()
                .map(last)
        };
        names.extend(indexes.filter_map(name));
    }
    // Names may have blanks in them.
    let words = format!(" {} ", bare(of_table.unwrap_or(object)).replace('(', " "));
    let is_named = |name: &&String| !name.is_empty() && words.contains(&format!(" {name} "));
    if of_schema && names.iter().any(|it| is_named(&it)) {
        return true;
    }
    // The sequence of an identity is printed as what makes the column one.
    let column = known
        .object
        .rsplit_once('.')
        .filter(|_| known.kind == "column");
    let altered = column
        .map(|(table, column)| bare(&format!("ALTER TABLE {table} ALTER COLUMN {column} ADD ")));
    let statement = known.statement.as_deref().map(bare);
    texts.iter().any(|text| {
        let text = bare(text);
        let text = text.trim_end_matches(';').trim();
        let said = |statement: &String| !text.is_empty() && statement.contains(text);
        altered.as_ref().is_some_and(|it| text.starts_with(it)) || statement.iter().any(said)
    })
}

/// The same for what pg_dump calls `ACL COLUMN t.c in schema s` and `DEFAULT ACL DEFAULT PRIVILEGES FOR TABLES in schema s`.
fn is_about_privileges(known: &SchemaDifference, object: &str) -> bool {
    let named = known.object.replace('"', "");
    if let Some(what) = object.strip_prefix("DEFAULT ACL DEFAULT PRIVILEGES FOR ") {
        return known.kind == "default privileges" && named.starts_with(what);
    }
    let granted = || {
        let (what, schema) = object.strip_prefix("ACL ")?.split_once(" in schema ")?;
        let (_, name) = what.split_once(' ')?;
        Some(format!("{schema}.{name} to "))
    };
    known.kind == "grants" && granted().is_some_and(|granted| named.contains(&granted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(object: &str, statement: Option<&str>) -> SchemaDifference {
        SchemaDifference {
            kind: "column".into(),
            object: object.into(),
            publisher: None,
            subscriber: None,
            statement: statement.map(str::to_owned),
            advice: None,
        }
    }

    #[test]
    fn what_the_catalogs_named_is_named_once() {
        let none: [&String; 0] = [];
        assert!(is_about(
            &known("app.t.\"Col\"", None),
            "TABLE t in schema app",
            &none
        ));
        assert!(is_about(
            &known("chk on app.t", None),
            "CONSTRAINT t chk in schema app",
            &none
        ));
        assert!(is_about(
            &known("app.f(integer)", None),
            "FUNCTION f(integer) in schema app",
            &none
        ));
        let grant = SchemaDifference {
            kind: "grants".into(),
            ..known("column app.t.\"Col\" to PUBLIC", None)
        };
        assert!(is_about(&grant, "ACL COLUMN t.Col in schema app", &none));
        assert!(!is_about(&grant, "ACL COLUMN u.Col in schema app", &none));
        let default = SchemaDifference {
            kind: "default privileges".into(),
            ..known("TABLES in schema app of o to PUBLIC", None)
        };
        let object = "DEFAULT ACL DEFAULT PRIVILEGES FOR TABLES in schema app";
        assert!(is_about(&default, object, &none));
        for (object, other) in [
            ("app.other", "TABLE t in schema app"),
            ("app.t.a", "TABLE t in schema app2"),
            ("app.t.a", "CONSTRAINT t t_pkey in schema app"),
            ("other on app.t", "TRIGGER t tr in schema app"),
            ("app.t.a", "DEFAULT t b in schema app"),
        ] {
            assert!(
                !is_about(&known(object, None), other, &none),
                "{object}: {other}"
            );
        }
        let table = SchemaDifference {
            kind: "table".into(),
            publisher: Some("table".into()),
            ..known("app.t", None)
        };
        assert!(is_about(&table, "CONSTRAINT t t_pkey in schema app", &none));
    }
}
