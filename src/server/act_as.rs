//! As whom a session acts: all sessions of a verified server are opened here.

use postgres::error::SqlState;

use super::credentials::Login;
use super::facts::Facts;
use super::session::Session;
use super::verified::Server;
use super::{is_denied, sqlstate_of};
use crate::error::{Advise, Result, WrapErr};
use crate::value::Ident;

/// As whom a session acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActAs {
    /// As an account that the configuration declares, and that logs in by itself.
    Itself(Login),
    /// The same; where nobody but those who stay may connect, the administrator comes in and acts for the owner: the
    /// database is never opened for it.
    EvenShutOut(Login),
    /// As who may lock, write and change the database's tables: the administrator where it is a superuser, else the owner,
    /// even where it is shut out.
    Tables,
    /// As the databases' owner: a superuser acting for it, which event triggers do not see, else the owner itself, even
    /// where it is shut out.
    Owner,
}

impl From<Login> for ActAs {
    fn from(login: Login) -> ActAs {
        ActAs::Itself(login)
    }
}

impl Server {
    /// A session in a database, which has proven that it is one of this server.
    pub(crate) fn connect(&self, who: impl Into<ActAs>, dbname: &str) -> Result<Session> {
        Ok(self.introduce(who, dbname)?.0)
    }

    /// The same, with what the server says of it.
    pub(crate) fn introduce(
        &self,
        who: impl Into<ActAs>,
        dbname: &str,
    ) -> Result<(Session, Facts)> {
        match self.as_it_logs_in(who.into()) {
            ActAs::Itself(login) => self.log_in(login, dbname),
            ActAs::EvenShutOut(_) | ActAs::Tables => self.own(dbname),
            ActAs::Owner => self.act_for_owner(dbname),
        }
    }

    /// The same session by one name, so that it can be lent.
    pub(super) fn as_it_logs_in(&self, who: ActAs) -> ActAs {
        let is_superuser = self.facts().superuser;
        match who {
            ActAs::EvenShutOut(login) if login != Login::DbOwner => ActAs::Itself(login),
            ActAs::Tables if is_superuser => ActAs::Itself(Login::Superuser),
            ActAs::Tables | ActAs::Owner if !is_superuser => ActAs::EvenShutOut(Login::DbOwner),
            who => who,
        }
    }

    fn log_in(&self, login: Login, dbname: &str) -> Result<(Session, Facts)> {
        let credentials = self.credentials(login)?;
        let target = self.target().with(credentials.user(), dbname);
        if self.unseen_as(login).is_some() {
            return self.open_target(&target.unseen(self.major()), credentials);
        }
        // A login trigger that minds it does not write on a side that is closed; one that writes all the same may do so.
        match self.open_target(&target.clone().read_only_at_first(), credentials) {
            Err(report) if sqlstate_of(&report) == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
                self.open_target(&target, credentials)
            }
            opened => opened,
        }
    }

    /// The owner, or the administrator in its place.
    fn own(&self, dbname: &str) -> Result<(Session, Facts)> {
        match self.log_in(Login::DbOwner, dbname) {
            Err(report) if is_denied(&report) => {
                let (session, facts) = self.log_in(Login::Superuser, dbname)?;
                let owner = Ident::new(&self.declared().db_owner.user);
                session
                    .batch(&format!("SET ROLE {owner}"))
                    .wrap_err_with(|| format!("act as {owner} on the {}", self.side()))
                    .hint(|| {
                        format!(
                            "GRANT {owner} TO {} there: while nobody else may connect, the administrator acts for the owner",
                            Ident::new(&self.declared().superuser.user)
                        )
                    })?;
                Ok((session, facts))
            }
            entered => entered,
        }
    }

    /// A superuser that is the owner from its first statement on.
    fn act_for_owner(&self, dbname: &str) -> Result<(Session, Facts)> {
        let superuser = self.credentials(Login::Superuser)?;
        let target = self.target().with(superuser.user(), dbname);
        let target = target.unseen(self.major());
        let target = target.acting_as(&self.declared().db_owner.user);
        self.open_target(&target, superuser)
    }
}
