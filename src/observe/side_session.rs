//! The session on one side of a subscription: opened when it is asked, given up after an error, opened again with the next question.

use std::sync::Arc;
use std::time::Duration;

use postgres::Statement;
use postgres::types::{ToSql, Type};
use serde::de::DeserializeOwned;

use super::sample::{PublisherSample, SubscriberSample};
use super::unanswered::Unanswered;
use crate::config::{Account, Config, Host};
use crate::error::{Failure, Result, WrapErr};
use crate::journal::Direction;
use crate::server::{Facts, Opened, Param, Server, Session, Side, Timeout, params};

/// How long an answer may take; on a frozen server it never comes.
const ANSWER_WITHIN: Timeout = Timeout::For(Duration::from_secs(3));

/// What a server does for the subscription.
#[derive(Clone, Copy)]
enum Role {
    Sends,
    Receives,
}

/// Which servers of the configuration the data comes from and goes to.
pub(super) fn sides(direction: Direction) -> (Side, Side) {
    direction.sides()
}

/// What came of opening the servers that did not answer a moment ago: they are not asked again.
#[derive(Debug, Default)]
pub(crate) struct Silent {
    publisher: Option<Unanswered>,
    subscriber: Option<Unanswered>,
}

impl Silent {
    /// Those of the two.
    pub(crate) fn of(opened: &Opened) -> Silent {
        Silent {
            publisher: opened.publisher.as_ref().err().map(Unanswered::from),
            subscriber: opened.subscriber.as_ref().err().map(Unanswered::from),
        }
    }

    fn about(&self, side: Side) -> Option<Unanswered> {
        match side {
            Side::Publisher => self.publisher.clone(),
            Side::Subscriber => self.subscriber.clone(),
        }
    }
}

/// The session on one side, opened again when it was lost, and the query of a sample of that side and version.
pub(super) struct SideSession {
    role: Role,
    side: Side,
    config: Arc<Config>,
    application_name: String,
    dbname: String,
    silent: Option<Unanswered>,
    session: Option<Session>,
    sql: String,
    major: i32,
    asks: Asks,
}

/// How often a session asks for a sample's part.
enum Asks {
    /// Once, in as few round trips as can be.
    Once,
    /// Again and again: reading and planning the query costs more than its answer, so the server does that once.
    AgainAndAgain(Option<Statement>),
}

impl SideSession {
    /// Where the data comes from, for all its databases.
    pub(super) fn publisher(
        config: &Arc<Config>,
        application_name: &str,
        direction: Direction,
    ) -> SideSession {
        let (from, _) = sides(direction);
        SideSession::new(Role::Sends, from, config, application_name, "postgres")
    }

    /// A database of where it goes.
    pub(super) fn subscriber(
        config: &Arc<Config>,
        application_name: &str,
        direction: Direction,
        dbname: &str,
    ) -> SideSession {
        let (_, to) = sides(direction);
        SideSession::new(Role::Receives, to, config, application_name, dbname)
    }

    fn new(
        role: Role,
        side: Side,
        config: &Arc<Config>,
        application_name: &str,
        dbname: &str,
    ) -> SideSession {
        SideSession {
            role,
            side,
            config: config.clone(),
            application_name: application_name.to_owned(),
            dbname: dbname.to_owned(),
            silent: None,
            session: None,
            sql: String::new(),
            major: 0,
            asks: Asks::Once,
        }
    }

    /// The same side, asked again and again.
    pub(super) fn again_and_again(mut self) -> SideSession {
        self.asks = Asks::AgainAndAgain(None);
        self
    }

    /// The same side, asked in this database.
    pub(super) fn in_database(mut self, dbname: &str) -> SideSession {
        dbname.clone_into(&mut self.dbname);
        self
    }

