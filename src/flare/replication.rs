//! Privileges, publications and subscriptions.

use super::Flare;
use crate::error::Result;
use crate::replicate::{Change, grants};
use crate::server::Login;

impl Flare {
    /// Grants CREATE and CONNECT on a database to the superuser of the configuration, on the publisher.
    pub fn grant_create(&self, dbname: &str, login: Login) -> Result<Change> {
        self.config.publication(dbname)?;
        let publisher = self.publisher(&[dbname])?;
        grants::grant_create(&publisher, dbname, login, &self.run)
    }
}
