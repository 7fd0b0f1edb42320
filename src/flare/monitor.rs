//! Samples of subscriptions: one after the other, or one of several at once.

use super::Flare;
use super::ddl::NewTables;
use crate::config::{DdlMode, Lag, Subscription};
use crate::error::{Error, Failure, Result, message_of};
use crate::journal::{Direction, Stream};
use crate::observe::{self, LagReport, LagStatus, Sampler, Silent, SubscriptionLag, Trace};
use crate::server::{Opened, application_name};

impl Flare {
    /// What samples a subscription of a database on both servers, as often as it is asked.
    ///
    /// # Errors
    /// When the configuration does not declare them, a server is not the declared one, or neither can be reached.
    pub fn sampler(&self, dbname: &str, subname: &str) -> Result<Sampler, Error> {
        self.config.publication(dbname)?;
        self.config.subscription_of(dbname, Some(subname))?;
        let application_name = application_name(&self.command);
        let journals = self.journals(&self.open().any()?)?;
        let direction = journals.flow(dbname).direction;
        let stream = self.stream(subname, direction)?;
        Ok(Sampler::open(
            &self.config,
            &application_name,
            direction,
            dbname,
            &stream.subname,
        )?)
    }

    /// How far these subscriptions are behind, or all that are declared when none is named.
    ///
    /// # Errors
    /// When the configuration does not declare them, or a server is not the declared one. One that cannot be reached
    /// is in the report.
    pub fn lag(&self, subnames: &[String], limits: &Lag) -> Result<LagReport, Error> {
        let declared = self.declared(subnames)?;
        let (report, compared) = std::thread::scope(|scope| {
            let compared = scope.spawn(|| self.divergences(&declared));
            let report = self.look(&declared, limits, Trace::Position, None);
            (report, compared.join().unwrap_or_default())
        });
        let mut report = report?;
        for (lag, found) in report.subscriptions.iter_mut().zip(compared) {
            let follows = lag
                .sample
                .subscriber
                .as_ref()
                .is_some_and(|it| it.subscription.is_some());
            if let (Some(found), true) = (found, follows) {
                lag.diverges(found);
            }
        }
        self.look_at_carried(&declared, &mut report)?;
        report.judge_again();
        Ok(report)
    }

    /// Where statements are carried, one that the other side refuses is the reason; new tables are taken.
    fn look_at_carried(
        &self,
        declared: &[(&str, &Subscription)],
        report: &mut LagReport,
    ) -> Result<()> {
        if self.config.ddl != DdlMode::Carry {
            return Ok(());
        }
        // A server that does not answer is in the report.
        let Ok(pair) = self.open().both() else {
            return Ok(());
        };
        for (subname, declared) in declared {
            let found = report
                .subscriptions
                .iter_mut()
                .find(|it| it.subname == *subname);
            let Some(lag) = found else { continue };
            let words =
                match self.carried(&pair, lag.direction, subname, declared, NewTables::Taken) {
                    Ok(stuck) => stuck
                        .iter()
                        .find(|it| it.error.is_some())
                        .map(|it| it.in_words(&lag.dbname)),
                    Err(report) => Some(message_of(&report)),
                };
            if let Some(words) = words {
                lag.status = lag.status.max(LagStatus::Critical);
                lag.message = format!("{words}; {}", lag.message);
            }
        }
        Ok(())
    }

    /// Looks at the streams as they flow. Most flow forward, so that is where it looks first; only what is not there is
    /// looked for in the journals, of servers that are opened for it unless they are.
    pub(super) fn look(
        &self,
        declared: &[(&str, &Subscription)],
        limits: &Lag,
        trace: Trace,
        opened: Option<&Opened>,
    ) -> Result<LagReport> {
        let seen = |direction, declared: &[(&str, &Subscription)], silent: &Silent| {
            let application_name = application_name(&self.command);
            observe::lag(
                &self.config,
                &application_name,
                direction,
                declared,
                limits,
                trace,
                silent,
            )
        };
        let silent = opened.map(Silent::of).unwrap_or_default();
        let mut report = seen(Direction::Forward, declared, &silent)?;
        let flows = |lag: &SubscriptionLag| {
            let there = lag.sample.subscriber.as_ref();
            there.is_some_and(|sample| sample.subscription.is_some())
        };
        if report.subscriptions.iter().all(flows) {
            return Ok(report);
        }
        let opened_now;
        let opened = match opened {
            Some(opened) => opened,
            None => {
                opened_now = self.open();
                &opened_now
            }
        };
        let journals = self.journals(opened)?;
        let mut flowing_back = Vec::new();
        for (lag, (subname, subscription)) in report.subscriptions.iter_mut().zip(declared) {
            let direction = journals.flow(&subscription.dbname).direction;
            if !flows(lag) && direction == Direction::Back {
                let stream = self.stream(subname, direction)?;
                let backwards = Subscription {
                    pubname: stream.pubname,
                    ..(*subscription).clone()
                };
                flowing_back.push((lag, *subname, stream.subname, backwards));
            }
        }
        let back: Vec<(&str, &Subscription)> = flowing_back
            .iter()
            .map(|(_, _, subname, backwards)| (subname.as_str(), backwards))
            .collect();
        let back = if back.is_empty() {
            return Ok(report);
        } else {
            seen(Direction::Back, &back, &Silent::of(opened))?
        };
        for ((lag, declared, subname, _), mut seen) in
            flowing_back.into_iter().zip(back.subscriptions)
        {
            // Whoever watches it knows it by its name in the configuration.
            declared.clone_into(&mut seen.sample.subname);
            *lag = SubscriptionLag {
                subname: declared.to_owned(),
                message: format!("back, by {subname}: {}", seen.message),
                ..seen
            };
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
    pub(super) fn stream(&self, subname: &str, direction: Direction) -> Result<Stream> {
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
        if !declared.is_empty() {
            Ok(declared)
        } else {
            let file = self.config.path.display();
            Failure::usage(format!("find the subscriptions: {file} declares none"))
                .hint(format!("declare one under subscriptions in {file}"))
                .err()
        }
    }
}
