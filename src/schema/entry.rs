//! What pg_dump says about an object in the comment before its statements.

use std::fmt;

/// `-- Name: customers; Type: TABLE; Schema: app; Owner: app`. Line breaks in names are blanks here, as pg_dump writes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    /// `TABLE`, `FK CONSTRAINT`, `ACL`, ...
    pub(crate) kind: String,
    /// `-` where there is none.
    pub(crate) schema: String,
    /// The name, with what makes it unique in its kind: arguments of a function, the table of a trigger.
    pub(crate) name: String,
    /// `-` where there is none.
    pub(crate) owner: String,
}

impl Entry {
    /// The entry of a comment line, if it is one.
    pub(super) fn read(line: &[u8]) -> Option<Entry> {
        let line = String::from_utf8_lossy(line);
        let text = line.trim_end_matches(['\n', '\r']).strip_prefix("-- ")?;
        let text = text.strip_prefix("Data for ").unwrap_or(text);
        let text = text.strip_prefix("Name: ")?;
        // From the right: a hostile object name may hold `; Type: `, the fields behind it seldom do.
        let (text, owner) = text.rsplit_once("; Owner: ")?;
        let (text, schema) = text.rsplit_once("; Schema: ")?;
        let (name, kind) = text.rsplit_once("; Type: ")?;
        let owner = owner.split("; Tablespace: ").next().unwrap_or(owner);
        let own = str::to_owned;
        Some(Entry {
            kind: own(kind),
            schema: own(schema),
            name: own(name),
            owner: own(owner),
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.schema.as_str() {
            "-" | "" => write!(f, "{} {}", self.kind, self.name),
            schema => write!(f, "{} {} in schema {schema}", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_from_the_right() {
        let entry = Entry::read(
            b"-- Name: a; Type: X; Type: TABLE; Schema: app; Owner: o; Tablespace: t\n",
        )
        .unwrap();
        assert_eq!(entry.name, "a; Type: X");
        assert_eq!(entry.to_string(), "TABLE a; Type: X in schema app");
        assert_eq!(entry.owner, "o");
        assert_eq!(Entry::read(b"-- Dumped by pg_dump version 18.6\n"), None);
        assert_eq!(Entry::read(b"--\n"), None);
    }
}
