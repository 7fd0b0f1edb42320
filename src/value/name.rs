//! Names of database objects, exact and never folded.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Failure};

/// The longest name PostgreSQL keeps (`NAMEDATALEN` - 1); it cuts longer ones off.
pub const MAX_IDENT_BYTES: usize = 63;

/// A name; its `Display` is quoted for SQL, its [`Ident::as_str`] is the bare name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ident(String);

impl Ident {
    /// The name exactly as given.
    pub fn new(name: impl Into<String>) -> Self {
        Ident(name.into())
    }

    /// The bare name, for parameters and for people.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Ident {
    fn from(name: &str) -> Self {
        Ident::new(name)
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A table with its schema. Read from `table` (in public), `schema.table`, or `"sche.ma"."table"`; `Display` is quoted for SQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The schema.
    pub schema: Ident,
    /// The table itself.
    pub table: Ident,
}

impl TableName {
    /// A table of a schema.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        TableName {
            schema: Ident::new(schema),
            table: Ident::new(table),
        }
    }

    /// As people read it: quoted only where [`TableName::from_str`] needs the quotes.
    pub fn plain(&self) -> String {
        let part = |ident: &Ident| {
            if ident.as_str().contains(['.', '"']) || ident.as_str().is_empty() {
                ident.to_string()
            } else {
                ident.as_str().to_owned()
            }
        };
        format!("{}.{}", part(&self.schema), part(&self.table))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl FromStr for TableName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |why: &str| {
            Failure::usage(format!("read the table name {text:?}: {why}"))
                .hint("write table, schema.table, or \"sche.ma\".\"ta.ble\" for names with dots")
        };
        let parts = parts_of(text)
            .ok_or_else(|| refused("a quote is not closed or stands inside a bare name"))?;
        if let Some(long) = parts.iter().find(|part| part.len() > MAX_IDENT_BYTES) {
            return refused(&format!("{long:?} is longer than {MAX_IDENT_BYTES} bytes")).err();
        }
        match parts.as_slice() {
            parts if parts.iter().any(String::is_empty) => refused("a part of it is empty").err(),
            [table] => Ok(TableName::new("public", table)),
            [schema, table] => Ok(TableName::new(schema, table)),
            _ => refused("it has more than two parts").err(),
        }
    }
}

/// The parts between the dots; `None` when the quotes do not add up.
fn parts_of(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if !rest.starts_with('"') && part.contains('"') {
            return None;
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

/// The name up to its closing quote, and what stands behind that.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek()) {
            ('"', Some((_, '"'))) => {
                chars.next();
                name.push('"');
            }
            ('"', _) => return Some((name, &text[at + 1..])),
            _ => name.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_are_always_quoted() {
        assert_eq!(Ident::from("Order").to_string(), r#""Order""#);
        assert_eq!(Ident::from(r#"a"b'c; --"#).to_string(), r#""a""b'c; --""#);
    }

    #[test]
    fn table_names_are_exact_and_never_folded() {
        let read = |text: &str| text.parse::<TableName>().unwrap();
        assert_eq!(read("Order"), TableName::new("public", "Order"));
        assert_eq!(read("app.my events"), TableName::new("app", "my events"));
        assert_eq!(
            read(r#""sche.ma"."ta""ble""#),
            TableName::new("sche.ma", r#"ta"ble"#)
        );
        for wrong in [
            "",
            ".",
            "a.",
            "a.b.c",
            r#""open"#,
            r#"a"b"#,
            r#""a"b"#,
            &"x".repeat(64),
        ] {
            assert!(wrong.parse::<TableName>().is_err(), "{wrong:?} was read");
        }
    }

    proptest! {
        #[test]
        fn quoted_and_plain_forms_come_back(schema in ".{1,15}", table in ".{1,15}") {
            let name = TableName::new(schema, table);
            prop_assert_eq!(&name.to_string().parse::<TableName>().unwrap(), &name);
            prop_assert_eq!(&name.plain().parse::<TableName>().unwrap(), &name);
        }
    }
}
