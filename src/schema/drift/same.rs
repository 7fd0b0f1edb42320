//! Whether two definitions of one kind say the same, whichever versions print them.

use super::Kind;
use crate::schema::calls::by_call;
use crate::schema::keywords::{names_of_10, token_of_10};
use crate::schema::same_icu_locale;
use crate::schema::spelling::{
    same_but_for_qualifiers, without_later_words, without_names_of_casts,
};
use crate::schema::tokens::Tokens;

/// Whether two definitions of one kind say the same.
pub(super) fn same(kind: Kind, one: &str, other: &str) -> bool {
    use Kind::*;
    if one == other {
        return true;
    }
    if kind == Collation {
        return same_collation(one, other);
    }
    let expressions = matches!(
        kind,
        Column
            | Default
            | Domain
            | Constraint
            | Index
            | View
            | MaterializedView
            | Rule
            | Policy
            | Trigger
            | Statistics
            | Inheritance
            | Table
            | Function
    );
    if !expressions {
        return names_of_10(one) == names_of_10(other);
    }
    let (left, right) = (Tokens::of(one.as_bytes()), Tokens::of(other.as_bytes()));
    let queries = matches!(kind, View | MaterializedView | Rule | Function);
    let (mut left, mut right) = (by_call(&left.raws()), by_call(&right.raws()));
    if queries {
        (left, right) = (without_names_of_casts(left), without_names_of_casts(right));
    }
    let (left, right) = (normal(left), normal(right));
    if left == right || queries && same_but_for_qualifiers(&left, &right) {
        return true;
    }
    // What a version before 14 makes of EXTRACT, beside what a later one does.
    let old = |tokens: &[&[u8]]| tokens.contains(&b"date_part".as_slice());
    let new = |tokens: &[&[u8]]| tokens.contains(&b"EXTRACT".as_slice());
    let parted = old(&left) && new(&right) || new(&left) && old(&right);
    parted && {
        // As they are printed: a cast that goes takes no name with it.
        let tokens = [one, other].map(|it| Tokens::of(it.as_bytes()));
        let [left, right] = &tokens;
        let [left, right] =
            [left, right].map(|it| by_extract(&without_casts_of_text(by_call(&it.raws()))));
        left == right || queries && same_but_for_qualifiers(&left, &right)
    }
}

/// With `EXTRACT(field FROM` for `date_part('field',`, and without the casts and parentheses that go with the type of its
/// result: double precision before 14, numeric from then on.
fn by_extract<'t>(tokens: &[&'t [u8]]) -> Vec<&'t [u8]> {
    const NUMBERS: [&[&[u8]]; 2] = [&[b"double", b"precision"], &[b"numeric"]];
    let mut spelled: Vec<&[u8]> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        let cast = |words: &&&[&[u8]]| rest.len() > 2 && rest[2..].starts_with(words);
        let cast = NUMBERS
            .iter()
            .filter(|_| rest.starts_with(&[b":", b":"]))
            .find(cast);
        match (rest, cast) {
            (_, Some(words)) => at += 2 + words.len(),
            ([b"date_part", b"(", field, b",", ..], _) => {
                let field = field.strip_prefix(b"'").unwrap_or(field);
                let field = field.strip_suffix(b"'").unwrap_or(field);
                spelled.extend([b"EXTRACT".as_slice(), field, b"FROM"]);
                at += 4;
            }
            ([b"(" | b")", ..], _) => at += 1,
            _ => {
                spelled.push(tokens[at]);
                at += 1;
            }
        }
    }
    spelled
}

/// `PROVIDER = icu, LOCALE = '...'`: the locale may have two names.
fn same_collation(one: &str, other: &str) -> bool {
    let parts = |definition: &str| {
        let rest = definition.strip_prefix("PROVIDER = icu, LOCALE = '")?;
        let (locale, rest) = rest.split_once('\'')?;
        Some((locale.to_owned(), rest.to_owned()))
    };
    match (parts(one), parts(other)) {
        (Some((here, one)), Some((there, other))) => one == other && same_icu_locale(&here, &there),
        _ => false,
    }
}

/// The tokens of a definition as the server prints it, where a stored expression and the one that its own printed text
/// becomes when it is loaded again are alike: `(ARRAY['a'::character varying])::text[]` and
/// `ARRAY['a'::character varying::text]`.
fn normal(tokens: Vec<&[u8]>) -> Vec<&[u8]> {
    let tokens = tokens.into_iter().map(token_of_10).collect();
    let mut tokens =
        without_types_of_null_fields(without_casts_of_text(without_later_words(tokens)));
    loop {
        let before = tokens.len();
        tokens = without_needless_parentheses(tokens);
        if tokens.len() == before {
            break;
        }
    }
    // 10 and 11 say EXECUTE PROCEDURE of a trigger.
    if let Some(at) = tokens
        .windows(2)
        .position(|pair| pair == [b"EXECUTE".as_slice(), b"PROCEDURE"])
    {
        tokens[at + 1] = b"FUNCTION";
    }
    tokens
}

