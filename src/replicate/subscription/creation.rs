//! A subscription that is not there yet: the slot by a session that has proven where it is, then the subscription on that
//! slot. One that leads elsewhere finds no slot and copies nothing.

use std::time::{Duration, Instant};

use postgres::error::SqlState;

use super::{Target, Wanted};
use crate::catalog::{slots, subscriptions, tables};
use crate::error::{Advise, Failure, Report, Result, message_of};
use crate::replicate::options::Copy;
use crate::replicate::slot::{self, Standby};
use crate::replicate::subscribing::{self, Creator};
use crate::replicate::worker_settings::{self, Worker};
use crate::replicate::{
    Change, Plan, Run, closed, granted, identity, not_valid, refresh, status_table, unsubscribe,
};
use crate::server::{
    Login, Pair, Session, Side, Statement, conninfo_for_subscriber, interrupt, is_lost,
    silence_statement_log, sqlstate_of,
};
use crate::value::{HostPort, Ident, Literal, Secret, ShellWord, TableName};

/// How long the new subscription's worker may take to reach its slot.
const ATTACH: Duration = Duration::from_secs(20);

impl Wanted<'_> {
    pub(super) fn create(&self, run: &Run) -> Result<Change> {
        self.check()?;
        let creator = self.creator()?;
        let slot_name = slots::name_for(self.subname);
        let leftover = self.leftover(&slot_name)?;
        let publisher = &self.pair.publisher;
        let status = self.status_table(run)?;
        let identities = identity::equalise(self.pair, self.dbname(), Some(&self.published), run)?;
        let session = self.pair.subscriber.connect(creator.login, self.dbname())?;
        let closed = self.close(&self.published, creator.login, run)?;
        let settings = self.worker_settings(creator.login, run)?;
        let set_aside = self.set_aside(&self.published, run)?;
        let mut on_publisher = Plan::new(Side::Publisher, self.dbname());
        if leftover {
            on_publisher.step(
                format!("drop replication slot {slot_name:?}, left behind and inactive"),
                format!("SELECT pg_drop_replication_slot('{slot_name}')"),
            );
        }
        let standby = if self.options.failover && publisher.major() >= 17 {
            Standby::Failover
        } else {
            Standby::Ignored
        };
        let creation = slot::creation(&slot_name, standby);
        on_publisher.step(format!("create replication slot {slot_name:?}"), &creation);
        let slot = on_publisher.carry_out_by(run, |_| {
            if leftover {
                slot::drop(publisher, &slot_name)?;
            }
            slot::create(
                publisher,
                self.dbname(),
                &slot_name,
                &creation,
                &*run.progress,
            )
        })?;
        let mut on_subscriber = Plan::new(Side::Subscriber, self.dbname());
        for grant in &creator.grants {
            grant.give(&mut on_subscriber, self.dbname());
        }
        on_subscriber.push(self.statement(&slot_name)?);
        granted::record(&mut on_subscriber, self.subname, "", &creator.grants);
        let subscription = on_subscriber.carry_out_by(run, |statements| {
            let by_owner = creator.grants.iter().filter(|grant| grant.is_by_owner());
            let (by_owner, by_creator) = statements.split_at(by_owner.count());
            self.enable(by_owner, run)
                .and_then(|()| self.subscribe(&session, by_creator))
                .and_then(|()| self.attached(&slot_name))
                .map_err(|report| self.undo(&creator, &slot_name, run, report))
        })?;
        let mut change = status
            .and(identities)
            .and(closed)
            .and(settings)
            .and(set_aside)
            .and(slot)
            .and(subscription);
        let status = status_table::table(&self.pair.publisher);
        if !self.published.contains(&status) {
            change = change.with_note(format!(
                "{} is not published: run flare create_replication_status_table {}",
                status.plain(),
                self.dbname()
            ));
        }
        Ok(change)
    }

    /// Nobody but the subscription writes from now on, unless that was asked for.
    pub(super) fn close(&self, tables: &[TableName], login: Login, run: &Run) -> Result<Change> {
        let subscriber = &self.pair.subscriber;
        let owner = subscriber.credentials(login)?.user();
        match self.target {
            Target::Closed => closed::close(subscriber, self.dbname(), tables, (owner, login), run),
            Target::LeftOpen => Ok(Change::none(run).with_note(format!(
                "WARNING: {:?} on the subscriber stays open: whatever is written there is lost or stops the replication",
                self.dbname()
            ))),
        }
    }

    /// What old rows may violate is out of the copy's way.
    pub(super) fn set_aside(&self, tables: &[TableName], run: &Run) -> Result<Change> {
        match self.options.copy {
            Copy::Rows => not_valid::set_aside(&self.pair.subscriber, self.dbname(), tables, run),
            Copy::Nothing => Ok(Change::none(run)),
        }
    }

    /// Rows are written and read in one way, and no timeout ends a copy.
    pub(super) fn worker_settings(&self, login: Login, run: &Run) -> Result<Change> {
        let Pair {
            publisher,
            subscriber,
        } = self.pair;
        let sender = Worker {
            server: publisher,
            role: publisher.credentials(self.login)?.user(),
            login: self.login,
        };
        let receiver = Worker {
            server: subscriber,
            role: subscriber.credentials(login)?.user(),
            login,
        };
        worker_settings::settle(self.pair, self.dbname(), &sender, &receiver, run)
    }

    pub(super) fn creator(&self) -> Result<Creator> {
        let tables = &self.published;
        let acts_for_owners = !self.options.run_as_owner;
        subscribing::creator(
            &self.pair.subscriber,
            self.dbname(),
            tables,
            acts_for_owners,
        )
    }

    /// Lets the database's owner grant what the subscription's owner lacks.
    pub(super) fn enable(&self, by_owner: &[Statement], run: &Run) -> Result<()> {
        if by_owner.is_empty() {
            return Ok(());
        }
        let owner = self.as_db_owner()?;
        run.ddl.run(&owner, by_owner)
    }

    /// The status table on the subscriber, without old rows, with which a copy would collide.
    pub(super) fn status_table(&self, run: &Run) -> Result<Change> {
        let table = status_table::table(&self.pair.subscriber);
        let there = tables::missing(&self.on_subscriber, std::slice::from_ref(&table))?.is_empty();
        let change = status_table::create(&self.pair.subscriber, self.dbname(), run)?;
        if !there || self.options.copy == Copy::Nothing {
            return Ok(change);
        }
        let owner = self.as_db_owner()?;
        let mut plan = Plan::new(Side::Subscriber, self.dbname());
        if !tables::not_empty(&owner, std::slice::from_ref(&table))?.is_empty() {
            plan.step(
                format!("empty {}", table.plain()),
                format!("DELETE FROM {table}"),
            );
        }
        Ok(change.and(plan.carry_out(&owner, run)?))
    }

    pub(super) fn statement(&self, slot_name: &str) -> Result<Statement> {
        let conninfo = conninfo_for_subscriber(
            &self.pair.publisher,
            &self.pair.subscriber,
            self.login,
            self.dbname(),
        )?;
        let sql = |conninfo: &str| {
            format!(
                "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH (create_slot = false, slot_name = {}{})",
                Ident::new(self.subname),
                Literal(conninfo),
                Ident::new(&self.declared.pubname),
                Literal(slot_name),
                self.options.sql
            )
        };
        Ok(Statement::secret(
            format!("create subscription {:?}", self.subname),
            Secret::new(sql(conninfo.reveal().reveal())),
            sql(&conninfo.to_string()),
        ))
    }

    pub(super) fn subscribe(&self, session: &Session, statements: &[Statement]) -> Result<()> {
        session.set_timeout(refresh::patience(self.published.len()));
        session.batch("BEGIN")?;
        let created = silence_statement_log(session, self.pair.subscriber.major()).and_then(|()| {
            statements
                .iter()
                .try_for_each(|statement| statement.run(session))
        });
        match created {
            Ok(()) => session.batch("COMMIT"),
            Err(report) if is_lost(&report) => Err(self.advise(report)),
            Err(report) => {
                session.batch("ROLLBACK").unwrap_or_else(|undo| {
                    log::warn!("roll back: {}", message_of(&undo));
                });
                Err(self.advise(report))
            }
        }
    }

    fn advise(&self, report: Report) -> Report {
        let via = &self.pair.publisher.declared().via;
        let hint = match sqlstate_of(&report) {
            Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => {
                let user = &self.on_subscriber.endpoint().user;
                subscribing::lacks(&self.pair.subscriber, user, self.dbname())
            }
            Some(state) if *state == SqlState::UNDEFINED_TABLE => format!(
                "a table has been made since the schema was copied: flare replicate_schema --missing {} makes it; then run the command again",
                ShellWord(self.dbname())
            ),
            _ => format!(
                "the subscriber connects to {}: check host_via_subscriber, port_via_subscriber and the account in hosts.publisher.conn, the publisher's pg_hba.conf (its user logs in to this database for replication) and the firewall between the servers; flare verify_connectivity tries it",
                HostPort(&via.host, via.port)
            ),
        };
        Err::<(), _>(report).hint(|| hint).unwrap_err()
    }

    /// Waits until the subscription's worker has taken the slot: it leads to the publisher that was verified.
    pub(super) fn attached(&self, slot_name: &str) -> Result<()> {
        let since = Instant::now();
        loop {
            if slots::find(&self.on_publisher, slot_name)?.is_some_and(|slot| slot.active) {
                return Ok(());
            }
            if since.elapsed() > ATTACH {
                let via = &self.pair.publisher.declared().via;
                return Failure::new(format!(
                    "its worker has not reached slot {slot_name:?} of the publisher within {}: the subscription's connection ({}) leads to another server, or no worker can start",
                    humantime::format_duration(ATTACH),
                    HostPort(&via.host, via.port)
                ))
                .hint("correct host_via_subscriber and port_via_subscriber in hosts.publisher.conn; the subscriber's server log says what its worker met")
                .err();
            }
            interrupt::sleep(Duration::from_millis(20))?;
        }
    }

    /// Takes back what a failed creation has left; the error stays the first one.
    fn undo(&self, creator: &Creator, slot_name: &str, run: &Run, cause: Report) -> Report {
        let _shield = interrupt::Shield::raise();
        let undone = || -> Result<()> {
            let subscriber = &self.pair.subscriber;
            let session = subscriber.connect(creator.login, self.dbname())?;
            let made = subscriptions::find(&session, self.subname)?;
            let grants = &creator.grants;
            let ending = granted::ending_of(&session, self.dbname(), self.subname, grants)?;
            ending.before(subscriber, creator.login, self.dbname(), run)?;
            if let Some(made) = made {
                let mut plan = unsubscribe::detach_plan(
                    Side::Subscriber,
                    self.dbname(),
                    &made,
                    unsubscribe::Way::Open,
                );
                ending.within(&mut plan, self.dbname());
                plan.carry_out(&session, run)?;
            }
            slot::drop(&self.pair.publisher, slot_name)?;
            not_valid::make_again(subscriber, self.dbname(), run)?;
            closed::open(subscriber, self.dbname(), run).map(drop)
        };
        match undone() {
            Ok(()) => cause.wrap_err("undone, nothing is left"),
            Err(undo) => cause.wrap_err(format!(
                "NOT UNDONE, slot {slot_name:?} of the publisher retains WAL (flare drop_subscription {} drops it): {}",
                self.subname,
                message_of(&undo)
            )),
        }
    }
}
