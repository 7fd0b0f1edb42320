//! A name as one word of a command line.

use std::fmt;

/// Quoted where a shell would take it apart.
pub(crate) struct ShellWord<'a>(pub(crate) &'a str);

impl fmt::Display for ShellWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '@');
        if !self.0.is_empty() && !self.0.starts_with('-') && self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "'{}'", self.0.replace('\'', r"'\''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_one_word() {
        for (name, shown) in [
            ("bench1", "bench1"),
            ("bench-pub", "bench-pub"),
            ("", "''"),
            ("sub Order", "'sub Order'"),
            (r#"a"b'c; --"#, r#"'a"b'\''c; --'"#),
        ] {
            assert_eq!(ShellWord(name).to_string(), shown);
        }
    }
}
