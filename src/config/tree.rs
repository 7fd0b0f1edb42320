//! YAML as a tree that knows its lines. Every scalar keeps its text as written: `0123` and `1.10` may be passwords.

use std::rc::Rc;

/// A value and the line it starts on (from 1).
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
    /// How deep it nests, aliases included.
    pub(super) depth: usize,
}

pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A key, its line, and its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Rc<Node>,
}

impl Node {
    pub(super) fn new(line: usize, value: Value) -> Self {
        let below = match &value {
            Value::Null | Value::Text(_) => None,
            Value::List(items) => items.iter().map(|item| item.depth).max(),
            Value::Map(entries) => entries.iter().map(|entry| entry.value.depth).max(),
        };
        let depth = 1 + below.unwrap_or(0);
        Node { line, value, depth }
    }

    /// What an empty mapping would be.
    pub(super) fn empty(line: usize) -> Self {
        Node::new(line, Value::Map(Vec::new()))
    }

    /// The entry of a mapping.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The line of the key at the end of a path, or that of the last key on the way that exists.
    pub(super) fn line_of(&self, path: &[&str]) -> usize {
        match path
            .split_first()
            .map(|(key, rest)| (self.entry(key), rest))
        {
            Some((Some(entry), [])) => entry.line,
            Some((Some(entry), rest)) => entry.value.line_of(rest),
            _ => self.line,
        }
    }
}
