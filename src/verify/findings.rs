//! What a verification has found, as values.

use serde::Serialize;

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Both sides have it, with other values.
    Different,
    /// The side that follows lacks it.
    Missing,
    /// Only the side that follows has it.
    Extra,
    /// It could not be shown that the row is equal, nor that it differs.
    Undecided,
}

/// A value of the row's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyValue {
    /// The column.
    pub column: String,
    /// Its value, as text.
    pub value: String,
}

/// A column that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnDifference {
    /// The column.
    pub column: String,
    /// The value of the side that is written, in either direction; none is NULL, or not shown.
    #[serde(skip_serializing_if = "Shown::is_hidden")]
    pub publisher: Shown,
    /// The value of the side that follows.
    #[serde(skip_serializing_if = "Shown::is_hidden")]
    pub subscriber: Shown,
}

/// A value, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// As text, shortened.
    Value(String),
    /// NULL.
    Null(()),
    /// Not to be shown.
    #[serde(skip)]
    Hidden,
}

/// A row that is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowDifference {
    /// How it differs.
    pub kind: Kind,
    /// What names it; empty in a table without a key.
    pub key: Vec<KeyValue>,
    /// The columns that differ; of a row without a key, all of them.
    pub columns: Vec<ColumnDifference>,
    /// How often the side that is written and the one that follows have it, in a table without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurrences: Option<(i64, i64)>,
    /// Why it is undecided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Rows that were found: all are counted, the first of them are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) different: u64,
    pub(super) undecided: u64,
    pub(super) rows: Vec<RowDifference>,
}

/// How many rows are kept: a table of which all rows differ takes no more memory than another.
const KEPT: usize = 1000;

impl Found {
    pub(super) fn add(&mut self, row: RowDifference) {
        match row.kind {
            Kind::Undecided => self.undecided += 1,
            Kind::Different | Kind::Missing | Kind::Extra => self.different += 1,
        }
        if self.rows.len() < KEPT {
            self.rows.push(row);
        }
    }

    pub(super) fn merge(&mut self, other: Found) {
        self.different += other.different;
        self.undecided += other.undecided;
        let room = KEPT.saturating_sub(self.rows.len());
        self.rows.extend(other.rows.into_iter().take(room));
    }

    pub(super) fn count(&self) -> u64 {
        self.different + self.undecided
    }
}

/// Longer values are cut.
pub(super) const SHOWN: usize = 80;

impl Shown {
    fn is_hidden(&self) -> bool {
        *self == Shown::Hidden
    }

    /// A value, cut where it is long.
    pub(super) fn of(value: Option<&str>) -> Shown {
        match value {
            None => Shown::Null(()),
            Some(text) if text.chars().count() > SHOWN => {
                let cut: String = text.chars().take(SHOWN).collect();
                Shown::Value(format!("{cut}... ({} bytes)", text.len()))
            }
            Some(text) => Shown::Value(text.to_owned()),
        }
    }
}

/// Parts of two long values from where they differ, or shortly before: the position counts bytes.
pub(super) fn shown_parts(
    (one, bytes): (&[u8], i64),
    (other, other_bytes): (&[u8], i64),
    from: usize,
) -> (Shown, Shown) {
    let alike = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let skip = alike.saturating_sub(SHOWN / 4);
    let part = |text: &[u8], bytes: i64| {
        let rest: String = text_of(text.get(skip..).unwrap_or_default())
            .chars()
            .take(SHOWN)
            .collect();
        Shown::Value(format!(
            "...{rest} (from byte {}, {bytes} bytes)",
            from + skip + 1
        ))
    };
    (part(one, bytes), part(other, other_bytes))
}

/// Bytes as text: those that are none are written as numbers, so that two that differ look different.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Of two long values, the parts from shortly before where they differ.
pub(super) fn shown_pair(one: Option<&str>, other: Option<&str>) -> (Shown, Shown) {
    let (Some(left), Some(right)) = (one, other) else {
        return (Shown::of(one), Shown::of(other));
    };
    let alike = left
        .chars()
        .zip(right.chars())
        .take_while(|(one, other)| one == other)
        .count();
    let skip = if alike > SHOWN / 2 {
        alike - SHOWN / 4
    } else {
        0
    };
    let part = |text: &str| match skip {
        0 => Shown::of(Some(text)),
        _ => {
            let rest: String = text.chars().skip(skip).take(SHOWN).collect();
            Shown::Value(format!(
                "...{rest} (from character {}, {} bytes)",
                skip + 1,
                text.len()
            ))
        }
    };
    (part(left), part(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_look_different() {
        assert_eq!(text_of("caf\u{e9}".as_bytes()), "caf\u{e9}");
        assert_ne!(text_of(b"caf\xe9"), text_of(b"caf\xe8"));
        // A piece may begin within a character.
        let (one, other) = shown_parts((b"\xa9x", 9), (b"\xa8x", 9), 4);
        assert_ne!(one, other);
    }

    #[test]
    fn long_values_are_shown_where_they_differ() {
        let long = |end: &str| format!("{}{end}", "x".repeat(200));
        let (one, other) = shown_pair(Some(&long("a")), Some(&long("b")));
        let (Shown::Value(one), Shown::Value(other)) = (one, other) else {
            panic!("values");
        };
        assert!(
            one.contains("xa (") && other.contains("xb ("),
            "{one} {other}"
        );
        assert_eq!(
            shown_pair(Some("a"), None),
            (Shown::Value("a".into()), Shown::Null(()))
        );
    }
}
