//! The subscription: everything is checked first, then the slot is made by a session that has proven where it is,
//! then the subscription is created on that slot. A subscription that leads elsewhere finds no slot and copies nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use postgres::error::SqlState;

use super::options::{Copy, Options};
use super::slot::Standby;
use super::subscribing::Creator;
use super::{
    Change, Mode, Plan, Run, granted, identity, refresh, slot, status_table, subscribing,
    unsubscribe, watch,
};
use crate::catalog::capacity::{self, PublisherRoom, Room, SubscriberRoom};
use crate::catalog::subscriptions::{self, Subscription as Existing};
use crate::catalog::tables::{self, listed};
use crate::catalog::{publications, slots};
use crate::config::Subscription;
use crate::error::{Advise, Failure, Report, Result, WrapErr, message_of};
use crate::server::{
    Login, Pair, Session, Side, Statement, conninfo_for_subscriber, interrupt, is_lost,
    silence_statement_log, sqlstate_of,
};
use crate::value::{Ident, Literal, Secret, TableName};

/// How long the new subscription's worker may take to reach its slot.
const ATTACH: Duration = Duration::from_secs(20);

/// Whether `create_subscription` waits for the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The subscription copies by itself.
    No,
    /// Until every table is ready.
    UntilReady,
}

/// What is being created.
struct Wanted<'a> {
    pair: &'a Pair,
    subname: &'a str,
    declared: &'a Subscription,
    /// Whom the subscriber connects to the publisher as.
    login: Login,
    options: Options,
    published: Vec<TableName>,
    on_publisher: Session,
    on_subscriber: Session,
}

/// Creates the subscription, or completes the one that is there.
pub(crate) fn create(
    pair: &Pair,
    subname: &str,
    declared: &Subscription,
    login: Login,
    wait: Wait,
    run: &Run,
) -> Result<Change> {
    let Subscription {
        dbname, pubname, ..
    } = declared;
    let attempt = || format!("create subscription {subname:?}");
    let options = Options::read(subname, &declared.options, pair.subscriber.major())?;
    pair.publisher.credentials(login)?;
    if !status_table::has_database(&pair.subscriber, dbname)? {
        return Failure::new(format!(
            "{}: the subscriber has no database {dbname:?}",
            attempt()
        ))
        .hint(format!("run flare replicate_schema {dbname}"))
        .err();
    }
    let on_publisher = pair.publisher.connect(Login::Superuser, dbname)?;
    if publications::find(&on_publisher, pubname)?.is_none() {
        return Failure::new(format!(
            "{}: the publisher has no publication {pubname:?} in database {dbname:?}",
            attempt()
        ))
        .hint(format!("run flare create_publication {dbname}"))
        .err();
    }
    let wanted = Wanted {
        pair,
        subname,
        declared,
        login,
        options,
        published: publications::tables(&on_publisher, pubname)?,
        on_publisher,
        on_subscriber: pair.subscriber.connect(Login::Superuser, dbname)?,
    };
    let change = match subscriptions::find(&wanted.on_subscriber, subname)? {
        Some(existing) => wanted.complete(&existing, run),
        None => wanted.create(run),
    };
    let change = change.wrap_err_with(attempt)?;
    match (wait, run.mode) {
        (Wait::UntilReady, Mode::Apply) => {
            let tables = wanted.wait(run)?;
            Ok(change.with_note(format!("all {tables} tables are ready")))
        }
        _ => Ok(change),
    }
}

