//! What a judgement looks at: the configuration, and what both servers have answered.

use postgres::error::SqlState;
use serde::de::DeserializeOwned;

use super::question::{Answers, Question};
use super::registry::Before;
use super::run::Later;
use crate::config::{Config, Publication};
use crate::error::Result;
use crate::server::Side;
use crate::value::ShellWord;

/// What one server has answered.
#[derive(Clone, Debug)]
pub(crate) struct SideView {
    pub(crate) side: Side,
    pub(crate) major: i32,
    pub(crate) superuser: bool,
    /// The administrator's role.
    pub(crate) user: String,
    pub(crate) server: Answers,
    /// None: the database is not there, or could not be entered, or nothing in it is looked at.
    pub(crate) database: Option<Answers>,
    /// Why the database could not be entered.
    pub(crate) refused: Option<Refusal>,
}

/// A login that a server refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) sqlstate: SqlState,
    /// In the server's language.
    pub(crate) words: String,
}

impl SideView {
    /// The rows of a question, in the server or in the database.
    pub(crate) fn rows<T: DeserializeOwned>(&self, question: &Question<T>) -> Result<Vec<T>> {
        match question.text.place {
            super::question::Place::Server => self.server.rows(question),
            super::question::Place::Database => match &self.database {
                Some(answers) => answers.rows(question),
                None => Ok(Vec::new()),
            },
        }
    }

    /// The first of them.
    pub(crate) fn first<T: DeserializeOwned>(&self, question: &Question<T>) -> Result<Option<T>> {
        Ok(self.rows(question)?.into_iter().next())
    }
}

/// A database that moves, as the configuration has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moving<'a> {
    pub(crate) dbname: &'a str,
    pub(crate) publication: &'a Publication,
    /// The publication's name in the data's direction.
    pub(crate) pubname: &'a str,
    pub(crate) subname: Option<&'a str>,
}

/// All of it.
pub(crate) struct View<'a> {
    pub(crate) config: &'a Config,
    /// In the data's direction.
    pub(crate) publisher: Option<&'a SideView>,
    pub(crate) subscriber: Option<&'a SideView>,
    /// None for what concerns the servers alone.
    pub(crate) moving: Option<Moving<'a>>,
    /// How many databases move, and how many of them have no subscription yet.
    pub(crate) databases: usize,
    pub(crate) unsubscribed: usize,
    /// Whether a way back is to be made.
    pub(crate) reverse: bool,
    pub(crate) later: Later,
    /// For which command it looks.
    pub(crate) before: Before,
    /// Every table is copied, and the subscription follows.
    pub(crate) streams: bool,
    /// The subscription is there.
    pub(crate) subscribed: bool,
}

/// Both ends of the stream, by the names that the configuration has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) from: Side,
    pub(crate) to: Side,
}

impl Ends {
    /// As the configuration has them, before a cutover.
    #[cfg(test)]
    pub(crate) const FORWARD: Ends = Ends {
        from: Side::Publisher,
        to: Side::Subscriber,
    };

    pub(crate) fn is_back(self) -> bool {
        self.from == Side::Subscriber
    }

    /// What a title says of the way forward, for the way that the data goes.
    pub(super) fn of_title(self, title: &str) -> String {
        if !self.is_back() {
            return title.to_owned();
        }
        let between = title.split("publisher");
        let swapped: Vec<String> = between
            .map(|it| it.replace("subscriber", "publisher"))
            .collect();
        swapped.join("subscriber")
    }

    /// What is left to do where the stream is lost, or lacks rows that are not sent again.
    pub(super) fn anew(self, subname: &str) -> String {
        if self.is_back() {
            "nothing leads back any more: flare cleanup ends the migration".to_owned()
        } else {
            format!(
                "flare drop_subscription {subname}, empty its tables on the {}, then flare create_subscription {subname}: the rows have to be copied anew",
                self.to,
                subname = ShellWord(subname)
            )
        }
    }
}

impl View<'_> {
    pub(crate) fn ends(&self) -> Ends {
        let of_subscriber = self.subscriber.map(|it| it.side.other());
        let from = self.publisher.map(|it| it.side).or(of_subscriber);
        let from = from.unwrap_or(Side::Publisher);
        Ends {
            from,
            to: from.other(),
        }
    }

    /// Whether the data flows back: the application has been moved already.
    pub(crate) fn is_back(&self) -> bool {
        self.ends().is_back()
    }
}
