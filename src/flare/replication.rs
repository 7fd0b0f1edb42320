//! Privileges, publications and subscriptions.

use super::Flare;
use crate::copy;
use crate::cutover;
use crate::ddl;
use crate::error::{Error, Result, message_of};
use crate::preflight::Before;
use crate::replicate::Mode;
use crate::replicate::views::{self, Which};
use crate::replicate::{
    Change, InUse, OldSlot, Sequences, Target, Unreachable, Wait, closed, grants, made,
    publication, sequences, status_table, subscription, unsubscribe,
};
use crate::server::{ActAs, Login, Pair, Server, Timeout};

impl Flare {
    /// Grants CREATE and CONNECT on a database to the superuser of the configuration, on the publisher.
    pub fn grant_create(&self, dbname: &str, login: Login) -> Result<Change, Error> {
        self.config.publication(dbname)?;
        let publisher = self.publisher(&[dbname])?;
        Ok(grants::grant_create(&publisher, dbname, login, &self.run)?)
    }

    /// Grants the replication user all privileges on a database and what is published in it, on the publisher.
    pub fn grant_replication(&self, dbname: &str, login: Login) -> Result<Change, Error> {
        let pubname = &self.config.publication(dbname)?.pubname;
        let publisher = self.publisher(&[dbname])?;
        Ok(grants::grant_replication(
            &publisher, dbname, pubname, login, &self.run,
        )?)
    }

    /// Creates a database's publication, or completes the one that is there.
    pub fn create_publication(&self, dbname: &str) -> Result<Change, Error> {
        let wanted = self.config.publication(dbname)?;
        let publisher = self.publisher(&[dbname])?;
        publication::check_names(&publisher, dbname, wanted)?;
        self.clear(&publisher, None, dbname, Before::Publication)?;
        Ok(publication::create(&publisher, dbname, wanted, &self.run)?)
    }

    /// Drops a database's publication.
    pub fn drop_publication(&self, dbname: &str, in_use: InUse) -> Result<Change, Error> {
        self.config.publication(dbname)?;
        let opened = self.open().any()?;
        self.check_forward(&opened, &[dbname])?;
        let (publisher, subscriber) = opened.publisher_first()?;
        self.begin(&[&publisher], &[dbname])?;
        Ok(publication::drop(
            &publisher,
            &subscriber,
            &self.config,
            dbname,
            in_use,
            &self.run,
        )?)
    }

    /// Creates a subscription with its slot, or completes the one that is there; `login` is whom the subscriber
    /// connects to the publisher as. The subscriber's database is closed to everybody but replication, unless `target`
    /// says otherwise.
    pub fn create_subscription(
        &self,
        subname: &str,
        login: Login,
        target: Target,
        wait: Wait,
    ) -> Result<Change, Error> {
        let declared = self.config.subscription(subname)?;
        let pair = self.pair(&[&declared.dbname])?;
        let (from, to) = (&pair.publisher, &pair.subscriber);
        copy::check_none(&pair, subname, &declared.dbname, &self.run)?;
        ddl::check_rights(&pair, &declared.dbname, self.config.ddl)?;
        self.clear(from, Some(to), &declared.dbname, Before::Subscription)?;
        let target = (login, target);
        // Statements are refused or carried while the rows travel, too.
        let arm = || self.arm(&pair, subname, declared);
        let created = subscription::create(&pair, subname, declared, target, wait, &self.run, arm)?;
        match (wait, self.run.mode) {
            (Wait::UntilReady, Mode::Apply) => {
                Ok(created.and(self.fill_views(&pair, &declared.dbname)?))
            }
            _ => Ok(created),
        }
    }

    /// Refreshes the materialized views that the copy of the tables has left empty.
    fn fill_views(&self, pair: &Pair, dbname: &str) -> Result<Change> {
        let from = pair.publisher.connect(Login::Superuser, dbname)?;
        let to = pair.subscriber.connect(ActAs::Tables, dbname)?;
        let to = to.with_timeout(Timeout::WhileServerAnswers);
        let left_behind = self.config.left_behind(dbname);
        let filled = views::refresh((&from, &to), Which::Unfilled, left_behind, &self.run)?;
        let mut change = Change::none(&self.run);
        change.changed = filled.refreshed > 0;
        for failed in &filled.failed {
            change = change.with_note(failed.in_words());
        }
        Ok(change)
    }

