//! Encoding, locale and order of text: that the database can be made on the other server as it is, and reads and sorts alike.

use serde::Deserialize;

use super::databases::{DATABASES, Database};
use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::{Ends, View};
use crate::schema::same_icu_locale;
use crate::server::Side;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "locale",
        title: "the subscriber has the database's encoding and locale",
        before: Before::Setup,
        place: Place::Database,
        asks: &[DATABASES.on_both(), COLLATIONS.on_subscriber()],
        judge: |view| {
            let (Some(moving), Some(subscriber)) = (view.moving, view.subscriber) else {
                return Ok(Vec::new());
            };
            let there = subscriber.rows(&DATABASES)?;
            let source = database_of(view)?;
            let Some(source) =
                source.filter(|_| there.iter().all(|it| it.datname != moving.dbname))
            else {
                return Ok(Vec::new());
            };
            let collations = subscriber.rows(&COLLATIONS)?;
            Ok(locale_of(
                &source,
                &there,
                &collations,
                (subscriber.side, subscriber.major),
            ))
        },
    },
    Check {
        id: "collation_version",
        title: "text is ordered alike on both sides",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[DATABASES.on_both(), COLLATION_VERSION.on_both()],
        judge: |view| {
            let (Some(publisher), Some(subscriber)) = (view.publisher, view.subscriber) else {
                return Ok(Vec::new());
            };
            let here = database_of(view)?;
            let there = subscriber.rows(&DATABASES)?;
            let there = there
                .into_iter()
                .find(|it| Some(&it.datname) == here.as_ref().map(|it| &it.datname));
            let (Some(here), Some(there)) = (here, there) else {
                return Ok(Vec::new());
            };
            let versions = (
                publisher.first(&COLLATION_VERSION)?,
                subscriber.first(&COLLATION_VERSION)?,
            );
            Ok(order(&here, &there, versions, view.ends()))
        },
    },
    Check {
        id: "sql_ascii",
        title: "names and text can be told from bytes",
        before: Before::Setup,
        place: Place::Database,
        asks: &[DATABASES.on_publisher(), ODD_NAMES.on_publisher()],
        judge: |view| {
            let Some(publisher) = view.publisher else {
                return Ok(Vec::new());
            };
            let odd = not_utf8(&publisher.rows(&ODD_NAMES)?);
            let source = database_of(view)?;
            let ascii = source.is_some_and(|it| it.encoding_name == "SQL_ASCII");
            Ok(without_encoding(ascii, odd))
        },
    },
];

/// Locales of libc that initdb has found.
const COLLATIONS: Question<String> = Question::server(
    "collations",
    "SELECT DISTINCT to_jsonb(n) FROM pg_collation c, unnest(ARRAY[collname::text, to_jsonb(c) ->> 'collcollate']) n
      WHERE collprovider = 'c' AND n IS NOT NULL",
);

/// What the machine's library says of the order of the database's own collation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Version(Option<String>);

const COLLATION_VERSION: Question<Version> = Question::database(
    "collation_version",
    "SELECT to_jsonb(pg_collation_actual_version(c.oid)) FROM pg_database d, pg_collation c
      WHERE d.datname = current_database() AND c.collprovider = 'c'
        AND c.oid = (SELECT min(o.oid) FROM pg_collation o WHERE o.collprovider = 'c'
                        AND to_jsonb(o) ->> 'collcollate' = d.datcollate AND o.collname NOT IN ('C', 'POSIX'))",
)
.since(13);

/// Names and comments beyond ASCII, byte by byte, where the database does not know its own encoding.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Named {
    kind: String,
    hex: String,
}

const ODD_NAMES: Question<Named> = Question::database(
    "odd_names",
    "SELECT jsonb_build_object('kind', o.kind, 'hex', encode(convert_to(o.name, 'SQL_ASCII'), 'hex'))
       FROM (SELECT 'relation' AS kind, relname::text AS name FROM pg_class WHERE oid >= 16384
             UNION ALL SELECT 'column', attname::text FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0
             UNION ALL SELECT 'function', proname::text FROM pg_proc WHERE oid >= 16384
             UNION ALL SELECT 'schema', nspname::text FROM pg_namespace WHERE oid >= 16384
             UNION ALL SELECT 'comment', description FROM pg_description WHERE objoid >= 16384) o
      WHERE (SELECT encoding = 0 FROM pg_database WHERE datname = current_database())
        AND octet_length(o.name) <> length(encode(convert_to(o.name, 'SQL_ASCII'), 'escape'))",
);