/// Casts to types of text change nothing but the way the server sees a constant.
fn without_casts_of_text(tokens: Vec<&[u8]>) -> Vec<&[u8]> {
    const TEXT: [&[&[u8]]; 5] = [
        &[b"text"],
        &[b"character", b"varying"],
        &[b"bpchar"],
        &[b"character"],
        &[b"name"],
    ];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    'tokens: while at < tokens.len() {
        if tokens[at..].starts_with(&[b":", b":"]) {
            for words in TEXT {
                let mut end = at + 2 + words.len();
                if !tokens[at + 2..].starts_with(words) {
                    continue;
                }
                if tokens.get(end) == Some(&b"(".as_slice())
                    && tokens.get(end + 2) == Some(&b")".as_slice())
                {
                    end += 3;
                }
                if tokens[end.min(tokens.len())..].starts_with(&[b"[", b"]"]) {
                    end += 2;
                }
                at = end;
                continue 'tokens;
            }
        }
        kept.push(tokens[at]);
        at += 1;
    }
    kept
}

/// A stored row gets a NULL without a type for each attribute that its type has been given since; its printed text is loaded
/// with one.
fn without_types_of_null_fields(tokens: Vec<&[u8]>) -> Vec<&[u8]> {
    let mut kept: Vec<&[u8]> = Vec::with_capacity(tokens.len());
    // Of the parentheses around the token, which are those of a row.
    let mut rows = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let in_row = rows.last() == Some(&true);
        if in_row && tokens[at] == b"NULL" && tokens[at + 1..].starts_with(&[b":", b":"]) {
            kept.push(tokens[at]);
            let mut depth = 0;
            while let Some(token) = tokens.get(at) {
                match *token {
                    b"," | b")" if depth == 0 => break,
                    b"(" => depth += 1,
                    b")" => depth -= 1,
                    _ => {}
                }
                at += 1;
            }
            continue;
        }
        match tokens[at] {
            b"(" => rows.push(kept.last() == Some(&b"ROW".as_slice())),
            b")" => {
                rows.pop();
            }
            _ => {}
        }
        kept.push(tokens[at]);
        at += 1;
    }
    kept
}

/// Around one token, around what is in parentheses already, around an array.
fn without_needless_parentheses(tokens: Vec<&[u8]>) -> Vec<&[u8]> {
    let mut closing = vec![0; tokens.len()];
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            b"(" | b"[" => open.push(at),
            b")" | b"]" => {
                if let Some(from) = open.pop() {
                    closing[from] = at;
                }
            }
            _ => {}
        }
    }
    let mut needless = vec![false; tokens.len()];
    for (at, end) in closing.iter().copied().enumerate() {
        if tokens[at] != b"(" || end == 0 || needless[at] {
            continue;
        }
        let inside = &tokens[at + 1..end];
        let doubled = inside.first() == Some(&b"(".as_slice()) && closing[at + 1] == end - 1;
        let array = inside.first() == Some(&b"ARRAY".as_slice())
            && inside.get(1) == Some(&b"[".as_slice())
            && closing[at + 2] == end - 1;
        if is_a_name(inside) || doubled || array {
            needless[at] = true;
            needless[end] = true;
        }
    }
    let mut needless = needless.into_iter();
    tokens
        .into_iter()
        .filter(|_| !needless.next().unwrap_or_default())
        .collect()
}

