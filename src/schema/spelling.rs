//! Differences in the words with which servers of two versions show the same object.

use super::calls::by_call;
use super::keywords::token_of_10;
use super::tokens::Tokens;

/// How strictly two definitions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Both dumps come from servers of one version: word by word.
    OneVersion,
    /// Known differences between versions are none.
    AcrossVersions,
    /// The same where one of them is before 14, which has no multirange types: what they are called is the other's own.
    AcrossFourteen,
}

impl Spelling {
    /// Whether two statements say the same. Blanks and comments outside of strings never count.
    pub(super) fn same(self, one: &[u8], other: &[u8]) -> bool {
        let (one, other) = (Tokens::of(one), Tokens::of(other));
        let (mut left, mut right) = (one.raws(), other.raws());
        if left == right {
            return true;
        }
        // What was loaded from a version before 14 stays a call.
        if self == Spelling::OneVersion {
            return by_call(&left) == by_call(&right);
        }
        for raws in [&mut left, &mut right] {
            raws.iter_mut()
                .for_each(|token| *token = token_of_10(token));
        }
        // 10 and 11 say EXECUTE PROCEDURE of a trigger.
        for (tokens, raws) in [(&one, &mut left), (&other, &mut right)] {
            if tokens.start("CREATE TRIGGER") || tokens.start("CREATE CONSTRAINT TRIGGER") {
                let at = tokens.find("EXECUTE PROCEDURE");
                at.inspect(|at| raws[at + 1] = b"FUNCTION");
            }
        }
        // 14 gives every range type a multirange type.
        let (of_one, of_other) = (multirange(&one), multirange(&other));
        match (of_one, of_other) {
            (Some(range), None) => drop(left.drain(range)),
            (None, Some(range)) => drop(right.drain(range)),
            (Some(one), Some(other)) if self == Spelling::AcrossFourteen => {
                drop(left.drain(one));
                drop(right.drain(other));
            }
            _ => {}
        }
        let (left, right) = (without_later_words(left), without_later_words(right));
        let (left, right) = (by_call(&left), by_call(&right));
        let queries = ["VIEW", "MATERIALIZED VIEW", "RULE", "FUNCTION", "PROCEDURE"];
        let kind = if one.start("CREATE OR REPLACE") { 3 } else { 1 };
        if one.start("CREATE") && queries.iter().any(|words| one.are(kind, words)) {
            same_but_for_qualifiers(
                &without_names_of_casts(left),
                &without_names_of_casts(right),
            )
        } else {
            left == right
        }
    }
}

/// 14 and later say IN of a procedure's arguments, 16 and later NO INDENT of XMLSERIALIZE, 18 the name of a NOT NULL
/// constraint that is too long for its table's and column's: all were meant before.
pub(super) fn without_later_words(tokens: Vec<&[u8]>) -> Vec<&[u8]> {
    let mut kept: Vec<&[u8]> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let argument = token == b"IN" && matches!(kept.last(), Some(&(b"(" | b",")));
        let indent = token == b"NO" && tokens.next_if_eq(&b"INDENT".as_slice()).is_some();
        if argument || indent {
            continue;
        }
        kept.push(token);
        if kept.ends_with(&[b"NOT", b"NULL"])
            && let Some(name) = kept.len().checked_sub(4)
            && kept[name] == b"CONSTRAINT"
        {
            kept.drain(name..name + 2);
        }
    }
    kept
}

/// `multirange_type_name = schema.name ,` in CREATE TYPE ... AS RANGE.
fn multirange(tokens: &Tokens) -> Option<std::ops::Range<usize>> {
    if !tokens.start("CREATE TYPE") {
        return None;
    }
    let start = tokens.find("multirange_type_name =")?;
    let end =
        (start..tokens.len()).find(|index| tokens.is(*index, ",") || tokens.is(*index, ")"))?;
    // Its comma stands behind it, or before it where it comes last.
    if tokens.is(end, ",") {
        Some(start..end + 1)
    } else {
        Some(start - usize::from(tokens.is(start - 1, ","))..end)
    }
}

/// 16 and later leave `table.` out where a query has but one table. An extra qualifier on one side is no difference,
/// another qualifier is.
pub(super) fn same_but_for_qualifiers(left: &[&[u8]], right: &[&[u8]]) -> bool {
    let (mut i, mut j) = (0, 0);
    while i < left.len() || j < right.len() {
        let extra = |with: &[&[u8]], at: usize, without: Option<&&[u8]>| {
            with.get(at + 1) == Some(&b".".as_slice()) && with.get(at + 2) == without
        };
        match (left.get(i), right.get(j)) {
            (Some(one), Some(other)) if one == other && left.get(i + 1) == right.get(j + 1) => {
                i += 1;
                j += 1;
            }
            (Some(_), other) if other.is_some() && extra(left, i, other) => i += 2,
            (one, Some(_)) if one.is_some() && extra(right, j, one) => j += 2,
            (Some(one), Some(other)) if one == other => {
                i += 1;
                j += 1;
            }
            _ => return false,
        }
    }
    true
}

