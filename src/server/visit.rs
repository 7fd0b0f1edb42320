//! Sessions for looking: opened once for each database, and used by one look after another.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Login, Server, Session};
use crate::error::Result;

/// The administrator's sessions for looking, each with its database. One that nobody else has is free.
#[derive(Default)]
pub(super) struct Visits(Mutex<Vec<(String, Arc<Session>)>>);

impl Visits {
    fn free(&self, dbname: &str) -> Option<Arc<Session>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|(_, session)| !session.has_failed());
        let is_free = |(of, session): &&(String, Arc<Session>)| {
            of == dbname && Arc::strong_count(session) == 1
        };
        let (_, session) = sessions.iter().find(is_free)?;
        Some(Arc::clone(session))
    }

    fn keep(&self, dbname: &str, session: &Arc<Session>) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push((dbname.to_owned(), Arc::clone(session)));
    }

    fn end(&self) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.clear();
    }
}

impl Server {
    /// A session of the administrator that looks and changes nothing: one that has looked before, or a new one. Whoever has
    /// it leaves it as it was, without a setting or an open transaction; one on which anything has failed is not used again.
    pub(crate) fn visit(&self, dbname: &str) -> Result<Arc<Session>> {
        if let Some(session) = self.visits.free(dbname) {
            return Ok(session);
        }
        let session = Arc::new(self.connect(Login::Superuser, dbname)?);
        self.visits.keep(dbname, &session);
        Ok(session)
    }

    /// Ends the sessions that have looked: before others are ended, theirs among them, and before a database goes.
    pub(crate) fn end_visits(&self) {
        self.visits.end();
    }
}
