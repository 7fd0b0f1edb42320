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
    /// Asked by the databases' owner in a session of its own, where the administrator's answers call for it.
    pub(crate) by_owner: Option<CalledFor>,
}

/// A question of the administrator, and which of its rows call for another question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CalledFor {
    by: &'static str,
    row: fn(&Value) -> bool,
}

impl PartialEq for CalledFor {
    fn eq(&self, other: &Self) -> bool {
        self.by == other.by
    }
}

impl Eq for CalledFor {}

impl CalledFor {
    pub(super) fn is_met(&self, answers: &Answers) -> bool {
        let rows = answers.rows.get(self.by);
        rows.is_some_and(|rows| rows.iter().any(self.row))
    }
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
            by_owner: None,
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

    /// Runs code of the database, which no administrator does: the databases' owner asks, where such a row is there.
    pub(crate) const fn by_owner_where(
        mut self,
        by: &'static str,
        row: fn(&Value) -> bool,
    ) -> Question<T> {
        self.text.by_owner = Some(CalledFor { by, row });
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
    /// What was asked in another session.
    pub(super) fn add(&mut self, more: Answers) {
        self.rows.extend(more.rows);
        self.unseen.extend(more.unseen);
    }

    /// These could not be asked.
    pub(super) fn leave(&mut self, questions: &[Text], why: &str) {
        let unseen = questions.iter().map(|it| (it.name, why.to_owned()));
        self.unseen.extend(unseen);
    }

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
