//! Samples of subscriptions: one after the other, or one of several at once.

use super::Flare;
use crate::config::{Lag, Subscription};
use crate::error::{Failure, Result};
use crate::observe::{self, LagReport, Sampler, Trace};
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

    /// How far these subscriptions are behind, or all that are declared when none is named.
    ///
    /// # Errors
    /// When the configuration does not declare them, or a server is not the declared one. One that cannot be reached
    /// is in the report.
    pub fn lag(&self, subnames: &[String], limits: &Lag) -> Result<LagReport> {
        let declared = self.declared(subnames)?;
        let application_name = application_name(&self.command);
        let trace = Trace::Position;
        observe::lag(&self.config, &application_name, &declared, limits, trace)
    }

    /// The subscriptions of these names, each once, or all that are declared when none is named.
    pub(super) fn declared<'c>(
        &'c self,
        subnames: &'c [String],
    ) -> Result<Vec<(&'c str, &'c Subscription)>> {
        let mut declared: Vec<(&str, &Subscription)> = Vec::new();
        for subname in subnames {
            let subscription = self.config.subscription(subname)?;
            if !declared.iter().any(|(name, _)| name == subname) {
                declared.push((subname, subscription));
            }
        }
        if subnames.is_empty() {
            let all = self.config.subscriptions.iter();
            declared.extend(all.map(|(subname, it)| (subname.as_str(), it)));
        }
        match declared.is_empty() {
            false => Ok(declared),
            true => {
                let file = self.config.path.display();
                Failure::usage(format!("find the subscriptions: {file} declares none"))
                    .hint(format!("declare one under subscriptions in {file}"))
                    .err()
            }
        }
    }
}
