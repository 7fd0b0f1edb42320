//! Words that became keywords between 10 and 18. Where a server prints a name it quotes those that it knows as one, so that
//! a column `json` is `json` up to 16 and `"json"` from 17 on.

/// Those that `quote_ident` of 18 quotes and that of 10 does not.
pub(crate) const SINCE_10: [&str; 14] = [
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "merge_action",
    "normalize",
    "system_user",
];

/// A token as 10 prints it.
pub(super) fn token_of_10(token: &[u8]) -> &[u8] {
    let inside = token
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    inside
        .filter(|word| SINCE_10.iter().any(|it| it.as_bytes() == *word))
        .unwrap_or(token)
}

/// Names in a text without string constants, as 10 prints them.
pub(super) fn names_of_10(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(from) = rest.find('"') {
        spelled.push_str(&rest[..from]);
        // A quote within a name is doubled, and is no end of it.
        let mut end = from + 1;
        loop {
            match rest[end..].find('"') {
                Some(at) if rest[end + at + 1..].starts_with('"') => end += at + 2,
                Some(at) => {
                    end += at + 1;
                    break;
                }
                None => {
                    end = rest.len();
                    break;
                }
            }
        }
        let name = &rest[from..end];
        let word = name.trim_matches('"');
        spelled.push_str(
            if SINCE_10.contains(&word) && name.len() == word.len() + 2 {
                word
            } else {
                name
            },
        );
        rest = &rest[end..];
    }
    spelled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_that_a_later_version_quotes_lose_their_quotes() {
        let same = [
            r#"app."order"."Json""#,
            r#"app."a""json""b""#,
            r#"app."json"#,
            r#""""json""""#,
            r#""""#,
        ];
        for name in same {
            assert_eq!(names_of_10(name), name);
        }
        assert_eq!(
            names_of_10(r#"app."json"."normalize", "x y"."json_value""#),
            r#"app.json.normalize, "x y".json_value"#
        );
        assert_eq!(token_of_10(br#""json""#), b"json");
        assert_eq!(token_of_10(br#""user""#), br#""user""#);
        assert_eq!(token_of_10(b"'json'"), b"'json'");
    }
}
