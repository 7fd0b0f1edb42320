//! Sessions that are lent: opened once for each database and account, and used by one task after another.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postgres::Client;

use super::{ActAs, Login, Server, Session, Side, Timeout};
use crate::config::Host;
use crate::error::Result;

/// Sessions to lend, each with whom it acts as and its database. One that nobody else has is free.
#[derive(Default)]
pub(super) struct Visits(Mutex<Vec<Visit>>);

struct Visit {
    who: ActAs,
    dbname: String,
    session: Arc<Session>,
    lent_at: Instant,
}

/// A session that rests for longer is asked whether it is still there, before it is lent again.
const RESTED: Duration = Duration::from_secs(5);

impl Visits {
    fn free(&self, who: ActAs, dbname: &str) -> Option<Arc<Session>> {
        loop {
            let (session, rested) = self.lend(who, dbname)?;
            // One that does not answer has failed, and is not lent again.
            if rested < RESTED || answers(&session) {
                return Some(session);
            }
        }
    }

    /// One that is free, and since when.
    fn lend(&self, who: ActAs, dbname: &str) -> Option<(Arc<Session>, Duration)> {
        let mut visits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        visits.retain(|visit| !visit.session.has_failed());
        let free = visits.iter_mut().find(|visit| {
            visit.who == who && visit.dbname == dbname && Arc::strong_count(&visit.session) == 1
        })?;
        let rested = free.lent_at.elapsed();
        free.lent_at = Instant::now();
        Some((Arc::clone(&free.session), rested))
    }

    fn keep(&self, who: ActAs, dbname: &str, session: &Arc<Session>) {
        let mut visits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        visits.push(Visit {
            who,
            dbname: dbname.to_owned(),
            session: Arc::clone(session),
            lent_at: Instant::now(),
        });
    }

    fn end(&self) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.clear();
    }
}

/// Whether nothing that was asked of the session has failed, and it answers.
fn answers(session: &Session) -> bool {
    const SOON: Timeout = Timeout::For(Duration::from_secs(3));
    let asked = |client: &mut Client| client.batch_execute("SELECT 1");
    !session.has_failed() && session.run_for(SOON, asked).is_ok()
}

/// How many databases of a server are entered at the same time.
const AT_ONCE: usize = 8;

impl Server {
    /// The server, with a session for looking into each of these databases: all are opened at once. One that does not open
    /// is opened again by whoever needs it, and says why.
    pub(super) fn open_visiting(
        side: Side,
        declared: &Host,
        application_name: &str,
        dbnames: &BTreeSet<&str>,
    ) -> Result<Server> {
        std::thread::scope(|scope| {
            let visits = dbnames.iter().take(AT_ONCE).map(|dbname| {
                let visit = scope.spawn(|| Server::enter(side, declared, dbname, application_name));
                (*dbname, visit)
            });
            let visits: Vec<_> = visits.collect();
            let server = Server::open(side, declared, application_name);
            for (dbname, visit) in visits {
                if let (Ok(server), Ok(Ok((address, session)))) = (&server, visit.join())
                    && address == server.target().address
                {
                    server
                        .visits
                        .keep(Login::Superuser.into(), dbname, &Arc::new(session));
                }
            }
            server
        })
    }

    /// A session of the administrator: one that was used before, or a new one. Whoever has it leaves it as it was, without a
    /// setting or an open transaction; one on which anything has failed is not used again.
    pub(crate) fn visit(&self, dbname: &str) -> Result<Arc<Session>> {
        self.visit_as(Login::Superuser, dbname)
    }

    /// The same of another account, or acting as another.
    pub(crate) fn visit_as(&self, who: impl Into<ActAs>, dbname: &str) -> Result<Arc<Session>> {
        let who = self.as_it_logs_in(who.into());
        if let Some(session) = self.visits.free(who, dbname) {
            return Ok(session);
        }
        let session = Arc::new(self.connect(who, dbname)?);
        self.visits.keep(who, dbname, &session);
        Ok(session)
    }

    /// Whether the administrator's session still answers.
    pub(super) fn answers(&self) -> bool {
        answers(self.admin())
    }

    /// Ends the sessions that are lent: before others are ended, theirs among them, and before a database goes.
    pub(crate) fn end_visits(&self) {
        self.visits.end();
    }
}