/// Those that are no UTF-8, with what cannot be read replaced.
fn not_utf8(named: &[Named]) -> Vec<String> {
    let odd = named.iter().filter_map(|it| {
        let byte = |at| u8::from_str_radix(it.hex.get(at..at + 2)?, 16).ok();
        let bytes: Vec<u8> = (0..it.hex.len()).step_by(2).filter_map(byte).collect();
        let text = String::from_utf8(bytes).err()?;
        Some(format!(
            "{} {:?}",
            it.kind,
            String::from_utf8_lossy(text.as_bytes())
        ))
    });
    odd.collect()
}

/// The publisher's database.
fn database_of(view: &View<'_>) -> Result<Option<Database>> {
    let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
        return Ok(None);
    };
    let mut databases = publisher.rows(&DATABASES)?.into_iter();
    Ok(databases.find(|it| it.datname == moving.dbname))
}

/// Whether CREATE DATABASE would find the locale on the subscriber.
fn locale_of(
    source: &Database,
    there: &[Database],
    collations: &[String],
    (to, major): (Side, i32),
) -> Vec<Finding> {
    let by_hand = format!(
        "install the locale on the {to}'s system, or create database {} there yourself with one that it has: flare loads into an empty database",
        Ident::new(&source.datname)
    );
    let since = match source.datlocprovider.as_deref() {
        Some("i") => Some(("ICU", 15)),
        Some("b") => Some(("builtin", 17)),
        _ => None,
    };
    if let Some((provider, since)) = since.filter(|(_, since)| major < *since) {
        return vec![
            Finding::blocker(format!(
                "its locale is of the provider {provider}, which exists only from {since} on, and the {to} runs {major}"
            ))
            .fix(by_hand),
        ];
    }
    // A name is spelled in more than one way: en_US.UTF-8, en_US.utf8.
    let folded = |name: &str| name.to_lowercase().replace('-', "");
    let offered = |name: &String| {
        matches!(name.as_str(), "C" | "POSIX" | "C.UTF-8" | "C.utf8" | "")
            || collations.iter().any(|it| folded(it) == folded(name))
            || there.iter().any(|it| {
                folded(&it.datcollate) == folded(name) || folded(&it.datctype) == folded(name)
            })
    };
    let mut lacking: Vec<String> = [&source.datcollate, &source.datctype]
        .into_iter()
        .filter(|name| !offered(name))
        .cloned()
        .collect();
    lacking.dedup();
    if lacking.is_empty() {
        Vec::new()
    } else {
        vec![
            Finding::blocker(format!(
                "the {to}'s system does not have the database's locale"
            ))
            .objects(lacking)
            .fix(by_hand),
        ]
    }
}

fn order(
    here: &Database,
    there: &Database,
    versions: (Option<Version>, Option<Version>),
    Ends { from, to }: Ends,
) -> Vec<Finding> {
    let provider = |it: &Database| it.datlocprovider.clone().unwrap_or_else(|| "c".into());
    let locale = |it: &Database| {
        let of_provider = it.datlocale.clone().or_else(|| it.daticulocale.clone());
        match provider(it).as_str() {
            "c" => it.datcollate.clone(),
            _ => of_provider.unwrap_or_default(),
        }
    };
    let advice = "indexes are right on either; look at ranges, partitions by text and code that depends on the order";
    let same_locale = match provider(here).as_str() {
        "i" => same_icu_locale(&locale(here), &locale(there)),
        _ => locale(here) == locale(there),
    };
    if provider(here) != provider(there) || !same_locale {
        return vec![
            Finding::warning("the database's collation differs between the servers, so text may be ordered otherwise")
                .objects([
                    format!("{} of provider {} on the {from}", locale(here), provider(here)),
                    format!("{} of provider {} on the {to}", locale(there), provider(there)),
                ])
                .fix(advice),
        ];
    }
    match versions {
        (Some(Version(Some(one))), Some(Version(Some(other)))) if one != other => vec![
            Finding::warning(
                "the systems' libraries order text by other versions of the collation",
            )
            .objects([
                format!("{} {one} on the {from}", locale(here)),
                format!("{} {other} on the {to}", locale(there)),
            ])
            .fix(advice),
        ],
        _ => Vec::new(),
    }
}

