//! What 14 and later print in SQL's own syntax where it was written so, as the calls that earlier versions make of it:
//! `TRIM(BOTH FROM a)` is `btrim(a)`.

use std::ops::Range;

/// What is within the parenthesis that opens at `at`.
fn within(tokens: &[&[u8]], at: usize) -> Option<Range<usize>> {
    if tokens.get(at) != Some(&b"(".as_slice()) {
        return None;
    }
    let mut depth = 0usize;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match *token {
            b"(" => depth += 1,
            b")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1..place);
        }
    }
    None
}

/// Where words stand outside of parentheses.
fn find(tokens: &[&[u8]], words: &[&[u8]]) -> Option<usize> {
    let mut depth = 0usize;
    (0..tokens.len()).find(|at| {
        match tokens[*at] {
            b"(" => depth += 1,
            b")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && tokens[*at..].starts_with(words)
    })
}

fn call<'t>(name: &'static [u8], arguments: &[&[&'t [u8]]]) -> Vec<&'t [u8]> {
    let mut made: Vec<&[u8]> = vec![name, b"("];
    for (number, argument) in arguments.iter().enumerate() {
        if number > 0 {
            made.push(b",");
        }
        made.extend(by_call(argument));
    }
    made.push(b")");
    made
}

/// `first WORD second`, parted at the words, as far as they are there.
fn parted<'a, 't>(mut tokens: &'a [&'t [u8]], words: &[&[u8]]) -> Vec<&'a [&'t [u8]]> {
    let mut parts = Vec::new();
    for word in words {
        if let Some(at) = find(tokens, &[word]) {
            parts.push(&tokens[..at]);
            tokens = &tokens[at + 1..];
        }
    }
    parts.push(tokens);
    parts
}

/// What stands in a parenthesis of its own, without it.
fn bare<'a, 't>(tokens: &'a [&'t [u8]]) -> &'a [&'t [u8]] {
    match within(tokens, 0) {
        Some(inside) if inside.end + 1 == tokens.len() => &tokens[inside],
        _ => tokens,
    }
}

/// `NAME(...)` of such a name.
fn of_name<'t>(name: &[u8], inside: &[&'t [u8]]) -> Option<Vec<&'t [u8]>> {
    match name {
        b"TRIM" => {
            let (side, rest) = inside.split_first()?;
            let name: &[u8] = match *side {
                b"BOTH" => b"btrim",
                b"LEADING" => b"ltrim",
                b"TRAILING" => b"rtrim",
                _ => return None,
            };
            let parts = parted(rest, &[b"FROM"]);
            let [what, from] = parts[..] else { return None };
            let arguments = [from, what];
            let count = if what.is_empty() { 1 } else { 2 };
            Some(call(
                match name {
                    b"btrim" => b"btrim",
                    b"ltrim" => b"ltrim",
                    _ => b"rtrim",
                },
                &arguments[..count],
            ))
        }
        b"POSITION" => match parted(inside, &[b"IN"])[..] {
            [what, from] => Some(call(b"\"position\"", &[bare(from), bare(what)])),
            _ => None,
        },
        b"SUBSTRING" => {
            let parts = parted(inside, &[b"FROM", b"FOR"]);
            (parts.len() > 1).then(|| call(b"\"substring\"", &parts))
        }
        b"OVERLAY" => {
            let parts = parted(inside, &[b"PLACING", b"FROM", b"FOR"]);
            (parts.len() > 1).then(|| call(b"\"overlay\"", &parts))
        }
        _ => None,
    }
}

/// `(a AT TIME ZONE z)` and `((a, b) OVERLAPS (c, d))`, by what stands in the parenthesis.
fn of_operator<'t>(inside: &[&'t [u8]]) -> Option<Vec<&'t [u8]>> {
    if let Some(at) = find(inside, &[b"AT", b"TIME", b"ZONE"]) {
        return Some(call(b"timezone", &[&inside[at + 3..], &inside[..at]]));
    }
    let at = find(inside, &[b"OVERLAPS"])?;
    let (left, right) = (bare(&inside[..at]), bare(&inside[at + 1..]));
    let mut made: Vec<&[u8]> = vec![b"\"overlaps\"", b"("];
    made.extend(by_call(left));
    made.push(b",");
    made.extend(by_call(right));
    made.push(b")");
    Some(made)
}

/// With calls for what has a syntax of its own.
pub(super) fn by_call<'t>(tokens: &[&'t [u8]]) -> Vec<&'t [u8]> {
    let mut spelled = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let named = within(tokens, at + 1)
            .and_then(|inside| Some((of_name(tokens[at], &tokens[inside.clone()])?, inside.end)));
        let grouped = || {
            let inside = within(tokens, at)?;
            Some((of_operator(&tokens[inside.clone()])?, inside.end))
        };
        match named.or_else(grouped) {
            Some((made, end)) => {
                spelled.extend(made);
                at = end + 1;
            }
            None => {
                spelled.push(tokens[at]);
                at += 1;
            }
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Tokens;

    #[test]
    fn what_has_a_syntax_of_its_own_is_a_call() {
        for (later, earlier) in [
            ("(now() AT TIME ZONE 'utc')", "timezone('utc', now())"),
            (
                "((a AT TIME ZONE 'x') AT TIME ZONE z)",
                "timezone(z, timezone('x', a))",
            ),
            ("TRIM(BOTH FROM f(a, b))", "btrim(f(a, b))"),
            ("TRIM(LEADING 'x' FROM a) <> ''", "ltrim(a, 'x') <> ''"),
            ("POSITION(('x') IN (a))", "\"position\"(a, 'x')"),
            (
                "SUBSTRING(a FROM 1 FOR (b + 1))",
                "\"substring\"(a, 1, (b + 1))",
            ),
            ("OVERLAY(a PLACING 'y' FROM 1)", "\"overlay\"(a, 'y', 1)"),
            ("((a, b) OVERLAPS (c, d))", "\"overlaps\"(a, b, c, d)"),
            ("trim(a) + (a AT b)", "trim(a) + (a AT b)"),
            ("(a", "(a"),
        ] {
            let (later, earlier) = (Tokens::of(later.as_bytes()), Tokens::of(earlier.as_bytes()));
            assert_eq!(by_call(&later.raws()), earlier.raws());
        }
    }
}