/// Within a query, and after UNION and its kind, a column that is a cast gets its type's name when the query is loaded
/// again: `NULL::integer` becomes `NULL::integer AS int4`. Where the name matters, whatever refers to it differs too.
pub(super) fn without_names_of_casts(tokens: Vec<&[u8]>) -> Vec<&[u8]> {
    const WORDS: usize = 8;
    let is_of_type = |token: &[u8]| {
        let ends = [
            b"AS".as_slice(),
            b"FROM",
            b"WHERE",
            b"THEN",
            b"ELSE",
            b"END",
        ];
        !ends.contains(&token)
            && (token.len() > 1 || token[0].is_ascii_alphanumeric() || b".()[]".contains(&token[0]))
    };
    let mut kept: Vec<&[u8]> = Vec::with_capacity(tokens.len());
    let (mut depth, mut at, mut combined) = (0usize, 0, false);
    while at < tokens.len() {
        match tokens[at] {
            b"(" => depth += 1,
            b")" => depth = depth.saturating_sub(1),
            b"UNION" | b"INTERSECT" | b"EXCEPT" => combined = true,
            b"AS" if depth > 0 || combined => {
                let typed = kept.iter().rev().take(WORDS);
                let words = typed.take_while(|token| is_of_type(token)).count();
                let before = kept.len() - words;
                let cast = words > 0 && kept[..before].ends_with(&[b":", b":"]);
                if cast {
                    at += 2;
                    continue;
                }
            }
            _ => {}
        }
        kept.push(tokens[at]);
        at += 1;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let across = |a: &str, b: &str| Spelling::AcrossVersions.same(a.as_bytes(), b.as_bytes());
        assert_eq!(across(one, other), across(other, one));
        across(one, other)
    }

    #[test]
    fn versions_spell_differently() {
        assert!(same(
            "CREATE VIEW v AS SELECT customers.id, upper(customers.a) AS a FROM app.customers GROUP BY customers.id;",
            "CREATE VIEW v AS\n SELECT id, upper(a) AS a\n FROM app.customers GROUP BY id;",
        ));
        assert!(same(
            "CREATE TRIGGER t AFTER UPDATE ON a FOR EACH ROW EXECUTE PROCEDURE f();",
            "CREATE TRIGGER t AFTER UPDATE ON a FOR EACH ROW EXECUTE FUNCTION f();",
        ));
        assert!(same(
            "CREATE TYPE a.r AS RANGE (\n subtype = float8,\n subtype_diff = float8mi\n);",
            "CREATE TYPE a.r AS RANGE (\n subtype = float8,\n multirange_type_name = a.m,\n subtype_diff = float8mi\n);",
        ));
        assert!(same(
            "CREATE TYPE a.r AS RANGE (subtype = float8);",
            "CREATE TYPE a.r AS RANGE (\n subtype = float8,\n multirange_type_name = a.m\n);",
        ));
        assert!(same(
            "CREATE TABLE t (a int NOT NULL, b int DEFAULT 1 NOT NULL, CONSTRAINT c CHECK (a IS NOT NULL));",
            "CREATE TABLE t (a int CONSTRAINT t_a NOT NULL, b int DEFAULT 1 CONSTRAINT \"B\" NOT NULL, CONSTRAINT c CHECK (a IS NOT NULL));",
        ));
        assert!(same(
            "CREATE VIEW v AS SELECT a.a FROM a;",
            "CREATE VIEW v AS SELECT a FROM a;"
        ));
    }

    #[test]
    fn multirange_types_are_called_anything_across_14() {
        let one = b"CREATE TYPE r AS RANGE (subtype = a, multirange_type_name = x);";
        let other = b"CREATE TYPE r AS RANGE (subtype = a, multirange_type_name = s.y);";
        assert!(Spelling::AcrossFourteen.same(one, other));
        let other = b"CREATE TYPE r AS RANGE (subtype = b, multirange_type_name = x);";
        assert!(!Spelling::AcrossFourteen.same(one, other));
    }

    #[test]
    fn true_differences_stay() {
        for (one, other) in [
            (
                "CREATE VIEW v AS SELECT t.id FROM t;",
                "CREATE VIEW v AS SELECT u.id FROM t;",
            ),
            (
                "CREATE VIEW v AS SELECT t.id FROM t;",
                "CREATE VIEW v AS SELECT ix FROM t;",
            ),
            (
                "CREATE VIEW v AS SELECT 'a  b';",
                "CREATE VIEW v AS SELECT 'a b';",
            ),
            (
                "CREATE VIEW v AS SELECT 1;",
                "CREATE VIEW v AS SELECT 1, 2;",
            ),
            ("CREATE TABLE a.t (b int);", "CREATE TABLE t (b int);"),
            (
                "CREATE TYPE r AS RANGE (subtype = a, multirange_type_name = x);",
                "CREATE TYPE r AS RANGE (subtype = a, multirange_type_name = y);",
            ),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
        let reformatted =
            Spelling::OneVersion.same(b"CREATE  TABLE t (a int);", b"CREATE TABLE t (a int) ;\n");
        assert!(reformatted);
    }
}
