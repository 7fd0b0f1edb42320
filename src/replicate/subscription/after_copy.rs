//! A subscription over rows that were copied up to its slot, in one transaction: it begins where the copy's snapshot ends.

use std::collections::BTreeSet;

use super::{Target, Wanted};
use crate::catalog::{slots, subscriptions, tables};
use crate::error::{Failure, Result, WrapErr};
use crate::replicate::options::Options;
use crate::replicate::{Change, Plan, Run, granted, identity, reverse};
use crate::server::{Login, Pair, Side};
use crate::value::{Ident, Literal, Lsn, TableName};

/// Where the subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Where its slot does.
    AtSlot,
    /// Later: what is before is there already.
    At(Lsn),
}

/// What was copied: each table with the point of its snapshot, where that is not the slot's own.
pub(crate) type Copied = (TableName, Option<Lsn>);

/// Creates it on a slot that is there, and has it begin.
pub(crate) fn create_after_copy(
    pair: &Pair,
    subname: &str,
    declared: &crate::config::Subscription,
    login: Login,
    (copied, begin): (&[Copied], Begin),
    run: &Run,
) -> Result<Change> {
    let attempt = || format!("create subscription {subname:?} over the rows that were copied");
    let mut options = declared.options.clone();
    options.shift_remove("copy_data");
    let options = Options::read(subname, &options, pair.subscriber.major())?;
    let login = (login, Target::Closed);
    let wanted = Wanted::read(pair, subname, declared, login, options.without_rows())?;
    wanted
        .create_after_copy(copied, begin, run)
        .wrap_err_with(attempt)
}

