//! Reading one value: what it has to look like, and what to say when it does not.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::source::Source;
use super::tree::{Entry, Node, Value};
use crate::value::{MAX_IDENT_BYTES, Size, TableName};

/// Keys that begin so are the user's own, wherever they stand.
const PRIVATE: &str = "x-";

/// What `flare init_config` leaves for the user to fill in.
pub(super) const UNFILLED: &str = "CHANGE_ME";

/// A value that was found, with the path that leads to it.
pub(super) struct Field<'t> {
    pub(super) source: &'t Source,
    /// `hosts.publisher.conn.port`; empty for the whole document.
    pub(super) path: String,
    /// The line of its key.
    pub(super) line: usize,
    pub(super) node: &'t Node,
}

impl<'t> Field<'t> {
    /// The whole document.
    pub(super) fn root(source: &'t Source, node: &'t Node) -> Self {
        Field {
            source,
            path: String::new(),
            line: 1,
            node,
        }
    }

    /// Records what is wrong with this value.
    pub(super) fn problem(&self, what: impl Display) {
        let line = match self.node.value {
            Value::Text(_) => self.node.line,
            _ => self.line,
        };
        match self.path.as_str() {
            "" => self.source.problem(line, what),
            path => self.source.problem(line, format!("{path}: {what}")),
        }
    }

    /// The text as it stands, empty text included; anything but a scalar is a problem.
    pub(super) fn raw_text(&self) -> Option<&'t str> {
        match &self.node.value {
            Value::Text(text) if text.contains(UNFILLED) => {
                self.problem(format!("{UNFILLED} is still there; put the real value"));
                None
            }
            Value::Text(text) if text.contains('\0') => {
                self.problem("holds a NUL character");
                None
            }
            Value::Text(text) => Some(text),
            Value::Null => {
                self.problem("has no value");
                None
            }
            Value::List(_) | Value::Map(_) => {
                self.problem(format!("is {}; text is expected", self.kind()));
                None
            }
        }
    }

    /// Text that says something.
    pub(super) fn text(&self) -> Option<String> {
        self.parse(|text| Ok(text.to_owned()))
    }

    /// Text in a form of its own. `read` says what is wrong with it.
    pub(super) fn parse<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.raw_text()?;
        if text.is_empty() {
            self.problem("is empty");
            return None;
        }
        read(text).map_err(|what| self.problem(what)).ok()
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        self.parse(|text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                format!("{text:?} is none of {}", all.join(", "))
            })
        })
    }

    /// `true` or `false`, or what else YAML and PostgreSQL take for them.
    pub(super) fn switch(&self) -> Option<bool> {
        self.parse(|text| match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" => Ok(true),
            "false" | "off" | "no" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        })
    }

    /// The name of a database, a role, a publication or a subscription.
    pub(super) fn name(&self) -> Option<String> {
        self.parse(|text| valid_name(text).map(|()| text.to_owned()))
    }

    /// A table, `table` or `schema.table`.
    pub(super) fn table(&self) -> Option<TableName> {
        self.parse(|text| text.parse().map_err(|error| format!("{error}")))
    }

    /// A size, `64MB`.
    pub(super) fn size(&self) -> Option<Size> {
        self.parse(|text| text.parse().map_err(|error| format!("{error}")))
    }

    /// A time that is not zero: `1m30s`, or a number of seconds.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.parse(|text| match duration_of(text) {
            Some(Duration::ZERO) => Err("has to be longer than zero".into()),
            Some(duration) => Ok(duration),
            None => Err(format!("{text:?} is not a duration like 10s or 1m30s")),
        })
    }

    /// A port, quoted or not.
    pub(super) fn port(&self) -> Option<u16> {
        self.parse(|text| match text.parse() {
            Ok(0) | Err(_) => Err(format!("{text:?} is not a port (1 to 65535)")),
            Ok(port) => Ok(port),
        })
    }

    /// The address of one server: a name, an address or the directory of a socket.
    pub(super) fn host(&self) -> Option<String> {
        self.parse(|text| {
            if text.contains([',', ' ', '\t', '\n']) {
                Err(format!("{text:?} is not the name of one host"))
            } else {
                Ok(text.to_owned())
            }
        })
    }

    /// A path; relative ones start at the configuration's directory.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.parse(|text| Ok(self.source.resolve(text)))
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// A list, each item read alike.
    pub(super) fn list<T>(&self, read: impl Fn(&Field<'t>) -> Option<T>) -> Option<Vec<T>> {
        let Value::List(items) = &self.node.value else {
            self.problem(format!("is {}; a list is expected", self.kind()));
            return None;
        };
        let fields = items.iter().enumerate().map(|(at, node)| Field {
            source: self.source,
            path: format!("{}[{at}]", self.path),
            line: node.line,
            node,
        });
        let read: Vec<Option<T>> = fields.map(|field| read(&field)).collect();
        read.into_iter().collect()
    }

    /// A program and its arguments.
    pub(super) fn argv(&self) -> Option<Vec<String>> {
        let argv = self.list(|item| item.raw_text().map(str::to_owned))?;
        if argv.first().is_none_or(String::is_empty) {
            self.problem("names no program; write [program, argument, ...]");
            None
        } else {
            Some(argv)
        }
    }

    /// A mapping whose keys are the user's: each with its value.
    pub(super) fn named(&self) -> Option<Vec<(String, Field<'t>)>> {
        let fields = self.entries()?.into_iter().map(|entry| {
            let field = Field {
                source: self.source,
                path: joined(&self.path, &entry.key),
                line: entry.line,
                node: &entry.value,
            };
            (entry.key.clone(), field)
        });
        Some(fields.collect())
    }

    /// Whether this is a mapping.
    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// The entries of a mapping but for the user's own; of nothing, none.
    pub(super) fn entries(&self) -> Option<Vec<&'t Entry>> {
        match &self.node.value {
            Value::Null => Some(Vec::new()),
            Value::Map(entries) => Some(
                entries
                    .iter()
                    .filter(|entry| !entry.key.starts_with(PRIVATE))
                    .collect(),
            ),
            Value::Text(_) | Value::List(_) => {
                self.problem(format!("is {}; a mapping is expected", self.kind()));
                None
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self.node.value {
            Value::Null => "empty",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Why a name cannot be one of PostgreSQL's.
pub(super) fn valid_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("is empty".into()),
        name if name.contains(UNFILLED) => Err(format!("{UNFILLED} is still there")),
        name if name.contains('\0') => Err("holds a NUL character".into()),
        name if name.len() > MAX_IDENT_BYTES => Err(format!(
            "{name:?} is longer than {MAX_IDENT_BYTES} bytes, which PostgreSQL would cut off"
        )),
        _ => Ok(()),
    }
}

/// `1m30s`, or a plain number of seconds.
pub(super) fn duration_of(text: &str) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    }
}

/// A key added to a path.
pub(super) fn joined(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}