impl Wanted<'_> {
    fn dbname(&self) -> &str {
        &self.declared.dbname
    }

    /// Refuses what would go wrong; the status table is flare's own affair.
    fn check(&self) -> Result<()> {
        let status = status_table::table();
        let tables: Vec<TableName> = self
            .published
            .iter()
            .filter(|name| **name != status)
            .cloned()
            .collect();
        self.check_tables_to_take(&tables)?;
        let from = capacity::of_publisher(&self.on_publisher)?;
        let to = capacity::of_subscriber(&self.on_subscriber)?;
        let lacking = lacking(&from, &to, self.options.copy);
        if !lacking.is_empty() {
            return Failure::new(lacking.join("; "))
                .hint("raise the settings (each needs a restart of its server), or drop what is not needed any more")
                .err();
        }
        self.check_rights()
    }

    /// Tables that the subscription begins to copy: there, and empty.
    fn check_tables_to_take(&self, tables: &[TableName]) -> Result<()> {
        let dbname = self.dbname();
        let missing = tables::missing(&self.on_subscriber, tables)?;
        if !missing.is_empty() {
            return Failure::new(format!(
                "the subscriber's database {dbname:?} has no table {}",
                listed(&missing)
            ))
            .hint(format!(
                "run flare replicate_schema {dbname}, or create them there as they are on the publisher"
            ))
            .err();
        }
        if self.options.copy == Copy::Nothing {
            return Ok(());
        }
        let filled = match self.pair.subscriber.facts().superuser {
            true => tables::not_empty(&self.on_subscriber, tables)?,
            // An administrator who is no superuser may not read what others own.
            false => {
                let session = self.pair.subscriber.connect(Login::DbOwner, dbname)?;
                tables::not_empty(&session, tables)?
            }
        };
        match filled.is_empty() {
            true => Ok(()),
            false => Failure::new(format!(
                "on the subscriber there are rows already in {}: the copy would collide with them",
                listed(&filled)
            ))
            .hint(format!(
                "TRUNCATE them on the subscriber, or set copy_data: false in subscriptions.{}.options if they are the publisher's rows",
                self.subname
            ))
            .err(),
        }
    }

    /// The account in the subscription's connection can read everything that it copies.
    fn check_rights(&self) -> Result<()> {
        if self.options.copy == Copy::Nothing {
            return Ok(());
        }
        let user = self.pair.publisher.credentials(self.login)?.user();
        let unreadable = tables::unreadable(&self.on_publisher, user, &self.published)
            .wrap_err_with(|| format!("read the privileges of {user:?}"))?;
        if !unreadable.denied.is_empty() {
            return Failure::new(format!(
                "{user:?} may not read {} on the publisher",
                listed(&unreadable.denied)
            ))
            .hint(format!(
                "run flare grant_replication {}; without --use-repl-user the superuser account needs USAGE on the schemas and SELECT on the tables",
                self.dbname()
            ))
            .err();
        }
        match unreadable.filtered.is_empty() {
            true => Ok(()),
            false => Failure::new(format!(
                "row security would hide rows from {user:?} in {}, in silence",
                listed(&unreadable.filtered)
            ))
            .hint(format!(
                "ALTER ROLE {} BYPASSRLS on the publisher",
                Ident::new(user)
            ))
            .err(),
        }
    }

    fn create(&self, run: &Run) -> Result<Change> {
        self.check()?;
        let creator = self.creator()?;
        let slot_name = slot::name_for(self.subname);
        let leftover = self.leftover(&slot_name)?;
        let publisher = &self.pair.publisher;
        let status = self.status_table(run)?;
        let identities = identity::equalise(self.pair, self.dbname(), Some(&self.published), run)?;
        let session = self.pair.subscriber.connect(creator.login, self.dbname())?;
        let mut on_publisher = Plan::new(Side::Publisher, self.dbname());
        if leftover {
            on_publisher.step(
                format!("drop replication slot {slot_name:?}, left behind and inactive"),
                format!("SELECT pg_drop_replication_slot('{slot_name}')"),
            );
        }
        let standby = match self.options.failover && publisher.major() >= 17 {
            true => Standby::Failover,
            false => Standby::Ignored,
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
        let mut change = status.and(identities).and(slot).and(subscription);
        if !self.published.contains(&status_table::table()) {
            change = change.with_note(format!(
                "{} is not published: run flare create_replication_status_table {}",
                status_table::table().plain(),
                self.dbname()
            ));
        }
        Ok(change)
    }

    fn creator(&self) -> Result<Creator> {
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
    fn enable(&self, by_owner: &[Statement], run: &Run) -> Result<()> {
        if by_owner.is_empty() {
            return Ok(());
        }
        let owner = self.pair.subscriber.as_owner(self.dbname())?;
        run.ddl.run(&owner, by_owner)
    }

    /// Whether an idle slot of that name was left by an interrupted run; any other use of the name is refused.
    fn leftover(&self, slot_name: &str) -> Result<bool> {
        let Some(found) = slots::find(&self.on_publisher, slot_name)? else {
            return Ok(false);
        };
        let ours = found.database.as_deref() == Some(self.dbname())
            && found.plugin.as_deref() == Some("pgoutput")
            && !found.temporary;
        let why = match (ours, found.active_pid) {
            (true, None) if !found.active => return Ok(true),
            (true, pid) => format!(
                "is in use by pid {}: another subscription has it",
                pid.unwrap_or_default()
            ),
            (false, _) => "is of another database or plugin".to_owned(),
        };
        Failure::new(format!(
            "the publisher has a slot {slot_name:?} already, and it {why}"
        ))
        .hint("name the subscription otherwise, or drop that slot on the publisher")
        .err()
    }

    /// The status table on the subscriber, without old rows, with which a copy would collide.
    fn status_table(&self, run: &Run) -> Result<Change> {
        let table = status_table::table();
        let there = tables::missing(&self.on_subscriber, std::slice::from_ref(&table))?.is_empty();
        let change = status_table::create(&self.pair.subscriber, self.dbname(), run)?;
        if !there || self.options.copy == Copy::Nothing {
            return Ok(change);
        }
        let owner = self.pair.subscriber.as_owner(self.dbname())?;
        let mut plan = Plan::new(Side::Subscriber, self.dbname());
        if !tables::not_empty(&owner, std::slice::from_ref(&table))?.is_empty() {
            plan.step(
                format!("empty {}", table.plain()),
                format!("DELETE FROM {table}"),
            );
        }
        Ok(change.and(plan.carry_out(&owner, run)?))
    }

    fn statement(&self, slot_name: &str) -> Result<Statement> {
        let conninfo = conninfo_for_subscriber(&self.pair.publisher, self.login, self.dbname())?;
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

    fn subscribe(&self, session: &Session, statements: &[Statement]) -> Result<()> {
        session.batch("BEGIN")?;
        let created = silence_statement_log(session).and_then(|()| {
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
        let user = &self.on_subscriber.endpoint().user;
        let ident = Ident::new(user);
        let via = &self.pair.publisher.declared().via;
        let hint = match sqlstate_of(&report) {
            Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => {
                let dbname = Ident::new(self.dbname());
                let right = match self.pair.subscriber.major() {
                    16.. => format!(
                        "GRANT pg_create_subscription TO {ident}; GRANT CREATE ON DATABASE {dbname} TO {ident}"
                    ),
                    _ => format!("ALTER ROLE {ident} SUPERUSER"),
                };
                format!(
                    "{user:?} may not create subscriptions on the subscriber: {right}; on Amazon RDS log in as the master user or GRANT rds_superuser TO {ident}"
                )
            }
            _ => format!(
                "the subscriber connects to {}:{}: check host_via_subscriber, port_via_subscriber and the account in hosts.publisher.conn, the publisher's pg_hba.conf (its user logs in to this database for replication) and the firewall between the servers; flare verify_connectivity tries it",
                via.host, via.port
            ),
        };
        Err::<(), _>(report).hint(|| hint).unwrap_err()
    }

    /// Waits until the subscription's worker has taken the slot: it leads to the publisher that was verified.
    fn attached(&self, slot_name: &str) -> Result<()> {
        let since = Instant::now();
        loop {
            if slots::find(&self.on_publisher, slot_name)?.is_some_and(|slot| slot.active) {
                return Ok(());
            }
            if since.elapsed() > ATTACH {
                let via = &self.pair.publisher.declared().via;
                return Failure::new(format!(
                    "its worker has not reached slot {slot_name:?} of the publisher within {}: the subscription's connection ({}:{}) leads to another server, or no worker can start",
                    humantime::format_duration(ATTACH),
                    via.host,
                    via.port
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
            slot::drop(&self.pair.publisher, slot_name)
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

    /// A subscription that is there: as wanted, or behind its publication, or another's.
    fn complete(&self, existing: &Existing, run: &Run) -> Result<Change> {
        let Existing {
            subpublications,
            subslotname,
            ..
        } = existing;
        let start_over = || {
            format!(
                "flare drop_subscription {}, then create it again",
                self.subname
            )
        };
        if *subpublications != [self.declared.pubname.clone()] {
            return Failure::new(format!(
                "it exists already, for publication {}",
                subpublications.join(", ")
            ))
            .hint(start_over())
            .err();
        }
        let slot_name = subslotname.clone().unwrap_or_default();
        let slot = slots::find(&self.on_publisher, &slot_name)?;
        let why = match &slot {
            None => Some(format!("its slot {slot_name:?} is not on the publisher")),
            Some(slot) if slot.wal_status.as_deref() == Some("lost") => Some(format!(
                "its slot {slot_name:?} is lost: the publisher has removed the WAL that it needs"
            )),
            Some(_) if !existing.subenabled => Some("it is disabled".to_owned()),
            Some(_) => None,
        };
        if let Some(why) = why {
            let hint = match existing.subenabled || slot.is_none() {
                true => start_over(),
                false => format!(
                    "ALTER SUBSCRIPTION {} ENABLE on the subscriber, or {}",
                    Ident::new(self.subname),
                    start_over()
                ),
            };
            return Failure::new(format!("it exists already, but {why}"))
                .hint(hint)
                .err();
        }
        let mut change =
            Change::none(run).with_note(format!("subscription {:?} exists already", self.subname));
        let relations = subscriptions::relations(&self.on_subscriber, self.subname)?;
        let missing = refresh::missing(&self.published, &relations);
        if missing.is_empty() {
            return Ok(change);
        }
        let status = status_table::table();
        let others: Vec<TableName> = missing
            .iter()
            .filter(|name| **name != status)
            .cloned()
            .collect();
        self.check_tables_to_take(&others)?;
        if missing.contains(&status) {
            change = change.and(status_table::create(
                &self.pair.subscriber,
                self.dbname(),
                run,
            )?);
        }
        let plan = refresh::plan(self.dbname(), existing, &missing);
        let session = unsubscribe::owning(&self.pair.subscriber, self.dbname(), existing)?;
        Ok(change.and(plan.carry_out_singly(&session, run)?))
    }

    fn wait(&self, run: &Run) -> Result<usize> {
        let bytes = tables::bytes(&self.on_publisher, &self.published)?;
        let sizes: HashMap<TableName, i64> = self.published.iter().cloned().zip(bytes).collect();
        watch::until_ready(
            &self.pair.subscriber,
            &self.on_subscriber,
            self.subname,
            &sizes,
            run,
        )
    }
}

/// What there is no room for; a copy needs one more of each for its sync worker.
fn lacking(from: &PublisherRoom, to: &SubscriberRoom, copy: Copy) -> Vec<String> {
    let mut lacking = Vec::new();
    if from.wal_level != "logical" {
        lacking.push(format!(
            "the publisher's wal_level is {}, and logical is needed",
            from.wal_level
        ));
    }
    let needed = match copy {
        Copy::Rows => 2,
        Copy::Nothing => 1,
    };
    let rooms = |side: Side, rooms: &[Room]| -> Vec<String> {
        let small = rooms.iter().filter(|room| room.free() < needed);
        let words = small.map(|room| {
            format!(
                "the {side}'s {} is {}, {} are taken, and {needed} more are needed",
                room.name, room.limit, room.used
            )
        });
        words.collect()
    };
    lacking.extend(rooms(Side::Publisher, &from.rooms));
    lacking.extend(rooms(Side::Subscriber, &to.rooms));
    if copy == Copy::Rows && to.max_sync_workers_per_subscription < 1 {
        lacking.push(
            "the subscriber's max_sync_workers_per_subscription is 0, so nothing would be copied"
                .to_owned(),
        );
    }
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_small_is_named_with_its_setting() {
        let room = |name: &str, limit, used| Room {
            name: name.into(),
            limit,
            used,
        };
        let from = PublisherRoom {
            wal_level: "replica".into(),
            rooms: vec![
                room("max_wal_senders", 10, 9),
                room("max_replication_slots", 10, 3),
            ],
        };
        let to = SubscriberRoom {
            max_sync_workers_per_subscription: 2,
            rooms: vec![room("max_logical_replication_workers", 4, 4)],
        };
        let all = lacking(&from, &to, Copy::Rows).join("\n");
        assert!(all.contains("wal_level is replica"), "{all}");
        assert!(
            all.contains("publisher's max_wal_senders is 10, 9 are taken, and 2 more"),
            "{all}"
        );
        assert!(
            all.contains("subscriber's max_logical_replication_workers"),
            "{all}"
        );
        assert!(!all.contains("max_replication_slots"), "{all}");
        assert_eq!(lacking(&from, &to, Copy::Nothing).len(), 2);
    }
}
