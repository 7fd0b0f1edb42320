//! Definitions that differ, short enough for one line of a report.

/// Two definitions on one line each; of long ones the part where they begin to differ.
pub(super) fn short(definitions: [&Option<String>; 2]) -> [String; 2] {
    const LONG: usize = 80;
    const BEFORE: usize = 20;
    let lines = definitions.map(|it| {
        let text = it.as_deref().unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    let [one, other] = &lines;
    let alike = one.chars().zip(other.chars());
    let alike = alike.take_while(|(one, other)| one == other).count();
    let skipped = if alike + BEFORE > LONG && lines.iter().any(|it| it.chars().count() > LONG) {
        alike - BEFORE
    } else {
        0
    };
    let shown = |line: &String| {
        let part: String = line.chars().skip(skipped).take(LONG).collect();
        let before = if skipped > 0 { "... " } else { "" };
        let after = if line.chars().count() > skipped + LONG {
            " ..."
        } else {
            ""
        };
        format!("{before}{part:?}{after}")
    };
    lines.each_ref().map(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_definitions_show_where_they_differ() {
        let of = |one: &str, other: &str| short([&Some(one.to_owned()), &Some(other.to_owned())]);
        assert_eq!(of("a  b", "c\"d"), [r#""a b""#, r#""c\"d""#]);
        let key = format!("FOREIGN KEY ({}) REFERENCES b(id)", "x".repeat(80));
        let tail = r#"... "xx) REFERENCES b(id)"#;
        assert_eq!(
            of(&key, &format!("{key} NOT VALID")),
            [format!("{tail}\""), format!("{tail} NOT VALID\"")]
        );
        let body = "y".repeat(100);
        let cut = |first: &str| format!("\"{first}{}\" ...", "y".repeat(79));
        assert_eq!(
            of(&format!("a{body}"), &format!("b{body}")),
            [cut("a"), cut("b")]
        );
    }
}
