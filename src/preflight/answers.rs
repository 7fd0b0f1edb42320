//! The answers of both servers and of their databases, all asked at once.

use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use postgres::error::SqlState;

use super::ask::{Names, ask};
use super::family::subscription;
use super::question::{Answers, Ask, On, Place, Text};
use super::registry::Check;
use super::run::Scope;
use super::view::{Refusal, SideView};
use crate::config::{Host, Publication};
use crate::error::{Failure, Result, message_of};
use crate::journal::{Direction, Stream};
use crate::server::{Login, Server, Session, sqlstate_of};

/// Databases that are asked at the same time: one session each on both servers.
const AT_ONCE: usize = 4;

/// What the configuration declares for a database.
pub(super) struct Declared<'a> {
    pub(super) publication: &'a Publication,
    subname: Option<&'a str>,
}

impl<'a> Scope<'a> {
    pub(super) fn can_ask(&self, on: On) -> bool {
        match on {
            On::Publisher => self.publisher.is_some(),
            On::Subscriber => self.subscriber.is_some(),
            On::Both => self.publisher.is_some() && self.subscriber.is_some(),
        }
    }

    pub(super) fn declared(&self, dbname: &str) -> Result<Declared<'a>> {
        let publication = self.config.publication(dbname)?;
        let mut subscriptions = self.config.subscriptions.iter();
        let found =
            subscriptions.find(|(_, it)| it.dbname == dbname && it.pubname == publication.pubname);
        Ok(Declared {
            publication,
            subname: found.map(|(name, _)| name.as_str()),
        })
    }

    /// The names that questions about a database have in them.
    pub(super) fn names(&self, dbname: &str) -> Result<Names> {
        let declared = self.declared(dbname)?;
        let subname = declared.subname.unwrap_or_default();
        let pubname = &declared.publication.pubname;
        let stream = Stream::of(dbname, subname, pubname, self.direction);
        let host = self.from();
        Ok(Names {
            dbname: dbname.to_owned(),
            pubname: stream.pubname,
            subname: match declared.subname {
                Some(_) => stream.subname,
                None => String::new(),
            },
            db_owner: host.db_owner.user.clone(),
            repl: host.repl.as_ref().unwrap_or(&host.superuser).user.clone(),
        })
    }

    /// The servers themselves, at once.
    pub(super) fn servers_answer(&self, wanted: &[&Check]) -> Result<[Option<SideView>; 2]> {
        let host = self.from();
        let names = Names {
            repl: host.repl.as_ref().unwrap_or(&host.superuser).user.clone(),
            db_owner: host.db_owner.user.clone(),
            ..Names::default()
        };
        let answer = |server: Option<&Server>, on: On| -> Result<Option<SideView>> {
            let Some(server) = server else {
                return Ok(None);
            };
            let texts = texts(wanted, on, Place::Server);
            let answers = ask(
                server.admin(),
                server.major(),
                server.facts().superuser,
                &names,
                &texts,
            )?;
            Ok(Some(SideView {
                side: server.side(),
                major: server.major(),
                superuser: server.facts().superuser,
                user: server.declared().superuser.user.clone(),
                server: answers,
                database: None,
                refused: None,
            }))
        };
        std::thread::scope(|scope| {
            let subscriber = scope.spawn(|| answer(self.subscriber, On::Subscriber));
            let publisher = answer(self.publisher, On::Publisher)?;
            Ok([publisher, joined(subscriber)?])
        })
    }

    /// The host that the data comes from.
    fn from(&self) -> &'a Host {
        match self.direction {
            Direction::Forward => &self.config.publisher,
            Direction::Back => &self.config.subscriber,
        }
    }

    /// The databases of both servers, several at once.
    pub(super) fn databases_answer(
        &self,
        wanted: &[&Check],
        moving: &[Names],
    ) -> Result<Vec<[Entered; 2]>> {
        let mut entered = Vec::new();
        for moving in moving.chunks(AT_ONCE) {
            entered.extend(self.answer_at_once(wanted, moving)?);
        }
        Ok(entered)
    }

    fn answer_at_once(&self, wanted: &[&Check], moving: &[Names]) -> Result<Vec<[Entered; 2]>> {
        let on_publisher = texts(wanted, On::Publisher, Place::Database);
        let on_subscriber = texts(wanted, On::Subscriber, Place::Database);
        std::thread::scope(|scope| {
            let started: Vec<_> = moving
                .iter()
                .map(|names| {
                    let (publisher, subscriber) = (self.publisher, self.subscriber);
                    let (of_publisher, of_subscriber) = (&on_publisher, &on_subscriber);
                    [
                        scope.spawn(move || enter(publisher, names, of_publisher)),
                        scope.spawn(move || enter(subscriber, names, of_subscriber)),
                    ]
                })
                .collect();
            started
                .into_iter()
                .map(|[publisher, subscriber]| Ok([joined(publisher)?, joined(subscriber)?]))
                .collect()
        })
    }
}

