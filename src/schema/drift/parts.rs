//! The selects that the catalogs' rows come from, and which of them a database needs: planning a select takes the server
//! longer than answering it where there is nothing to find.

use super::{access, objects, tables};
use crate::value::Literal;

/// Kinds that few databases have: what finds out in a moment that there is no such object of one's own, and their rows.
const RARE: &[(&str, &str)] = &[
    ("SELECT FROM pg_inherits", tables::INHERITANCE),
    ("SELECT FROM pg_inherits", tables::PARTITION_INDEXES),
    (
        "SELECT FROM pg_rewrite WHERE oid >= 16384 AND rulename <> '_RETURN'",
        tables::RULES,
    ),
    ("SELECT FROM pg_policy", tables::POLICIES),
    ("SELECT FROM pg_statistic_ext", tables::STATISTICS),
    ("SELECT FROM pg_enum", objects::ENUMS),
    (
        "SELECT FROM pg_type WHERE oid >= 16384 AND typtype = 'd'",
        objects::DOMAINS,
    ),
    (
        "SELECT FROM pg_class WHERE oid >= 16384 AND relkind = 'c'",
        objects::COMPOSITES,
    ),
    (
        "SELECT FROM pg_range WHERE rngtypid >= 16384",
        objects::RANGES,
    ),
    (
        "SELECT FROM pg_aggregate WHERE aggfnoid::oid >= 16384",
        objects::AGGREGATES,
    ),
    (
        "SELECT FROM pg_operator WHERE oid >= 16384",
        objects::OPERATORS,
    ),
    (
        "SELECT FROM pg_opclass WHERE oid >= 16384 UNION ALL SELECT FROM pg_opfamily WHERE oid >= 16384",
        objects::OPERATOR_CLASSES,
    ),
    ("SELECT FROM pg_cast WHERE oid >= 16384", objects::CASTS),
    (
        "SELECT FROM pg_collation WHERE oid >= 16384 UNION ALL SELECT FROM pg_conversion WHERE oid >= 16384",
        objects::COLLATIONS,
    ),
    (
        "SELECT FROM pg_ts_config WHERE oid >= 16384 UNION ALL SELECT FROM pg_ts_dict WHERE oid >= 16384
         UNION ALL SELECT FROM pg_ts_parser WHERE oid >= 16384 UNION ALL SELECT FROM pg_ts_template WHERE oid >= 16384",
        objects::TEXT_SEARCH,
    ),
    ("SELECT FROM pg_foreign_data_wrapper", objects::FOREIGN),
    ("SELECT FROM pg_event_trigger", objects::EVENT_TRIGGERS),
    (
        "SELECT FROM pg_language WHERE oid >= 16384 UNION ALL SELECT FROM pg_transform WHERE oid >= 16384
         UNION ALL SELECT FROM pg_am WHERE oid >= 16384",
        objects::LANGUAGES,
    ),
    ("SELECT FROM pg_default_acl", access::DEFAULT_PRIVILEGES),
    ("SELECT FROM pg_seclabel", access::LABELS),
];

/// A select, with the eight columns that all have.
struct Part {
    select: String,
    /// What there is none of where the select has no row.
    rests_on: Option<&'static str>,
}

/// `$1` and `$2` are to be filled in.
fn parts() -> impl Iterator<Item = Part> {
    let plain = [tables::ROWS, objects::ROWS, access::ROWS];
    let plain = plain.into_iter().flatten();
    let plain = plain.map(|it| (*it, format!("SELECT plain.*, NULL::text FROM ({it}) plain")));
    let fixed = [tables::FIXED_ROWS, objects::FIXED_ROWS];
    let fixed = fixed.into_iter().flatten();
    let fixed = fixed.map(|it| (*it, (*it).to_owned()));
    plain.chain(fixed).map(|(rows, select)| Part {
        select,
        rests_on: RARE
            .iter()
            .find(|(_, rare)| *rare == rows)
            .map(|(found, _)| *found),
    })
}

const UNION: &str = "\n    UNION ALL ";

/// The rows of some kinds, each with its name as a word in the select; of all where none is named.
pub(super) fn of(kinds: &[String]) -> String {
    let is_asked = |part: &Part| {
        let mut kinds = kinds.iter();
        kinds.any(|kind| part.select.contains(&format!("'{kind}'")))
    };
    let asked = parts().filter(|it| kinds.is_empty() || is_asked(it));
    let selects: Vec<String> = asked.map(|it| it.select).collect();
    selects.join(UNION)
}

/// An SQL expression whose text has the rows of all kinds that there are in the database.
pub(super) fn of_what_there_is(filled_in: impl Fn(&str) -> String) -> String {
    let texts = parts().map(|it| {
        let select = Literal(filled_in(&it.select));
        match it.rests_on {
            Some(found) => format!("CASE WHEN EXISTS ({found}) THEN {select} END"),
            None => select.to_string(),
        }
    });
    let texts: Vec<String> = texts.collect();
    let union = Literal(UNION);
    format!(
        "array_to_string(ARRAY[{}]::text[], {union})",
        texts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rare_is_among_the_parts() {
        let rare = parts().filter(|it| it.rests_on.is_some()).count();
        assert_eq!(rare, RARE.len());
    }

    #[test]
    fn only_the_kinds_that_are_asked_for_are_read() {
        let all = of(&[]);
        for kind in ["enum", "view", "text_search", "foreign_options", "grants"] {
            let rows = of(&[kind.to_owned()]);
            assert!(rows.contains(&format!("'{kind}'")), "{kind}");
            assert!(rows.len() < all.len() / 2, "{kind}");
        }
    }
}
