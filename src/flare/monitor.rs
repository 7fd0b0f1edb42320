//! Samples of subscriptions: one after the other, or one of several at once.

use super::Flare;
use crate::config::{Lag, Subscription};
use crate::error::{Failure, Result};
use crate::journal::{Direction, Stream};
use crate::observe::{self, LagReport, LagStatus, Sampler, SubscriptionLag, Trace};
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
        let journals = self.journals(&self.open().any()?)?;
        let direction = journals.standing(dbname).direction;
        let stream = self.stream(subname, direction)?;
        Sampler::open(
            &self.config,
            &application_name,
            direction,
            dbname,
            &stream.subname,
        )
    }

    /// How far these subscriptions are behind, or all that are declared when none is named.
    ///
    /// # Errors
    /// When the configuration does not declare them, or a server is not the declared one. One that cannot be reached
    /// is in the report.
    pub fn lag(&self, subnames: &[String], limits: &Lag) -> Result<LagReport> {
        let declared = self.declared(subnames)?;
        self.look(&declared, limits, Trace::Position)
    }

    /// Looks at the streams as they flow. Most flow forward, so that is where it looks first; only what is not there is
    /// looked for in the journals.
    pub(super) fn look(
        &self,
        declared: &[(&str, &Subscription)],
        limits: &Lag,
        trace: Trace,
    ) -> Result<LagReport> {
        let application_name = application_name(&self.command);
        let mut report = observe::lag(
            &self.config,
            &application_name,
            Direction::Forward,
            declared,
            limits,
            trace,
        )?;
        let flows = |lag: &SubscriptionLag| {
            let there = lag.sample.subscriber.as_ref();
            there.is_some_and(|sample| sample.subscription.is_some())
        };
        if report.subscriptions.iter().all(flows) {
            return Ok(report);
        }
        let Ok(opened) = self.open().any() else {
            return Ok(report);
        };
        let journals = self.journals(&opened)?;
        for (lag, (subname, subscription)) in report.subscriptions.iter_mut().zip(declared) {
            if flows(lag) || journals.standing(&subscription.dbname).direction == Direction::Forward
            {
                continue;
            }
            let stream = self.stream(subname, Direction::Back)?;
            let backwards = Subscription {
                pubname: stream.pubname.clone(),
                ..(*subscription).clone()
            };
            let back = [(stream.subname.as_str(), &backwards)];
            let seen = observe::lag(
                &self.config,
                &application_name,
                Direction::Back,
                &back,
                limits,
                trace,
            )?;
            if let Some(mut seen) = seen.subscriptions.into_iter().next() {
                // Whoever watches it knows it by its name in the configuration.
                (*subname).clone_into(&mut seen.sample.subname);
                *lag = SubscriptionLag {
                    subname: (*subname).to_owned(),
                    message: format!("back, by {}: {}", stream.subname, seen.message),
                    ..seen
                };
            }
        }
        report.status = report
            .subscriptions
            .iter()
            .map(|it| it.status)
            .max()
            .unwrap_or(LagStatus::Unknown);
        Ok(report)
    }

    /// A subscription of the configuration, or its way back.
    fn stream(&self, subname: &str, direction: Direction) -> Result<Stream> {
        let declared = self.config.subscription(subname)?;
        Ok(Stream::of(
            &declared.dbname,
            subname,
            &declared.pubname,
            direction,
        ))
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
