//! Options of CREATE SUBSCRIPTION (manual: "CREATE SUBSCRIPTION"), checked against the subscriber's version.

use std::fmt;

use indexmap::IndexMap;

use crate::config::is_on;
use crate::error::{Failure, Result};
use crate::value::Literal;

/// What an option takes.
#[derive(Clone, Copy, Debug)]
enum Takes {
    Boolean,
    /// One of these words, or a boolean.
    WordOrBoolean(&'static [&'static str]),
    Word(&'static [&'static str]),
}

/// What an option takes for a boolean: less than a setting does (`defGetBoolean` in src/backend/commands/define.c).
const BOOLEANS: [&str; 6] = ["on", "off", "true", "false", "1", "0"];

/// Each with the version that brought it.
const KNOWN: [(&str, i32, Takes); 10] = [
    ("binary", 14, Takes::Boolean),
    ("copy_data", 10, Takes::Boolean),
    ("disable_on_error", 15, Takes::Boolean),
    ("failover", 17, Takes::Boolean),
    ("origin", 16, Takes::Word(&["none", "any"])),
    ("password_required", 16, Takes::Boolean),
    ("run_as_owner", 16, Takes::Boolean),
    ("streaming", 14, Takes::WordOrBoolean(&["parallel"])),
    (
        "synchronous_commit",
        10,
        Takes::WordOrBoolean(&["local", "remote_write", "remote_apply"]),
    ),
    ("two_phase", 15, Takes::Boolean),
];
/// Set by flare: the slot is made beforehand, through a session that has proven where it is.
const FLARES_OWN: [&str; 4] = ["connect", "create_slot", "enabled", "slot_name"];

/// Whether the rows that are there already are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    Rows,
    Nothing,
}

/// Options as they go into the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// `, name = 'value'` for each.
    pub(crate) sql: String,
    pub(crate) copy: Copy,
    pub(crate) failover: bool,
    /// Changes are applied as the subscription's owner instead of each table's (16+).
    pub(crate) run_as_owner: bool,
}

impl Options {
    /// The same for a subscription whose rows are there already, and which begins when it is told to.
    pub(crate) fn without_rows(mut self) -> Options {
        self.sql.push_str(", copy_data = false, enabled = false");
        self.copy = Copy::Nothing;
        self
    }

    /// Reads the options of the configuration for a subscriber of this major version.
    pub(crate) fn read(
        subname: &str,
        options: &IndexMap<String, String>,
        major: i32,
    ) -> Result<Options> {
        let mut sql = String::new();
        for (name, value) in options {
            check(subname, name, value, major)?;
            sql.push_str(&format!(", {name} = {}", Literal(value)));
        }
        let on = |name: &str| options.get(name).map(|value| is_on(value));
        Ok(Options {
            sql,
            copy: match on("copy_data") {
                Some(false) => Copy::Nothing,
                _ => Copy::Rows,
            },
            failover: on("failover") == Some(true),
            run_as_owner: on("run_as_owner") == Some(true),
        })
    }
}

fn check(subname: &str, name: &str, value: &str, major: i32) -> Result<()> {
    let attempt = format!("create subscription {subname:?} with option {name}");
    if FLARES_OWN.contains(&name) {
        return Failure::usage(format!("{attempt}: flare sets it itself"))
            .hint(format!("remove it from subscriptions.{subname}.options"))
            .err();
    }
    let Some((_, since, takes)) = KNOWN.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<&str> = KNOWN.iter().map(|(known, ..)| *known).collect();
        return Failure::usage(format!("{attempt}: CREATE SUBSCRIPTION has no such option"))
            .hint(format!(
                "correct subscriptions.{subname}.options: there are {}",
                known.join(", ")
            ))
            .err();
    };
    let since = match (name, value.eq_ignore_ascii_case("parallel")) {
        ("streaming", true) => 16,
        _ => *since,
    };
    if major < since {
        return Failure::usage(format!(
            "{attempt} = {value}: PostgreSQL {since} has it, and the subscriber runs {major}"
        ))
        .hint(format!("remove it from subscriptions.{subname}.options"))
        .err();
    }
    if takes.takes(value) {
        Ok(())
    } else {
        Failure::usage(format!("{attempt} = {value}: it takes {takes}"))
            .hint(format!("correct subscriptions.{subname}.options"))
            .err()
    }
}

impl Takes {
    fn words(self) -> &'static [&'static str] {
        match self {
            Takes::Boolean => &[],
            Takes::WordOrBoolean(words) | Takes::Word(words) => words,
        }
    }

    fn takes(self, value: &str) -> bool {
        let is = |word: &&str| word.eq_ignore_ascii_case(value);
        let boolean = !matches!(self, Takes::Word(_)) && BOOLEANS.iter().any(is);
        boolean || self.words().iter().any(is)
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let booleans: &[&str] = match self {
            Takes::Word(_) => &[],
            Takes::Boolean | Takes::WordOrBoolean(_) => &["on", "off"],
        };
        let all: Vec<&str> = booleans.iter().chain(self.words()).copied().collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)], major: i32) -> Result<Options> {
        let options = options
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Options::read("s", &options.collect(), major)
    }

    #[test]
    fn options_are_quoted_and_understood() {
        let options = read(
            &[
                ("streaming", "on"),
                ("copy_data", "off"),
                ("origin", "none"),
            ],
            16,
        )
        .unwrap();
        assert_eq!(
            options.sql,
            ", streaming = 'on', copy_data = 'off', origin = 'none'"
        );
        assert_eq!(options.copy, Copy::Nothing);
        assert!(!options.failover && read(&[("failover", "true")], 17).unwrap().failover);
    }

    #[test]
    fn what_the_version_lacks_is_a_usage_error_that_names_the_one_that_has_it() {
        for (name, value, major, word) in [
            ("binary", "true", 13, "PostgreSQL 14"),
            ("streaming", "parallel", 15, "PostgreSQL 16"),
            ("slot_name", "x", 18, "flare sets it"),
            ("slotname", "x", 18, "no such option"),
            ("binary", "yes", 18, "it takes on, off"),
            ("streaming", "paralel", 18, "it takes on, off, parallel"),
            ("origin", "on", 18, "it takes none, any"),
            ("synchronous_commit", "x'y", 18, "it takes on, off, local"),
        ] {
            let error = read(&[(name, value)], major).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(crate::error::exit_of(&error).code(), 2);
        }
    }
}