/// What a database said, or why it could not be entered.
pub(super) enum Entered {
    Missing,
    Refused(Refusal),
    Said(Answers, Arc<Session>),
}

fn enter(server: Option<&Server>, names: &Names, texts: &[Text]) -> Result<Entered> {
    let Some(server) = server else {
        return Ok(Entered::Missing);
    };
    let session = match server.visit(&names.dbname) {
        Ok(session) => session,
        Err(report) => {
            return match sqlstate_of(&report) {
                Some(state) if *state == SqlState::INVALID_CATALOG_NAME => Ok(Entered::Missing),
                Some(state) => Ok(Entered::Refused(Refusal {
                    sqlstate: state.clone(),
                    words: message_of(&report),
                })),
                None => Err(report),
            };
        }
    };
    let (major, superuser) = (server.major(), server.facts().superuser);
    let (by_owner, by_admin): (Vec<Text>, Vec<Text>) =
        texts.iter().partition(|it| it.by_owner.is_some());
    let mut answers = ask(&session, major, superuser, names, &by_admin)?;
    let called_for = by_owner.into_iter().filter(|it| {
        let called_for = it.by_owner.as_ref();
        called_for.is_some_and(|it| it.is_met(&answers))
    });
    let called_for: Vec<Text> = called_for.collect();
    if !called_for.is_empty() {
        let said = server
            .connect(Login::DbOwner, &names.dbname)
            .and_then(|owner| ask(&owner, major, false, names, &called_for));
        match said {
            Ok(said) => answers.add(said),
            Err(report) => answers.leave(&called_for, &message_of(&report)),
        }
    }
    Ok(Entered::Said(answers, session))
}

/// A server with what one of its databases said, and the session there.
pub(super) fn within(
    server: Option<&SideView>,
    entered: Entered,
) -> (Option<SideView>, Option<Arc<Session>>) {
    let (database, refused, session) = match entered {
        Entered::Missing => (None, None, None),
        Entered::Refused(why) => (None, Some(why), None),
        Entered::Said(answers, session) => (Some(answers), None, Some(session)),
    };
    let view = server.map(|server| SideView {
        database,
        refused,
        ..server.clone()
    });
    (view, session)
}

/// The questions that the checks put to a side in this place, each once.
fn texts(wanted: &[&Check], side: On, place: Place) -> Vec<Text> {
    let mut texts: Vec<Text> = Vec::new();
    let asks = wanted.iter().flat_map(|check| check.asks);
    let extra: &[Ask] = subscription::PROGRESS;
    for Ask { on, text } in asks.chain(extra) {
        let asked = *on == side || *on == On::Both;
        if asked && text.place == place && !texts.contains(text) {
            texts.push(*text);
        }
    }
    texts
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Failure::new("look at a server: its thread has ended").err())
}