/// One token, or names with dots between them: one side may leave the table out.
fn is_a_name(tokens: &[&[u8]]) -> bool {
    let dot = |token: &&[u8]| *token == b".";
    tokens.len() % 2 == 1 && tokens.iter().skip(1).step_by(2).all(dot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_and_its_reloaded_text_are_the_same() {
        let same = |one, other| same(Kind::Constraint, one, other);
        assert!(same(
            "CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
            "CHECK (((status)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
        ));
        assert!(same("CHECK ((a > 0))", "CHECK (a > 0)"));
        assert!(!same(
            "CHECK ((((a + b) * c) > 0))",
            "CHECK (((a + (b * c)) > 0))"
        ));
        assert!(!same("CHECK ((a > 0))", "CHECK ((a > 1))"));
        assert!(!same("CHECK ((a = 'x'::text))", "CHECK ((a = 'y'::text))"));
        assert!(!same(
            "CHECK ((a > (1)::bigint))",
            "CHECK ((a > (1)::integer))"
        ));
    }

    #[test]
    fn a_field_that_is_null_has_the_type_of_its_attribute() {
        let same = |one, other| same(Kind::Default, one, other);
        assert!(same("ROW(2, NULL)", "ROW(2, NULL::integer)"));
        assert!(same(
            "ROW(NULL, 'a'::text, NULL)",
            "ROW(NULL::numeric(10,2), 'a'::text, NULL::character varying(3)[])"
        ));
        assert!(!same("ROW(2, NULL)", "ROW(2, 3)"));
        assert!(!same("NULL::integer", "NULL::date"));
        assert!(!same("f(NULL::integer)", "f(NULL::date)"));
    }

    #[test]
    fn what_later_versions_print_in_syntax_of_its_own_is_the_same() {
        let same = |one, other| same(Kind::Default, one, other);
        assert!(same(
            "timezone('utc'::text, now())",
            "(now() AT TIME ZONE 'utc'::text)"
        ));
        assert!(!same(
            "timezone('utc'::text, now())",
            "(now() AT TIME ZONE 'cet'::text)"
        ));
        assert!(same(
            "(btrim(a) <> ''::text)",
            "(TRIM(BOTH FROM a) <> ''::text)"
        ));
    }

    #[test]
    fn a_word_that_only_a_later_version_quotes_is_the_same() {
        let (old, new) = ("CHECK ((json <> ''))", r#"CHECK (("json" <> ''))"#);
        assert!(same(Kind::Constraint, old, new));
        assert!(same(Kind::ColumnOrder, "id, json", r#"id, "json""#));
        assert!(!same(
            Kind::Default,
            "'{json: 1}'::text",
            r#"'{"json": 1}'::text"#
        ));
    }

    #[test]
    fn words_that_only_a_later_version_says_are_no_difference() {
        let procedure = "CREATE OR REPLACE PROCEDURE app.p(a integer, b text DEFAULT 'x'::text, INOUT c integer) LANGUAGE sql AS $$ SELECT 1 $$";
        let said = procedure.replace("(a integer, b", "(IN a integer, IN b");
        assert!(same(Kind::Function, procedure, &said));
        assert!(!same(
            Kind::Function,
            procedure,
            &said.replace("INOUT", "IN")
        ));
        assert!(same(
            Kind::View,
            "SELECT XMLSERIALIZE(CONTENT a AS text) AS x FROM t WHERE b IN (1, 2)",
            "SELECT XMLSERIALIZE(CONTENT a AS text NO INDENT) AS x FROM t WHERE b IN (1, 2)"
        ));
    }

    #[test]
    fn the_name_of_a_cast_within_a_query_is_no_difference() {
        let same = |one, other| same(Kind::View, one, other);
        assert!(same(
            "SELECT q.a, q.b FROM ( SELECT t.a, t.b FROM t UNION ALL SELECT u.a, NULL::integer FROM u) q;",
            "SELECT a, b FROM ( SELECT t.a, t.b FROM t UNION ALL SELECT u.a, NULL::integer AS int4 FROM u) q;"
        ));
        assert!(same(
            "SELECT t.a FROM t UNION SELECT NULL::timestamp without time zone",
            "SELECT t.a FROM t UNION SELECT NULL::timestamp without time zone AS \"timestamp\""
        ));
        assert!(!same(
            "SELECT NULL::integer AS a",
            "SELECT NULL::integer AS b"
        ));
    }

    #[test]
    fn a_locale_of_icu_has_two_names() {
        let icu = |locale: &str| format!("PROVIDER = icu, LOCALE = '{locale}'");
        assert!(same(
            Kind::Collation,
            &icu("@colNumeric=yes"),
            &icu("und-u-kn-true")
        ));
        assert!(!same(Kind::Collation, &icu("de"), &icu("sv")));
        assert!(!same(
            Kind::Collation,
            &icu("de"),
            &(icu("de") + ", DETERMINISTIC = false")
        ));
    }

    #[test]
    fn extract_is_what_an_older_server_makes_of_it() {
        let same = |one: &str, other: &str| same(Kind::View, one, other);
        let old = "SELECT (date_part('epoch'::text, (o.b - o.a)) * (1000)::double precision) AS ms FROM app.o";
        let new = "SELECT (EXTRACT(epoch FROM (b - a)) * (1000)::numeric) AS ms FROM app.o";
        assert!(same(old, new));
        assert!(same(
            " WITH m AS ( SELECT o.id, (date_part('epoch'::text, max(o.b)) - date_part('epoch'::text, min(o.a))) AS ms FROM o GROUP BY o.id ) SELECT m.ms FROM m",
            " WITH m AS ( SELECT o.id, ((EXTRACT(epoch FROM max(o.b)))::double precision - (EXTRACT(epoch FROM min(o.a)))::double precision) AS ms FROM o GROUP BY o.id ) SELECT m.ms FROM m",
        ));
        assert!(!same(old, &new.replace("epoch", "day")));
        assert!(!same(old, &new.replace("b - a", "a - b")));
        assert!(!same(old, &old.replace("1000", "100")));
    }

    #[test]
    fn a_view_of_one_table_is_the_same_without_its_prefix() {
        let same = |one, other| same(Kind::View, one, other);
        assert!(same(
            "SELECT t.id, t.a FROM app.t WHERE (t.a > 0)",
            " SELECT id, a FROM app.t WHERE (a > 0)"
        ));
        assert!(same(
            "SELECT t.m, avg(t.a) AS avg FROM app.t GROUP BY t.m",
            "SELECT m, avg(a) AS avg FROM app.t GROUP BY m"
        ));
        assert!(!same(
            "SELECT t.id, u.a FROM app.t, app.u",
            "SELECT t.id, t.a FROM app.t, app.u"
        ));
    }
}
