//! What a command ends with, before anybody has seen it.

use std::fmt::Display;
use std::fs::File;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result, WrapErr};
use crate::replicate::Change;

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a person.
    #[default]
    Human,
    /// For a program: exactly one JSON object.
    Json,
    /// For Nagios and its kind, as a plugin prints it; of `lag` alone.
    Nagios,
}

/// The end of a command: its fields, its words, and whether it changed something.
#[derive(Debug, Default)]
pub struct Outcome {
    pub(super) fields: Map<String, Value>,
    pub(super) words: String,
    pub(super) changed: bool,
    pub(super) verdict: Option<Error>,
    pub(super) sql: Option<File>,
    pub(super) exit_code: i32,
    pub(super) silent: bool,
    pub(super) verdict_in_words: bool,
}

impl Outcome {
    /// A result that serialises to an object and reads as text.
    pub fn of<T: Serialize + Display>(value: &T) -> Result<Outcome> {
        let fields = match serde_json::to_value(value).wrap_err("write the result as JSON")? {
            Value::Object(mut fields) => {
                fields.shift_remove("changed");
                fields
            }
            other => Map::from_iter([("result".to_owned(), other)]),
        };
        Ok(Outcome {
            fields,
            words: value.to_string(),
            ..Outcome::default()
        })
    }

    /// A change, with its `changed`.
    pub fn of_change(change: &Change) -> Result<Outcome> {
        Ok(Outcome::of(change)?.changed(change.changed))
    }

    /// Nothing to say, in JSON neither: everything has been said on the way (`monitor`).
    pub fn silent() -> Outcome {
        Outcome {
            silent: true,
            ..Outcome::default()
        }
    }

    /// Other words for the same fields.
    pub fn words(mut self, words: String) -> Outcome {
        self.words = words;
        self
    }

    /// Whether the command changed something on a server.
    pub fn changed(mut self, changed: bool) -> Outcome {
        self.changed = changed;
        self
    }

    /// It was looked at, and the answer is no: printed with the fields, after the words.
    pub fn verdict(mut self, verdict: Option<impl Into<Error>>) -> Outcome {
        self.verdict = verdict.map(Into::into);
        self
    }

    /// The words tell the verdict already: standard error stays empty.
    pub fn verdict_is_in_words(mut self) -> Outcome {
        self.verdict_in_words = true;
        self
    }

    /// SQL for standard output, streamed; the field `sql` in JSON.
    pub fn sql(mut self, file: File) -> Outcome {
        self.sql = Some(file);
        self
    }

    /// An exit code of the command's own (`lag`, `exec`).
    pub fn exit_code(mut self, code: i32) -> Outcome {
        self.exit_code = code;
        self
    }
}
