//! Reading a mapping key by key. A key is known because it is asked for, so the code that reads a section is its only schema:
//! what nobody asked for is reported when the section is left.

use std::cell::RefCell;
use std::fmt::Display;

use super::field::{Field, joined};
use super::places::belongs;
use super::source::{Source, suggestion};
use super::tree::{Entry, Node, Value};

/// A mapping that is being read.
pub(super) struct Section<'t> {
    source: &'t Source,
    path: String,
    line: usize,
    entries: Vec<&'t Entry>,
    known: RefCell<Vec<String>>,
}

impl<'t> Field<'t> {
    /// A mapping whose keys are fixed.
    pub(super) fn section<T>(&self, read: impl FnOnce(&Section<'t>) -> Option<T>) -> Option<T> {
        let entries = self.entries()?;
        let section = Section {
            source: self.source,
            path: self.path.clone(),
            line: self.line,
            entries,
            known: RefCell::default(),
        };
        let value = read(&section);
        section.report_unknown();
        value
    }
}

impl<'t> Section<'t> {
    /// Records what is wrong with the section as a whole.
    pub(super) fn problem(&self, what: impl Display) {
        self.source
            .problem(self.line, format!("{}: {what}", self.path));
    }

    /// What a key holds; `None` when it is absent or empty.
    pub(super) fn get(&self, key: &str) -> Option<Field<'t>> {
        self.entry(key)
            .map(|entry| self.field(entry))
            .filter(|field| !matches!(field.node.value, Value::Null))
    }

    /// A value that has to be there.
    pub(super) fn required<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Field<'t>) -> Option<T>,
    ) -> Option<T> {
        if let Some(field) = self.get(key) {
            return read(&field);
        }
        match self.entry(key) {
            Some(entry) => self.field(entry).problem("has no value"),
            None if self.source.is_cut() => {}
            None => self
                .source
                .problem(self.line, format!("{} is missing", joined(&self.path, key))),
        }
        None
    }

    /// A value that may be absent.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Field<'t>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.get(key)
            .map_or(Some(None), |field| read(&field).map(Some))
    }

    /// A value with a default.
    pub(super) fn or<T>(
        &self,
        key: &str,
        default: T,
        read: impl FnOnce(&Field<'t>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).map_or(Some(default), |field| read(&field))
    }

    /// A mapping with fixed keys. An absent one is read as if it were empty, so that all it lacks is named at once.
    pub(super) fn section<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Section<'_>) -> Option<T>,
    ) -> Option<T> {
        if let Some(entry) = self.entry(key) {
            return self.field(entry).section(read);
        }
        let empty = Node::empty(self.line);
        let field = Field {
            source: self.source,
            path: joined(&self.path, key),
            line: self.line,
            node: &empty,
        };
        field.section(read)
    }

    fn entry(&self, key: &str) -> Option<&'t Entry> {
        let mut known = self.known.borrow_mut();
        if !known.iter().any(|name| name == key) {
            known.push(key.to_owned());
        }
        self.entries.iter().copied().find(|entry| entry.key == key)
    }

    fn field(&self, entry: &'t Entry) -> Field<'t> {
        Field {
            source: self.source,
            path: joined(&self.path, &entry.key),
            line: entry.line,
            node: &entry.value,
        }
    }

    fn report_unknown(&self) {
        let known = self.known.borrow();
        for entry in &self.entries {
            if !known.contains(&entry.key) {
                let place = match self.path.as_str() {
                    "" => "at the top".to_owned(),
                    path => format!("in {path}"),
                };
                let meant = suggestion(&entry.key, known.iter().map(String::as_str));
                let elsewhere = belongs(&entry.key, &self.path);
                self.source.problem(
                    entry.line,
                    format!("unknown key {:?} {place}{meant}{elsewhere}", entry.key),
                );
            }
        }
    }
}
