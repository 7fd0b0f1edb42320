//! Numbers of things, as people say them.

use std::fmt::Display;

/// `1 table`, `2 tables`: the noun is one that takes an s.
pub(crate) fn counted(n: impl Display, noun: &str) -> String {
    match n.to_string().as_str() {
        "1" => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let said = [0, 1, 2, 11, 21].map(|n| counted(n, "row"));
        assert_eq!(said, ["0 rows", "1 row", "2 rows", "11 rows", "21 rows"]);
    }
}