    /// Drops a subscription and its slot.
    pub fn drop_subscription(
        &self,
        subname: &str,
        slot: OldSlot,
        unreachable: Unreachable,
    ) -> Result<Change, Error> {
        let dbname = &self.config.subscription(subname)?.dbname;
        let opened = self.open().any()?;
        self.check_forward(&opened, &[dbname])?;
        let (subscriber, publisher) = opened.subscriber_first()?;
        if let (Ok(publisher), Unreachable::Refuse) = (&publisher, unreachable) {
            unsubscribe::refuse_strangers(&subscriber, publisher, subname, dbname)?;
        }
        let mut touched: Vec<&Server> = vec![&subscriber];
        if let (Ok(publisher), OldSlot::Drop) = (&publisher, slot) {
            touched.push(publisher);
        }
        self.begin(&touched, &[dbname])?;
        let how = (slot, unreachable);
        let mut given_up = copy::give_up(&subscriber, &publisher, dbname, &self.run)?;
        if let Ok(publisher) = &publisher {
            given_up = given_up.and(copy::adopt::give_up(publisher, subname, &self.run)?);
        }
        let armed = publisher.as_ref().ok().map(|it| &**it);
        let armed = self.disarm(armed.into_iter().chain([&*subscriber]), dbname)?;
        let change = unsubscribe::drop(&subscriber, &publisher, subname, dbname, how, &self.run)?;
        let change = given_up.and(change);
        let of_workers = |it: &made::Made| matches!(it, made::Made::Setting { .. });
        // Constraints that were taken off for a copy that did not end.
        let of_subscriber =
            |it: &made::Made| of_workers(it) || matches!(it, made::Made::NotValid { .. });
        let mut change = change.and(made::take_back_some(
            &subscriber,
            dbname,
            of_subscriber,
            &self.run,
        )?);
        if let Ok(publisher) = &publisher {
            change = change.and(made::take_back_some(
                publisher, dbname, of_workers, &self.run,
            )?);
        }
        // A cutover that was undone has left it shut: nobody was to write there while it subscribed.
        Ok(armed
            .and(change)
            .and(closed::open(&subscriber, dbname, &self.run)?)
            .and(cutover::open_shut(&subscriber, dbname, &self.run)?))
    }

    /// Creates `flare_replication_status` on both sides where the database exists, and publishes it.
    pub fn create_replication_status_table(&self, dbname: &str) -> Result<Change, Error> {
        let pubname = &self.config.publication(dbname)?.pubname;
        let pair = self.pair(&[dbname])?;
        let subnames: Vec<&str> = self
            .config
            .subscriptions
            .iter()
            .filter(|(_, sub)| sub.dbname == dbname && sub.pubname == *pubname)
            .map(|(subname, _)| subname.as_str())
            .collect();
        let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
        Ok(status_table::create_everywhere(
            publisher, subscriber, dbname, pubname, &subnames, &self.run,
        )?)
    }

    /// Deletes the publisher's row of `flare_replication_status`, on both sides as the original does.
    pub fn reset_replication_status(&self, dbname: &str) -> Result<Change, Error> {
        self.config.publication(dbname)?;
        let opened = self.open().any()?;
        self.check_forward(&opened, &[dbname])?;
        let (publisher, subscriber) = opened.publisher_first()?;
        let mut touched: Vec<&Server> = vec![&publisher];
        touched.extend(subscriber.as_ref().ok().map(|subscriber| &**subscriber));
        self.begin(&touched, &[dbname])?;
        let identifier = publisher.identifier();
        let change = status_table::reset(&publisher, dbname, identifier, &self.run)?;
        Ok(match &subscriber {
            Err(report) => change.with_note(format!(
                "the subscriber was left alone, it cannot be reached: {}",
                message_of(report)
            )),
            Ok(subscriber) if !status_table::has_database(subscriber, dbname)? => change,
            Ok(subscriber) => change.and(status_table::reset(
                subscriber, dbname, identifier, &self.run,
            )?),
        })
    }

    /// Sets the subscriber's sequences to the publisher's values; a dry run only shows them.
    pub fn replicate_sequences(&self, subname: &str) -> Result<Sequences, Error> {
        let dbname = &self.config.subscription(subname)?.dbname;
        let pair = self.pair(&[dbname])?;
        Ok(sequences::replicate(&pair, dbname, &self.run)?)
    }
}
