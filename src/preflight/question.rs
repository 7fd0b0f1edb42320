//! A question to a server: one SELECT whose only column is jsonb, and the type its rows are read as.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Result, WrapErr};

/// Where a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In `postgres`, once for the server.
    Server,
    /// In each database that moves.
    Database,
}

/// A question without the type of its rows. In its SQL `{dbname}`, `{pubname}`, `{subname}`, `{db_owner}` and `{repl}`
/// stand for literals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) sql: &'static str,
    /// The first version that it can be asked.
    pub(crate) since: i32,
    /// Whether as a rule only a superuser gets an answer.
    pub(crate) privileged: bool,
}

/// A question with the type of its rows.
pub(crate) struct Question<T> {
    pub(crate) text: Text,
    rows: PhantomData<fn() -> T>,
}

impl<T> Question<T> {
    /// Asked once for the server.
    pub(crate) const fn server(name: &'static str, sql: &'static str) -> Question<T> {
        Question::of(name, Place::Server, sql)
    }

    /// Asked in each database.
    pub(crate) const fn database(name: &'static str, sql: &'static str) -> Question<T> {
        Question::of(name, Place::Database, sql)
    }

    const fn of(name: &'static str, place: Place, sql: &'static str) -> Question<T> {
        let text = Text {
            name,
            place,
            sql,
            since: 10,
            privileged: false,
        };
        Question {
            text,
            rows: PhantomData,
        }
    }

    /// Only from this version on; older ones have no rows.
    pub(crate) const fn since(mut self, major: i32) -> Question<T> {
        self.text.since = major;
        self
    }

    /// As a rule only a superuser gets an answer.
    pub(crate) const fn privileged(mut self) -> Question<T> {
        self.text.privileged = true;
        self
    }
}

/// Which servers a check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Publisher,
    Subscriber,
    Both,
}

/// A question and whom it is put to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) on: On,
    pub(crate) text: Text,
}

impl<T> Question<T> {
    pub(crate) const fn on_publisher(&self) -> Ask {
        self.on(On::Publisher)
    }

    pub(crate) const fn on_subscriber(&self) -> Ask {
        self.on(On::Subscriber)
    }

    pub(crate) const fn on_both(&self) -> Ask {
        self.on(On::Both)
    }

    const fn on(&self, on: On) -> Ask {
        Ask {
            on,
            text: self.text,
        }
    }
}

/// What a server said, by question.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(super) rows: BTreeMap<&'static str, Vec<Value>>,
    /// Questions without an answer, and why.
    pub(super) unseen: BTreeMap<&'static str, String>,
}

impl Answers {
    /// The rows of a question, none where it got no answer.
    pub(crate) fn rows<T: DeserializeOwned>(&self, question: &Question<T>) -> Result<Vec<T>> {
        let name = question.text.name;
        let rows = self.rows.get(name).map(Vec::as_slice).unwrap_or_default();
        rows.iter()
            .map(|row| {
                serde_json::from_value(row.clone())
                    .wrap_err_with(|| format!("read the answer {name:?}"))
            })
            .collect()
    }
}
