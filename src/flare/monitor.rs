//! Samples of subscriptions: one after the other, or one of several at once.

use super::Flare;
use super::ddl::NewTables;
use crate::config::{DdlMode, Lag, Subscription};
use crate::error::{Error, Failure, Result, message_of};
use crate::journal::{Direction, Stream};
use crate::observe::{self, LagReport, LagStatus, Sampler, Silent, SubscriptionLag, Trace};
use crate::server::{Opened, Pair, application_name};
use crate::value::TableName;

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
            let report = self.look(&declared, limits, Trace::Position);
            (report, compared.join())
        });
        let mut report = report?;
        let compared = compared
            .unwrap_or_else(|_| Failure::new("compare the databases: its thread has ended").err());
        let (mut compared, not_compared) = match compared {
            Ok(each) => (each.into_iter(), None),
            Err(cause) => (Vec::new().into_iter(), Some(message_of(&cause))),
        };
        let pair = match self.config.ddl {
            // A server that does not answer is in the report.
            DdlMode::Carry => self.open().both().ok(),
            DdlMode::Watch | DdlMode::Refuse => None,
        };
        for (subname, declared) in &declared {
            let found = match compared.next() {
                Some(found) => found.map_err(|cause| message_of(&cause)),
                None => Err(not_compared.clone().unwrap_or_default()),
            };
            let mut lags = report.subscriptions.iter_mut();
            let Some(lag) = lags.find(|it| it.subname == *subname) else {
                continue;
            };
            let (words, taken) = match &pair {
                Some(pair) => self.look_at_carried(pair, subname, declared, lag.direction),
                None => (None, Vec::new()),
            };
            match found {
                _ if !lag.is_subscribed() => {}
                Ok(mut found) => {
                    if let Some(lacking) = &mut found.unsubscribed_tables {
                        lacking.retain(|name| !taken.iter().any(|it| it.plain() == *name));
                    }
                    lag.diverges(found);
                }
                Err(cause) => lag.not_compared(&cause),
            }
            if let Some(words) = words {
                lag.status = lag.status.max(LagStatus::Critical);
                lag.message = format!("{words}; {}", lag.message);
            }
        }
        report.judge_again();
        Ok(report)
    }

    /// Where statements are carried, one that the other side refuses is the reason; new tables are taken.
    fn look_at_carried(
        &self,
        pair: &Pair,
        subname: &str,
        declared: &Subscription,
        direction: Direction,
    ) -> (Option<String>, Vec<TableName>) {
        match self.carried(pair, direction, subname, declared, NewTables::Taken) {
            Ok((stuck, taken)) => {
                let mut failing = stuck.iter().filter(|it| it.error.is_some());
                let words = failing.next().map(|it| it.in_words(&declared.dbname));
                (words, taken)
            }
            Err(report) => (Some(message_of(&report)), Vec::new()),
        }
    }

    /// Looks at the streams as they flow. Most flow forward, so that is where it looks first; only what is not there is
    /// looked for in the journals, of servers that are opened for it.
    fn look(
        &self,
        declared: &[(&str, &Subscription)],
        limits: &Lag,
        trace: Trace,
    ) -> Result<LagReport> {
        let report = self.look_forward(declared, limits, trace)?;
        if report
            .subscriptions
            .iter()
            .all(SubscriptionLag::is_subscribed)
        {
            return Ok(report);
        }
        self.look_back(report, declared, limits, trace, &self.open())
    }

    /// Looks at the streams from the publisher of the configuration to its subscriber.
    pub(super) fn look_forward(
        &self,
        declared: &[(&str, &Subscription)],
        limits: &Lag,
        trace: Trace,
    ) -> Result<LagReport> {
        let silent = Silent::default();
        self.seen(Direction::Forward, declared, limits, trace, &silent)
    }

    fn seen(
        &self,
        direction: Direction,
        declared: &[(&str, &Subscription)],
        limits: &Lag,
        trace: Trace,
        silent: &Silent,
    ) -> Result<LagReport> {
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
    }

    /// Looks for streams that flow back, in the place of those that do not flow forward.
    pub(super) fn look_back(
        &self,
        mut report: LagReport,
        declared: &[(&str, &Subscription)],
        limits: &Lag,
        trace: Trace,
        opened: &Opened,
    ) -> Result<LagReport> {
        if report
            .subscriptions
            .iter()
            .all(SubscriptionLag::is_subscribed)
        {
            return Ok(report);
        }
        let journals = self.journals(opened)?;
        let mut flowing_back = Vec::new();
        for (lag, (subname, subscription)) in report.subscriptions.iter_mut().zip(declared) {
            let direction = journals.flow(&subscription.dbname).direction;
            if !lag.is_subscribed() && direction == Direction::Back {
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
            self.seen(Direction::Back, &back, limits, trace, &Silent::of(opened))?
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
