//! The initial copy, and doing without it.

use super::{Change, Flare};
use crate::copy::{self, AdoptBegun, AdoptMeasured, CopyOptions, InitialCopy, adopt};
use crate::ddl;
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
        ddl::check_rights(&pair, &declared.dbname, self.config.ddl)?;
        let copied = copy::initial_copy(&pair, &self.config, subname, login, options, &self.run)?;
        self.arm(&pair, subname, declared)?;
        Ok(copied)
    }

    /// Makes the slot of a subscription whose subscriber will be a clone of the publisher that is taken after it: by `hook`, a
    /// program and its arguments, or by the caller where that is empty.
    ///
    /// # Errors
    /// When there is no publication, the slot cannot be made, or the program fails; the slot stays then.
    pub fn adopt_begin(&self, subname: &str, hook: &[String]) -> Result<AdoptBegun, Error> {
        let declared = self.config.subscription(subname)?;
        let publisher = self.publisher(&[&declared.dbname])?;
        Ok(adopt::begin(
            &publisher, subname, declared, hook, &self.run,
        )?)
    }

    /// Finds the point that a clone has reached, and proves it; `clone` is a connection string.
    ///
    /// # Errors
    /// When a subscription could not begin there, with the reason.
    pub fn adopt_measure(&self, subname: &str, clone: &str) -> Result<AdoptMeasured, Error> {
        let declared = self.config.subscription(subname)?;
        let publisher = self.publisher(&[&declared.dbname])?;
        Ok(adopt::measure(
            &publisher, subname, declared, clone, &self.run,
        )?)
    }

    /// Has the subscription begin at the point that was measured.
    ///
    /// # Errors
    /// When nothing was measured, or the slot has gone on.
    pub fn adopt_finish(&self, subname: &str, login: Login) -> Result<Change, Error> {
        let declared = self.config.subscription(subname)?;
        let pair = self.pair(&[&declared.dbname])?;
        let change = adopt::finish(&pair, subname, declared, login, &self.run)?;
        self.arm(&pair, subname, declared)?;
        Ok(change)
    }
}
