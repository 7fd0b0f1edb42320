//! The sessions of a pause: all open and warm before it begins, since none is opened within.

use crate::error::{Failure, Result};
use crate::journal::Backend;
use crate::server::{Facts, Login, Pair, Publisher, Session, params};

/// A session of this run, with the name of its server process.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) session: Session,
    pub(crate) backend: Backend,
}

impl Own {
    fn of((session, facts): (Session, Facts)) -> Own {
        let backend = Backend {
            pid: facts.pid,
            backend_start: facts.backend_start,
        };
        Own { session, backend }
    }
}

/// What a pause works with. *door*, *guard* and *watch* are in `postgres`, the others in the database itself.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Shuts and opens the door, and writes the journal with it.
    pub(crate) door: Own,
    /// Sleeps on the server and undoes the pause when it wakes.
    pub(crate) guard: Own,
    /// Looks at other sessions and ends them.
    pub(crate) watch: Own,
    /// Holds the tables.
    pub(crate) wall: Own,
    /// Writes the probe row on the publisher.
    pub(crate) probe: Own,
    /// Awaits it on the subscriber.
    pub(crate) arrival: Session,
}

impl Sessions {
    /// Opens them all at once.
    pub(crate) fn open(pair: &Pair, dbname: &str) -> Result<Sessions> {
        let publisher = &pair.publisher;
        let door = door_login(publisher, dbname)?;
        let tables = table_login(publisher);
        let on_publisher = |login: Login, dbname: &'static str| (login, dbname.to_owned());
        let wanted = [
            on_publisher(door, "postgres"),
            on_publisher(door, "postgres"),
            on_publisher(Login::Superuser, "postgres"),
            (tables, dbname.to_owned()),
            (tables, dbname.to_owned()),
        ];
        std::thread::scope(|scope| {
            let arrival = scope.spawn(|| {
                pair.subscriber
                    .connect(table_login(&pair.subscriber), dbname)
            });
            let threads: Vec<_> = wanted
                .iter()
                .map(|(login, dbname)| scope.spawn(move || publisher.introduce(*login, dbname)))
                .collect();
            let mut opened = Vec::new();
            for thread in threads {
                opened.push(Own::of(thread.join().unwrap_or_else(|_| ended())?));
            }
            let arrival = arrival.join().unwrap_or_else(|_| ended())?;
            let mut opened = opened.into_iter();
            let mut next = || {
                opened
                    .next()
                    .ok_or_else(|| Failure::new("open the sessions of the pause"))
            };
            Ok(Sessions {
                door: next()?,
                guard: next()?,
                watch: next()?,
                wall: next()?,
                probe: next()?,
                arrival,
            })
        })
    }

    /// The sessions on the publisher, as the journal names them.
    pub(crate) fn backends(&self) -> Vec<Backend> {
        self.on_publisher().map(|own| own.backend.clone()).to_vec()
    }

    /// Their pids, which no step may end.
    pub(crate) fn own_pids(&self, admin_pid: i32) -> Vec<i32> {
        let mut pids: Vec<i32> = self
            .on_publisher()
            .iter()
            .map(|own| own.backend.pid)
            .collect();
        pids.push(admin_pid);
        pids
    }

    /// Every session waits by these rules from now on.
    pub(crate) fn set_patience(&self, patience: crate::server::Patience) {
        for own in self.on_publisher() {
            own.session.set_patience(patience);
        }
        self.arrival.set_patience(patience);
    }

    fn on_publisher(&self) -> [&Own; 5] {
        [
            &self.door,
            &self.guard,
            &self.watch,
            &self.wall,
            &self.probe,
        ]
    }
}

impl Drop for Sessions {
    /// All at once: the application waits for the command that comes next.
    fn drop(&mut self) {
        for own in [
            &mut self.door,
            &mut self.guard,
            &mut self.watch,
            &mut self.wall,
            &mut self.probe,
        ] {
            own.session.say_goodbye();
        }
        self.arrival.say_goodbye();
    }
}

fn ended<T>() -> Result<T> {
    Failure::new("open the sessions of the pause: a thread has ended").err()
}

/// Who may shut the door: the administrator where it is a superuser or acts for the owner, else the owner itself.
pub(super) fn door_login(publisher: &Publisher, dbname: &str) -> Result<Login> {
    let may: bool = publisher.admin().value(
        "SELECT coalesce((SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = $1), true)",
        params![dbname],
    )?;
    Ok(match may {
        true => Login::Superuser,
        false => Login::DbOwner,
    })
}

/// Acts in `postgres` as whoever may open and shut the door; by the session that is there already, where that is one.
pub(crate) fn at_the_door<T>(
    publisher: &Publisher,
    dbname: &str,
    act: impl FnOnce(&Session) -> Result<T>,
) -> Result<T> {
    match door_login(publisher, dbname)? {
        Login::Superuser => act(publisher.admin()),
        login => act(&publisher.connect(login, "postgres")?),
    }
}

/// Who may lock the tables and write the status table.
fn table_login(server: &crate::server::Server) -> Login {
    match server.facts().superuser {
        true => Login::Superuser,
        false => Login::DbOwner,
    }
}
