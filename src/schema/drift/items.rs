//! Lists as the catalogs' rows have them: `a integer, "b, c" numeric(10,2)`, `host 'h', port '5432'`.

/// The items between commas that are in no quotes and no parentheses.
pub(super) fn items(list: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut from, mut depth, mut quote, mut escapes) = (0, 0_usize, None, false);
    let mut chars = list.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some('\''), '\\') if escapes => drop(chars.next()),
            // A doubled quote closes and opens again.
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => {
                escapes = before == 'E' && c == '\'';
                quote = Some(c);
            }
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                items.push(list[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
        // Behind the quote that opens again inside E'..' comes no E.
        before = if c == '\'' && escapes { 'E' } else { c };
    }
    let last = list[from..].trim();
    if !last.is_empty() {
        items.push(last);
    }
    items
}

/// The name that an item begins with, as it is quoted, and the rest.
pub(super) fn named(item: &str) -> (&str, &str) {
    let mut quoted = false;
    let end = item.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == ' ' && !quoted
    });
    match end {
        Some((at, _)) => (&item[..at], item[at + 1..].trim()),
        None => (item, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_parentheses_part_nothing() {
        let list = r#"a integer, "b, ""c" numeric(10,2), d text COLLATE x."e, f", g 'h, ''i', j E'k\\'', l', m E'n'', o'"#;
        let expected = [
            "a integer",
            r#""b, ""c" numeric(10,2)"#,
            r#"d text COLLATE x."e, f""#,
            "g 'h, ''i'",
            r"j E'k\\'', l'",
            "m E'n'', o'",
        ];
        assert_eq!(items(list), expected);
        assert_eq!(items(""), [""; 0]);
        assert_eq!(
            named(r#""b, ""c" numeric(10,2)"#),
            (r#""b, ""c""#, "numeric(10,2)")
        );
    }
}
