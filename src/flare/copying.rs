//! The initial copy.

use super::Flare;
use crate::copy::{self, CopyOptions, InitialCopy};
use crate::error::{Error, Result};
use crate::server::Login;

impl Flare {
    /// Creates the subscriber's database, copies the publisher's tables into it in parallel, and begins the subscription;
    /// goes on with a copy that was interrupted. `login` is whom the subscriber connects to the publisher as.
    ///
    /// # Errors
    /// When a step fails; the same call goes on from there.
    pub fn initial_copy(
        &self,
        subname: &str,
        login: Login,
        options: CopyOptions,
    ) -> Result<InitialCopy, Error> {
        let declared = self.config.subscription(subname)?;
        self.config.publication(&declared.dbname)?;
        let pair = self.pair(&[&declared.dbname])?;
        let copied = copy::initial_copy(&pair, &self.config, subname, login, options, &self.run)?;
        self.arm(&pair, subname, declared)?;
        Ok(copied)
    }
}
