//! The sessions of a run: all open and warm before the pause begins, since none is opened within.

use crate::catalog::privileges::owner_login;
use crate::catalog::subscriptions;
use crate::error::{Failure, Result};
use crate::journal::{Backend, Stream};
use crate::replicate::unsubscribe;
use crate::server::{ActAs, Facts, Login, Pair, Server, Session, Timeout};

/// A session of this run, with the name of its server process.
#[derive(Debug)]
pub(crate) struct TrackedSession {
    pub(crate) session: Session,
    pub(crate) backend: Backend,
}

impl TrackedSession {
    fn open(server: &Server, login: Login, dbname: &str) -> Result<TrackedSession> {
        let (session, facts) = server.introduce(ActAs::EvenShutOut(login), dbname)?;
        let backend = backend_of(&facts);
        Ok(TrackedSession { session, backend })
    }
}

/// The name of a session's process.
pub(in crate::cutover) fn backend_of(facts: &Facts) -> Backend {
    Backend {
        pid: facts.pid,
        backend_start: facts.backend_start,
    }
}

/// What a run works with on both servers, in `postgres` but for one.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Revokes CONNECT on *from* and gives it back, and writes the journal with it.
    pub(crate) connect: TrackedSession,
    /// Sleeps on *from* and undoes the pause when it wakes.
    pub(crate) guard: TrackedSession,
    /// Ends the application's sessions on *from*: in the first database, where the next step can wait for it.
    pub(crate) terminate: TrackedSession,
    /// Ends whoever keeps the locks on *from* waiting.
    pub(crate) unblock: TrackedSession,
    /// Opens *to* at the end, and writes its journal.
    pub(crate) target: TrackedSession,
    /// Ends sessions of *to* that began before that.
    pub(crate) target_watch: TrackedSession,
    /// Who *connect* and *target* are, for a session that has to take the place of one.
    pub(crate) connect_login: Login,
    pub(crate) target_login: Login,
}

/// What it works with in one database.
#[derive(Debug)]
pub(crate) struct DatabaseSessions {
    /// Holds the locks on the tables of *from*.
    pub(crate) lock: TrackedSession,
    /// Writes the probe row on *from*, and reads its sequences.
    pub(crate) probe: TrackedSession,
    /// Awaits the probe row on *to*, and sets its sequences.
    pub(crate) arrival: TrackedSession,
    /// Disables the subscription on *to*, as an account that may.
    pub(crate) subscription: TrackedSession,
}

impl Sessions {
    /// Opens them all at once.
    pub(crate) fn open(pair: &Pair, dbnames: &[&str]) -> Result<Sessions> {
        let (from, to) = (&pair.publisher, &pair.subscriber);
        let connect_login = owner_login(from, dbnames)?;
        let target_login = owner_login(to, dbnames)?;
        let on_from = |login| TrackedSession::open(from, login, "postgres");
        let on_to = |login| TrackedSession::open(to, login, "postgres");
        std::thread::scope(|scope| {
            let connect = scope.spawn(|| on_from(connect_login));
            let guard = scope.spawn(|| on_from(connect_login));
            let terminate = scope.spawn(|| {
                let dbname = dbnames.first().copied().unwrap_or("postgres");
                TrackedSession::open(from, Login::Superuser, dbname)
            });
            let unblock = scope.spawn(|| on_from(Login::Superuser));
            let target = scope.spawn(|| on_to(target_login));
            let target_watch = on_to(Login::Superuser);
            Ok(Sessions {
                connect: joined(connect)?,
                guard: joined(guard)?,
                terminate: joined(terminate)?,
                unblock: joined(unblock)?,
                target: joined(target)?,
                target_watch: target_watch?,
                connect_login,
                target_login,
            })
        })
    }

    /// The sessions on *from*, as the journal names them.
    pub(crate) fn on_from(&self) -> [&TrackedSession; 4] {
        [&self.connect, &self.guard, &self.terminate, &self.unblock]
    }

    /// The sessions on *to*.
    pub(crate) fn on_to(&self) -> [&TrackedSession; 2] {
        [&self.target, &self.target_watch]
    }

    pub(crate) fn set_timeout(&self, timeout: Timeout) {
        for tracked in self.on_from().into_iter().chain(self.on_to()) {
            tracked.session.set_timeout(timeout);
        }
    }
}

impl DatabaseSessions {
    /// Opens them all at once; `subowner` is as whom flare acts for the subscription, where that is known.
    pub(crate) fn open(
        pair: &Pair,
        stream: &Stream,
        subowner: Option<Login>,
    ) -> Result<DatabaseSessions> {
        let (from, to) = (&pair.publisher, &pair.subscriber);
        let dbname = &stream.dbname;
        std::thread::scope(|scope| {
            let lock = scope.spawn(|| TrackedSession::open(from, table_login(from), dbname));
            let probe = scope.spawn(|| TrackedSession::open(from, table_login(from), dbname));
            let subscription = scope.spawn(|| {
                if let Some(login) = subowner {
                    return TrackedSession::open(to, login, dbname);
                }
                let admin = TrackedSession::open(to, Login::Superuser, dbname)?;
                match subscriptions::find(&admin.session, &stream.subname)? {
                    Some(found) => match unsubscribe::login_of(to, &found) {
                        Login::Superuser => Ok(admin),
                        login => TrackedSession::open(to, login, dbname),
                    },
                    None => Ok(admin),
                }
            });
            let arrival = TrackedSession::open(to, table_login(to), dbname);
            Ok(DatabaseSessions {
                lock: joined(lock)?,
                probe: joined(probe)?,
                arrival: arrival?,
                subscription: joined(subscription)?,
            })
        })
    }

    /// The sessions on *from*, as the journal names them.
    pub(crate) fn on_from(&self) -> [&TrackedSession; 2] {
        [&self.lock, &self.probe]
    }

    /// The sessions on *to*: what they were asked must not arrive after the run.
    pub(crate) fn on_to(&self) -> [&TrackedSession; 2] {
        [&self.arrival, &self.subscription]
    }

    pub(crate) fn set_timeout(&self, timeout: Timeout) {
        for tracked in self.on_from().into_iter().chain(self.on_to()) {
            tracked.session.set_timeout(timeout);
        }
    }
}

pub(in crate::cutover) fn joined<T>(
    thread: std::thread::ScopedJoinHandle<'_, Result<T>>,
) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Failure::new("open the sessions: a thread has ended").err())
}

impl Drop for Sessions {
    /// All at once: the application waits for the command that comes next.
    fn drop(&mut self) {
        for tracked in [
            &mut self.connect,
            &mut self.guard,
            &mut self.terminate,
            &mut self.unblock,
            &mut self.target,
            &mut self.target_watch,
        ] {
            tracked.session.say_goodbye();
        }
    }
}

impl Drop for DatabaseSessions {
    fn drop(&mut self) {
        for tracked in [
            &mut self.lock,
            &mut self.probe,
            &mut self.arrival,
            &mut self.subscription,
        ] {
            tracked.session.say_goodbye();
        }
    }
}

/// Acts in `postgres` as whoever may change the privileges of these databases; by the session that is there already, where that is one.
pub(crate) fn as_database_owner<T>(
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
pub(in crate::cutover) fn table_login(server: &Server) -> Login {
    Login::owner_if(!server.facts().superuser)
}
