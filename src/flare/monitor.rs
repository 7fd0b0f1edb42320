//! Samples of a subscription, one after the other.

use super::Flare;
use crate::error::Result;
use crate::observe::Sampler;
use crate::server::application_name;

impl Flare {
    /// What samples a subscription of a database on both servers, as often as it is asked.
    ///
    /// # Errors
    /// When the configuration does not declare them, a server is not the declared one, or neither can be reached.
    pub fn sampler(&self, dbname: &str, subname: &str) -> Result<Sampler> {
        self.config.publication(dbname)?;
        self.config.subscription_of(dbname, Some(subname))?;
        let application_name = application_name(&self.command);
        Sampler::open(&self.config, &application_name, dbname, subname)
    }
}