fn without_encoding(ascii: bool, odd: Vec<String>) -> Vec<Finding> {
    match (ascii, odd.is_empty()) {
        (false, _) => Vec::new(),
        (true, true) => vec![Finding::note(
            "the encoding is SQL_ASCII: text is carried byte by byte, whatever it means",
        )],
        (true, false) => vec![
            Finding::blocker(
                "the encoding is SQL_ASCII, and these have names or comments that are no UTF-8, which no client can read as text",
            )
            .objects(odd)
            .fix("rename them, or COMMENT ON anew in UTF-8"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Severity;

    fn libc(name: &str) -> Database {
        Database {
            datname: "shop".into(),
            encoding_name: "UTF8".into(),
            datcollate: name.into(),
            datctype: name.into(),
            ..Database::default()
        }
    }

    #[test]
    fn a_locale_is_known_by_any_of_its_spellings() {
        let offered = ["en_US.utf8".to_owned()];
        assert!(locale_of(&libc("en_US.UTF-8"), &[], &offered, (Side::Subscriber, 18)).is_empty());
        assert!(locale_of(&libc("C"), &[], &[], (Side::Subscriber, 18)).is_empty());
        assert!(
            locale_of(
                &libc("de_DE"),
                &[libc("de_DE")],
                &[],
                (Side::Subscriber, 18)
            )
            .is_empty()
        );
        let lacking = &locale_of(&libc("ja_JP.eucjp"), &[], &offered, (Side::Subscriber, 18))[0];
        assert_eq!(lacking.objects, ["ja_JP.eucjp"]);
        assert_eq!(lacking.severity, Severity::Blocker);
    }

    #[test]
    fn a_provider_that_the_subscriber_does_not_know_blocks() {
        let of = |provider: &str| Database {
            datlocprovider: Some(provider.into()),
            ..libc("C")
        };
        assert_eq!(
            locale_of(&of("i"), &[], &[], (Side::Subscriber, 14)).len(),
            1
        );
        assert_eq!(
            locale_of(&of("i"), &[], &[], (Side::Subscriber, 15)).len(),
            0
        );
        assert_eq!(
            locale_of(&of("b"), &[], &[], (Side::Subscriber, 16)).len(),
            1
        );
    }

    #[test]
    fn names_are_read_byte_by_byte() {
        let named = |hex: &str| Named {
            kind: "relation".into(),
            hex: hex.into(),
        };
        let odd = not_utf8(&[named("c3bc"), named("61fc")]);
        assert_eq!(odd, ["relation \"a\u{fffd}\""]);
        assert!(without_encoding(false, odd.clone()).is_empty());
        assert_eq!(without_encoding(true, odd)[0].severity, Severity::Blocker);
    }

    #[test]
    fn another_collation_or_another_version_of_it_is_a_warning() {
        let none = || (None, None);
        assert!(order(&libc("C"), &libc("C"), none(), Ends::FORWARD).is_empty());
        assert_eq!(
            order(&libc("C"), &libc("en_US.UTF-8"), none(), Ends::FORWARD).len(),
            1
        );
        let versions = |one: &str, other: &str| {
            let of = |it: &str| Some(Version(Some(it.into())));
            (of(one), of(other))
        };
        assert!(
            order(
                &libc("x"),
                &libc("x"),
                versions("2.28", "2.28"),
                Ends::FORWARD
            )
            .is_empty()
        );
        assert_eq!(
            order(
                &libc("x"),
                &libc("x"),
                versions("2.28", "2.36"),
                Ends::FORWARD
            )
            .len(),
            1
        );
    }
}