    /// Asks something of its own, opening the session first where there is none; after an error it is given up.
    pub(super) fn with_session<T>(&mut self, ask: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        if self.session.is_none() {
            self.open()?;
        }
        let Some(session) = &self.session else {
            return Failure::new("the session has ended").err();
        };
        let answer = ask(session);
        if answer.is_err() {
            self.session = None;
        }
        answer
    }

    /// The same side, not to be asked if it is one of those.
    pub(super) fn unless(mut self, silent: &Silent) -> SideSession {
        self.silent = silent.about(self.side);
        self
    }

    /// A session of its own in a database of this side.
    pub(super) fn enter(&self, dbname: &str) -> Result<(Session, Facts)> {
        self.enter_as(&self.declared().superuser, dbname)
    }

    /// The same of the databases' owner.
    pub(super) fn enter_as_owner(&self, dbname: &str) -> Result<Session> {
        Ok(self.enter_as(&self.declared().db_owner, dbname)?.0)
    }

    fn declared(&self) -> &Host {
        self.side.host(&self.config)
    }

    fn enter_as(&self, account: &Account, dbname: &str) -> Result<(Session, Facts)> {
        if let Some(why) = &self.silent {
            return Err(why.clone().into());
        }
        let (session, facts) = Server::look_in(
            self.side,
            self.declared(),
            account,
            dbname,
            &self.application_name,
        )?;
        Ok((session.with_timeout(ANSWER_WITHIN), facts))
    }

    /// Opens the session, and finds out how to ask it.
    pub(super) fn open(&mut self) -> Result<()> {
        let (session, facts) = self.enter(&self.dbname)?;
        let major = facts.version_num / 10_000;
        self.major = major;
        self.sql = match self.role {
            Role::Sends => PublisherSample::sql(major),
            Role::Receives => {
                let readable = facts.superuser
                    || major >= 14
                    || session.value(
                        "SELECT has_column_privilege('pg_subscription', 'oid', 'SELECT')",
                        params![],
                    )?;
                SubscriberSample::sql(major, readable)
            }
        };
        self.session = Some(session);
        if let Asks::AgainAndAgain(kept) = &mut self.asks {
            *kept = None;
        }
        Ok(())
    }

    /// The major version of the server that answered last.
    pub(super) fn major(&self) -> i32 {
        self.major
    }

    /// The session, while there is one.
    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Asks for a sample's part.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, params: Vec<Param>) -> Result<T> {
        if self.session.is_none() {
            self.open()?;
        }
        let sql = self.sql.clone();
        let answer = match &self.asks {
            Asks::Once => self.with_session(|session| session.first(&sql, params)),
            Asks::AgainAndAgain(kept) => {
                let kept = kept.clone();
                self.with_session(|session| first_again(session, sql, kept, params))
                    .map(|(statement, answer)| {
                        self.asks = Asks::AgainAndAgain(Some(statement));
                        answer
                    })
            }
        };
        answer?.ok_or_else(|| Failure::new("sample: the server said nothing").into())
    }
}

/// The first row's JSON, of a statement that the session keeps.
fn first_again<T: DeserializeOwned>(
    session: &Session,
    sql: String,
    kept: Option<Statement>,
    params: Vec<Param>,
) -> Result<(Statement, Option<T>)> {
    let (values, types): (Vec<_>, Vec<Type>) = params.into_iter().unzip();
    let (statement, row) = session.run(move |client| {
        let statement = match kept {
            Some(statement) => statement,
            None => client.prepare_typed(&sql, &types)?,
        };
        let values: Vec<&(dyn ToSql + Sync)> = values
            .iter()
            .map(|it| it.as_ref() as &(dyn ToSql + Sync))
            .collect();
        let row = client.query_opt(&statement, &values)?;
        let value: Option<serde_json::Value> = row.map(|row| row.try_get(0)).transpose()?;
        Ok((statement, value))
    })?;
    let answer = row.map(serde_json::from_value).transpose();
    Ok((statement, answer.wrap_err("read a row of the catalog")?))
}
