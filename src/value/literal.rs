//! String literals for the statements that take no parameters (`CREATE SUBSCRIPTION`, `ALTER ROLE`, ...).

use std::fmt;

/// A string constant; its `Display` is quoted for SQL whatever `standard_conforming_strings` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal<S: AsRef<str>>(pub S);

impl<S: AsRef<str>> fmt::Display for Literal<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_ref();
        let quoted = text.replace('\'', "''");
        if text.contains('\\') {
            write!(f, " E'{}'", quoted.replace('\\', "\\\\"))
        } else {
            write!(f, "'{quoted}'")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(Literal("it's").to_string(), "'it''s'");
        assert_eq!(Literal(r"a\'b").to_string(), r" E'a\\''b'");
        assert_eq!(Literal("").to_string(), "''");
    }
}