impl Wanted<'_> {
    fn create_after_copy(&self, copied: &[Copied], begin: Begin, run: &Run) -> Result<Change> {
        let slot_name = slots::name_for(self.subname);
        if slots::find(&self.on_publisher, &slot_name)?.is_none() {
            return Failure::new(format!("the publisher has no slot {slot_name:?} any more"))
                .hint("what was written since the copy is lost to it: start over (flare initial_copy --restart)")
                .err();
        }
        let creator = self.creator()?;
        let mut change = self.status_table(run)?;
        change = change.and(identity::equalise(
            self.pair,
            self.dbname(),
            Some(&self.published),
            run,
        )?);
        change = change.and(self.close(&self.published, creator.login, run)?);
        change = change.and(self.worker_settings(creator.login, run)?);
        let session = self.pair.subscriber.connect(creator.login, self.dbname())?;
        let mut plan = Plan::new(Side::Subscriber, self.dbname());
        for grant in &creator.grants {
            grant.give(&mut plan, self.dbname());
        }
        plan.push(self.statement(&slot_name)?);
        granted::record(&mut plan, self.subname, "", &creator.grants);
        self.states(&mut plan, copied)?;
        // Who may not move origins has the slot moved instead, once the subscription is there.
        let later = match begin {
            Begin::At(lsn) if !self.pair.subscriber.facts().superuser => Some(lsn),
            _ => None,
        };
        if let (Begin::At(lsn), None) = (begin, later) {
            plan.step(
                format!("have it begin at {lsn}"),
                format!(
                    "SELECT pg_catalog.pg_replication_origin_advance('pg_' || oid, {}::pg_lsn) FROM pg_catalog.pg_subscription
                      WHERE subname = {} AND subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
                    Literal(lsn.to_string()),
                    Literal(self.subname)
                ),
            );
        }
        if later.is_none() {
            plan.step(
                format!("enable subscription {:?}", self.subname),
                format!("ALTER SUBSCRIPTION {} ENABLE", Ident::new(self.subname)),
            );
        }
        let by_owner = creator.grants.iter().filter(|grant| grant.is_by_owner());
        let by_owner = by_owner.count();
        change = change.and(plan.carry_out_by(run, |statements| {
            let (by_owner, by_creator) = statements.split_at(by_owner);
            self.enable(by_owner, run)?;
            if subscriptions::find(&self.on_subscriber, self.subname)?.is_none() {
                self.subscribe(&session, by_creator)?;
            }
            if let Some(lsn) = later {
                reverse::start(self.pair, self.dbname(), self.subname, lsn)?;
            }
            self.attached(&slot_name)
        })?);
        Ok(change)
    }

    /// The states of tables that were not copied with the slot's own snapshot: what they got before theirs is left out by
    /// the apply worker, as it does after a table sync of its own; what came after the copy is copied by it.
    fn states(&self, plan: &mut Plan, copied: &[Copied]) -> Result<()> {
        let copied = self.with_roots(copied)?;
        let known = |name: &TableName| copied.iter().find(|(copied, _)| copied == name);
        let set = |name: &TableName, state: &str, lsn: &str| {
            format!(
                "UPDATE pg_catalog.pg_subscription_rel SET srsubstate = '{state}', srsublsn = {lsn}
                  WHERE srrelid = {}::pg_catalog.regclass
                    AND srsubid = (SELECT oid FROM pg_catalog.pg_subscription WHERE subname = {}
                                      AND subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))",
                Literal(name.to_string()),
                Literal(self.subname)
            )
        };
        let mut new = Vec::new();
        for name in &self.published {
            match known(name) {
                Some((_, None)) => {}
                Some((_, Some(lsn))) => plan.step(
                    format!(
                        "begin {} at {lsn}, where its own snapshot ends",
                        name.plain()
                    ),
                    set(name, "s", &format!("{}::pg_lsn", Literal(lsn.to_string()))),
                ),
                None => {
                    plan.step(
                        format!(
                            "have {} copied, which came after the snapshot",
                            name.plain()
                        ),
                        set(name, "i", "NULL"),
                    );
                    new.push(name.clone());
                }
            }
        }
        if !self.pair.subscriber.facts().superuser && !plan_is_ordinary(&copied, &new) {
            return Failure::new(format!(
                "tables need another beginning than the slot's ({}), and only a superuser of the subscriber can give them one",
                tables::listed(&new)
            ))
            .hint("start over: flare initial_copy --restart")
            .err();
        }
        self.check_tables_to_take(&new)
    }

    /// What was copied, and the partitioned tables whose partitions were: a publication with publish_via_partition_root
    /// sends changes as theirs, and they are what the subscription takes. A partition that came later brings all its rows
    /// by the stream.
    fn with_roots(&self, copied: &[Copied]) -> Result<Vec<Copied>> {
        let mut all = copied.to_vec();
        let lacks = |name: &&TableName| !copied.iter().any(|(copied, _)| copied == *name);
        let others: Vec<&TableName> = self.published.iter().filter(lacks).collect();
        if others.is_empty() {
            return Ok(all);
        }
        let owner = &self.pair.publisher.declared().db_owner.user;
        let tables = tables::all(&self.on_publisher, owner)?;
        for root in others {
            let is_part = |name: &TableName| {
                let part = tables.iter().find(|it| it.name == *name);
                part.is_some_and(|it| it.ancestors.contains(root))
            };
            let parts = copied.iter().filter(|(name, _)| is_part(name));
            let begins: BTreeSet<Option<Lsn>> = parts.map(|(_, lsn)| *lsn).collect();
            if begins.len() > 1 {
                return Failure::new(format!(
                    "the partitions of {} were copied as of different points, and changes are sent as the whole table's (publish_via_partition_root)",
                    root.plain()
                ))
                .hint("start over: flare initial_copy --restart")
                .err();
            }
            all.extend(begins.into_iter().map(|lsn| (root.clone(), lsn)));
        }
        Ok(all)
    }
}

fn plan_is_ordinary(copied: &[Copied], new: &[TableName]) -> bool {
    new.is_empty() && copied.iter().all(|(_, lsn)| lsn.is_none())
}
