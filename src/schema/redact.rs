//! Passwords and their hashes, taken out of text that people see.

const STARS: &str = "***";
const MD5_DIGITS: usize = 32;

/// The text with `PASSWORD '...'`, SCRAM verifiers and md5 hashes replaced by stars.
pub(crate) fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let inside_word = shown
            .chars()
            .next_back()
            .is_some_and(|before| before.is_alphanumeric() || before == '_');
        let secret = if inside_word {
            verifier(rest)
        } else {
            verifier(rest).or_else(|| password(rest))
        };
        match secret {
            Some((kept, length)) => {
                shown.push_str(&rest[..kept]);
                shown.push_str(STARS);
                rest = &rest[length..];
            }
            None => {
                shown.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    shown
}

/// How much of a verifier at the start of the text may be shown (nothing), and its length.
fn verifier(text: &str) -> Option<(usize, usize)> {
    let run = |from: usize, of: fn(&u8) -> bool| {
        text.as_bytes()[from..]
            .iter()
            .take_while(|byte| of(byte))
            .count()
    };
    if let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") {
        let from = text.len() - rest.len();
        let of = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=:$".contains(byte);
        return Some((0, from + run(from, of)));
    }
    text.strip_prefix("md5")?;
    (run(3, u8::is_ascii_hexdigit) == MD5_DIGITS).then_some((0, 3 + MD5_DIGITS))
}

/// How much of `PASSWORD '...'` may be shown, and its length; an open string goes to the end.
fn password(text: &str) -> Option<(usize, usize)> {
    const WORD: &str = "PASSWORD";
    let bytes = text.as_bytes();
    if !bytes
        .get(..WORD.len())?
        .eq_ignore_ascii_case(WORD.as_bytes())
    {
        return None;
    }
    let blanks = bytes[WORD.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_whitespace())
        .count();
    let start = WORD.len() + blanks;
    let (escapes, open) = match &bytes[start..] {
        [b'\'', ..] => (false, start + 1),
        [b'e' | b'E', b'\'', ..] => (true, start + 2),
        _ => return None,
    };
    let mut at = open;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'\\', Some(_)) if escapes => at += 2,
            (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => return Some((start, at + 1)),
            _ => at += 1,
        }
    }
    Some((start, bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passwords_and_hashes_are_starred() {
        let scram = "SCRAM-SHA-256$4096:UtoUv2eDJL/PBPcBvrSsSw==$mvl5xORD6hbC7ofMdLVBKg=:MWrRqaxjW3JJ8sin9Dn8MB=";
        let md5 = "md5c98bd4d9575f4d7d3664c1a606cc6d9c";
        for (text, shown) in [
            (format!("x {scram}, y"), "x ***, y"),
            (
                format!("LOGIN PASSWORD '{scram}' VALID"),
                "LOGIN PASSWORD *** VALID",
            ),
            (format!("hash={md5};"), "hash=***;"),
            ("password E'a\\'b' c".into(), "password *** c"),
            (
                "OPTIONS (\"user\" 'u', password 'se''cret')".into(),
                "OPTIONS (\"user\" 'u', password ***)",
            ),
            ("PASSWORD 'open".into(), "PASSWORD ***"),
            (
                "old_password 'shown' md5sum PASSWORD NULL é".into(),
                "old_password 'shown' md5sum PASSWORD NULL é",
            ),
        ] {
            assert_eq!(redact(&text), shown);
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_is_idempotent(text in "(PASSWORD|password| |'|\\\\|md5|[0-9a-f]{32}|SCRAM-SHA-256\\$|é|\\PC){0,12}") {
            let once = redact(&text);
            prop_assert_eq!(redact(&once), once);
        }
    }
}
