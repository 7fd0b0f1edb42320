//! Vacuum and statistics on the subscriber.

use super::Flare;
use crate::error::{Error, Result};
use crate::replicate::vacuum::{self, Vacuumed};

impl Flare {
    /// Gathers statistics in stages and vacuums every table of a database of the subscriber, as its owner.
    pub fn vacuum_analyze(&self, dbname: &str, jobs: usize) -> Result<Vacuumed, Error> {
        self.config.publication(dbname)?;
        let subscriber = self.subscriber(&[dbname])?;
        Ok(vacuum::vacuum_analyze(
            &subscriber,
            dbname,
            jobs,
            &self.run,
        )?)
    }
}
