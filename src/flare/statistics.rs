//! Vacuum and statistics on the subscriber.

use super::Flare;
use crate::error::Result;
use crate::replicate::vacuum::{self, Vacuumed};

impl Flare {
    /// Gathers statistics in stages and vacuums every table of a database of the subscriber, as its owner.
    pub fn vacuum_analyze(&self, dbname: &str, jobs: usize) -> Result<Vacuumed> {
        self.config.publication(dbname)?;
        let subscriber = self.subscriber(&[dbname])?;
        vacuum::vacuum_analyze(&subscriber, dbname, jobs, &self.run)
    }
}
