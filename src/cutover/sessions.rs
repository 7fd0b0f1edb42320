//! The sessions of a run: all open and warm before the pause begins, since none is opened within.

use crate::catalog::privileges::owner_login;
use crate::catalog::subscriptions;
use crate::error::{Failure, Result};
use crate::journal::{Backend, Stream};
use crate::replicate::unsubscribe;
use crate::server::{Facts, Login, Pair, Server, Session, Timeout};

/// A session of this run, with the name of its server process.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) session: Session,
    pub(crate) backend: Backend,
}

impl Own {
    fn open(server: &Server, login: Login, dbname: &str) -> Result<Own> {
        let (session, facts) = server.enter_as(login, dbname)?;
        let backend = backend_of(&facts);
        Ok(Own { session, backend })
    }
}

/// The name of a session's process.
pub(super) fn backend_of(facts: &Facts) -> Backend {
    Backend {
        pid: facts.pid,
        backend_start: facts.backend_start.clone(),
    }
}

/// What a run works with in `postgres` of both servers.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Shuts and opens the door of *from*, and writes the journal with it.
    pub(crate) door: Own,
    /// Sleeps on *from* and undoes the pause when it wakes.
    pub(crate) guard: Own,
    /// Looks at other sessions of *from* and ends them.
    pub(crate) watch: Own,
    /// The same for *to*, whose door it opens at the end.
    pub(crate) gate: Own,
    /// Who *door* and *gate* are, for a session that has to take the place of one.
    pub(crate) door_login: Login,
    pub(crate) gate_login: Login,
}

/// What it works with in one database.
#[derive(Debug)]
pub(crate) struct DatabaseSessions {
    /// Holds the tables of *from*.
    pub(crate) wall: Own,
    /// Writes the probe row on *from*, and reads its sequences.
    pub(crate) probe: Own,
    /// Awaits the probe row on *to*, and sets its sequences.
    pub(crate) arrival: Own,
    /// Stops the subscription on *to*, as an account that may.
    pub(crate) subscription: Own,
}

impl Sessions {
    /// Opens them all at once.
    pub(crate) fn open(pair: &Pair, dbnames: &[&str]) -> Result<Sessions> {
        let (from, to) = (&pair.publisher, &pair.subscriber);
        let door_login = owner_login(from, dbnames)?;
        let gate_login = owner_login(to, dbnames)?;
        let open = |login| Own::open(from, login, "postgres");
        std::thread::scope(|scope| {
            let door = scope.spawn(|| open(door_login));
            let guard = scope.spawn(|| open(door_login));
            let watch = scope.spawn(|| open(Login::Superuser));
            let gate = Own::open(to, gate_login, "postgres");
            Ok(Sessions {
                door: joined(door)?,
                guard: joined(guard)?,
                watch: joined(watch)?,
                gate: gate?,
                door_login,
                gate_login,
            })
        })
    }

    /// The sessions on *from*, as the journal names them.
    pub(crate) fn on_from(&self) -> [&Own; 3] {
        [&self.door, &self.guard, &self.watch]
    }

    pub(crate) fn set_timeout(&self, timeout: Timeout) {
        for own in [&self.door, &self.guard, &self.watch, &self.gate] {
            own.session.set_timeout(timeout);
        }
    }
}

impl DatabaseSessions {
    /// Opens them all at once.
    pub(crate) fn open(pair: &Pair, stream: &Stream) -> Result<DatabaseSessions> {
        let (from, to) = (&pair.publisher, &pair.subscriber);
        let dbname = &stream.dbname;
        std::thread::scope(|scope| {
            let wall = scope.spawn(|| Own::open(from, table_login(from), dbname));
            let probe = scope.spawn(|| Own::open(from, table_login(from), dbname));
            let subscription = scope.spawn(|| {
                let admin = Own::open(to, Login::Superuser, dbname)?;
                match subscriptions::find(&admin.session, &stream.subname)? {
                    Some(found) => match unsubscribe::login_of(to, &found) {
                        Login::Superuser => Ok(admin),
                        login => Own::open(to, login, dbname),
                    },
                    None => Ok(admin),
                }
            });
            let arrival = Own::open(to, table_login(to), dbname);
            Ok(DatabaseSessions {
                wall: joined(wall)?,
                probe: joined(probe)?,
                arrival: arrival?,
                subscription: joined(subscription)?,
            })
        })
    }

    /// The sessions on *from*, as the journal names them.
    pub(crate) fn on_from(&self) -> [&Own; 2] {
        [&self.wall, &self.probe]
    }

    /// The sessions on *to*: what they were told must not arrive after the run.
    pub(crate) fn on_to(&self) -> [&Own; 2] {
        [&self.arrival, &self.subscription]
    }

    pub(crate) fn set_timeout(&self, timeout: Timeout) {
        for own in [&self.wall, &self.probe, &self.arrival, &self.subscription] {
            own.session.set_timeout(timeout);
        }
    }
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Failure::new("open the sessions: a thread has ended").err())
}

impl Drop for Sessions {
    /// All at once: the application waits for the command that comes next.
    fn drop(&mut self) {
        for own in [
            &mut self.door,
            &mut self.guard,
            &mut self.watch,
            &mut self.gate,
        ] {
            own.session.say_goodbye();
        }
    }
}

impl Drop for DatabaseSessions {
    fn drop(&mut self) {
        for own in [
            &mut self.wall,
            &mut self.probe,
            &mut self.arrival,
            &mut self.subscription,
        ] {
            own.session.say_goodbye();
        }
    }
}

/// Acts in `postgres` as whoever may open and shut the doors; by the session that is there already, where that is one.
pub(crate) fn at_the_door<T>(
    server: &Server,
    dbnames: &[&str],
    act: impl FnOnce(&Session) -> Result<T>,
) -> Result<T> {
    match owner_login(server, dbnames)? {
        Login::Superuser => act(server.admin()),
        login => act(&server.connect(login, "postgres")?),
    }
}

/// Who may lock the tables and write the status table.
pub(super) fn table_login(server: &Server) -> Login {
    Login::owner_if(!server.facts().superuser)
}
