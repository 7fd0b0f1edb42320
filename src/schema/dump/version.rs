//! What the target's version cannot read of a dump that a newer pg_dump has written.

use super::Verdict;
use crate::schema::statement::Item;
use crate::schema::tokens::Tokens;

/// Settings that pg_dump writes, and the version that first had them.
const SETTINGS_SINCE: [(&str, u32); 3] = [
    ("default_table_access_method", 12),
    ("default_toast_compression", 14),
    ("transaction_timeout", 17),
];

/// A setting that the target does not know.
pub(super) fn setting(head: &Tokens, major: u32) -> Option<String> {
    if !head.start("SET") {
        return None;
    }
    let name = head.name(1)?;
    if name == "default_with_oids" && major >= 12 {
        return Some(format!("{name} exists only before PostgreSQL 12"));
    }
    let (_, since) = SETTINGS_SINCE
        .iter()
        .find(|(setting, _)| *setting == name)?;
    (major < *since).then(|| format!("{name} exists only from PostgreSQL {since} on"))
}

/// 10 says PROCEDURE where later versions say FUNCTION.
pub(super) fn older_words(head: &Tokens, item: &Item, major: u32) -> Verdict {
    const SINCE: u32 = 11;
    let trigger = [
        "CREATE EVENT TRIGGER",
        "CREATE TRIGGER",
        "CREATE CONSTRAINT TRIGGER",
    ]
    .iter()
    .any(|words| head.start(words));
    if major >= SINCE || !(trigger || head.start("CREATE OPERATOR")) {
        return Verdict::Keep;
    }
    let tokens = Tokens::of(&item.text);
    let found = if trigger {
        tokens.find("EXECUTE FUNCTION").map(|index| index + 1)
    } else {
        tokens.find("FUNCTION =")
    };
    match found {
        Some(index) => Verdict::Rewrite(
            tokens.replaced(index, "PROCEDURE"),
            "PROCEDURE is FUNCTION only from PostgreSQL 11 on",
        ),
        None => Verdict::Keep,
    }
}

/// What some builds of the server keep among a column's options, and no other server takes (seen with Debian's 15.20).
const COLUMN_VERSION: &str = "pg_attver";

/// `ALTER TABLE .. ALTER COLUMN c SET (a '1', b '2')` without that option.
pub(super) fn column_version(head: &Tokens, item: &Item) -> Verdict {
    const WHY: &str = "pg_attver is known to one build of the server alone";
    let wanted = COLUMN_VERSION.as_bytes();
    if !head.start("ALTER") || !item.text.windows(wanted.len()).any(|it| it == wanted) {
        return Verdict::Keep;
    }
    let tokens = Tokens::of(&item.text);
    let opened = tokens.find("SET (").map(|at| at + 1);
    let option = opened.and_then(|opened| {
        (opened + 1..tokens.len()).find(|at| {
            tokens.is(*at, COLUMN_VERSION) && (tokens.is(at - 1, "(") || tokens.is(at - 1, ","))
        })
    });
    let Some(option) = option else {
        return Verdict::Keep;
    };
    let end = (option..tokens.len()).find(|at| tokens.is(*at, ",") || tokens.is(*at, ")"));
    match end {
        Some(end) if tokens.is(option - 1, "(") && tokens.is(end, ")") => {
            Verdict::Remove(WHY.to_owned())
        }
        Some(end) if tokens.is(end, ",") => Verdict::Rewrite(tokens.without(option, end + 1), WHY),
        Some(end) => Verdict::Rewrite(tokens.without(option - 1, end), WHY),
        None => Verdict::Keep,
    }
}
