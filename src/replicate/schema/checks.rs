//! What can be known beforehand to fail, before anything is created.

use super::Work;
use crate::catalog::databases;
use crate::catalog::objects;
use crate::catalog::roles::missing_roles;
use crate::catalog::tables::listed;
use crate::error::{Failure, Result};
use crate::replicate::database::refuse_missing_roles;
use crate::replicate::extensions::Situation;
use crate::server::Session;

impl Work<'_> {
    /// All that can be known beforehand to fail.
    pub(super) fn check(&mut self) -> Result<()> {
        let missing = missing_roles(self.pair.subscriber.admin(), &self.roles.all)?;
        refuse_missing_roles(self.dbname, &missing)?;
        self.refuse_oids()?;
        let extensions = Situation::read(self.pair, self.dbname, self.login)?;
        extensions.check()?;
        self.notes.extend(extensions.notes());
        Ok(())
    }

    /// pg_dump leaves the oids of such tables out with no more than a warning.
    fn refuse_oids(&self) -> Result<()> {
        let (publisher, subscriber) = (&self.pair.publisher, &self.pair.subscriber);
        if publisher.major() >= 12 || subscriber.major() < 12 {
            return Ok(());
        }
        let session = publisher.visit_as(self.login, self.dbname)?;
        let tables = objects::tables_with_oids(&session)?;
        let Some(first) = tables.first() else {
            return Ok(());
        };
        Failure::new(format!(
            "replicate the schema of database {:?}: PostgreSQL {} has no tables WITH OIDS, and the publisher has {}; nothing was created",
            self.dbname,
            subscriber.major(),
            listed(&tables)
        ))
        .hint(format!(
            "where nothing reads that column: ALTER TABLE {first} SET WITHOUT OIDS on the publisher; else move it to a column of its own first"
        ))
        .err()
    }

    /// An earlier run's psql may be at work although that run is gone.
    pub(super) fn refuse_another_load(&self, session: &Session) -> Result<()> {
        let application = &self.pair.subscriber.target().application_name;
        let loaders = databases::loaders(session, self.dbname, application)?;
        let Some(pid) = loaders.first() else {
            return Ok(());
        };
        Failure::new(format!(
            "replicate the schema of database {:?}: an earlier run is still loading it (process {pid} of the subscriber)",
            self.dbname
        ))
        .hint(format!(
            "wait for it, or end it there: SELECT pg_terminate_backend({pid})"
        ))
        .err()
    }
}
