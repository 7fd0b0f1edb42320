//! Dropping a subscription: detached from its slot first, so that the publisher cannot stop it, then the slots.

use std::sync::Arc;

use super::{Change, Plan, Run, granted, slot};
use crate::catalog::slots::{self, Slot};
use crate::catalog::subscriptions::{self, Subscription};
use crate::error::{Advise, Failure, Result, message_of};
use crate::server::{ActAs, Login, Publisher, Session, Side, Subscriber};
use crate::value::{Ident, Literal, ShellWord};

/// What becomes of the slot on the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldSlot {
    /// It goes.
    Drop,
    /// It stays, and retains WAL.
    Keep,
}

/// What a publisher that does not answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nothing is changed.
    Refuse,
    /// The subscription goes, its slot stays.
    Detach,
}

/// Refuses a subscription of that name that follows a third server: neither does its connection lead to the publisher's
/// address, nor is its slot there.
pub(crate) fn refuse_strangers(
    subscriber: &Subscriber,
    publisher: &Publisher,
    subname: &str,
    dbname: &str,
) -> Result<()> {
    if !super::status_table::has_database(subscriber, dbname)? {
        return Ok(());
    }
    let session = subscriber.visit(dbname)?;
    let Some(found) = subscriptions::find(&session, subname)? else {
        return Ok(());
    };
    let via = &publisher.declared().via;
    let Some(leads_to) = subscriptions::leads_elsewhere(&session, subname, via)? else {
        return Ok(());
    };
    let there = match &found.subslotname {
        Some(name) => slots::find(publisher.admin(), name)?,
        None => None,
    };
    let ours = there.is_some_and(|slot| slot.database.as_deref() == Some(dbname));
    if ours {
        return Ok(());
    }
    Failure::new(format!(
        "drop subscription {subname:?} of database {dbname:?}: it follows {leads_to}, and not the {}, which has no slot of it: it is another migration's",
        publisher.side()
    ))
    .hint(format!(
        "name this migration's subscription otherwise in the configuration; if it is nobody's, flare drop_subscription --force {} drops it",
        ShellWord(subname)
    ))
    .err()
}

/// Drops a subscription and its slots; what an earlier, interrupted drop left behind too.
pub(crate) fn drop(
    subscriber: &Subscriber,
    publisher: &Result<Publisher>,
    subname: &str,
    dbname: &str,
    (old_slot, unreachable): (OldSlot, Unreachable),
    run: &Run,
) -> Result<Change> {
    let existing = if super::status_table::has_database(subscriber, dbname)? {
        let found = subscriptions::find(&*subscriber.visit(dbname)?, subname)?;
        match found {
            Some(found) => Some((owning(subscriber, dbname, &found)?, found)),
            None => None,
        }
    } else {
        None
    };
    let found = existing.as_ref().map(|(_, found)| found);
    let slot_name = match found {
        Some(found) => found.subslotname.clone(),
        None => Some(slots::name_for(subname)),
    };
    if let (Err(report), OldSlot::Drop, Unreachable::Refuse) = (publisher, old_slot, unreachable) {
        return Failure::new(format!(
            "drop subscription {subname:?}: its slot {:?} is on the publisher, which cannot be reached: {}; nothing was changed",
            slot_name.unwrap_or_default(),
            message_of(report)
        ))
        .hint("try again when the publisher answers; --force drops the subscription now and leaves the slot, which retains WAL until it is dropped there")
        .err();
    }
    let leftovers = match (publisher, old_slot) {
        (Ok(publisher), OldSlot::Drop) => {
            let all = slots::of_database(publisher.admin(), dbname)?;
            let oids = subscriptions::oids(subscriber.admin())?;
            let others: Vec<String> = oids
                .into_iter()
                .filter(|oid| found.is_none_or(|found| found.oid != *oid))
                .collect();
            let main = slot_name.as_deref();
            let ours = |slot: &Slot| {
                // A slot whose subscription is not here may be another server's: only an idle one goes.
                (Some(slot.slot_name.as_str()) == main && (found.is_some() || !slot.active))
                    || is_sync_slot(&slot.slot_name, subscriber.identifier(), &others)
            };
            all.into_iter().filter(ours).collect()
        }
        _ => Vec::new(),
    };
    let way = match publisher {
        Err(_) if subscriber.major() >= 14 => Way::Closed,
        _ => Way::Open,
    };
    let mut change = match &existing {
        Some((session, found)) => {
            let ending = granted::ending(subscriber, session, dbname, found)?;
            let login = login_of(subscriber, found);
            let before = ending.before(subscriber, login, dbname, run)?;
            let mut plan = detach_plan(subscriber.side(), dbname, found, way);
            ending.within(&mut plan, dbname);
            before.and(plan.carry_out(session, run).hint(|| {
                format!(
                    "the subscription belongs to {:?}: only its owner or a superuser may drop it",
                    found.owner
                )
            })?)
        }
        None => Change::none(run).with_note(format!(
            "there is no subscription {subname:?} in database {dbname:?} on the subscriber"
        )),
    };
    if let Ok(publisher) = publisher {
        change = change.and(drop_slots(publisher, dbname, &leftovers, run).hint(|| {
            "the subscription is gone; run the command again to drop what is left of it on the publisher".into()
        })?);
    }
    Ok(match (old_slot, publisher, slot_name, found) {
        (OldSlot::Keep, _, Some(slot_name), Some(_)) => change.with_note(format!(
            "slot {slot_name:?} stays on the publisher and retains WAL until it is dropped: SELECT pg_drop_replication_slot('{slot_name}')"
        )),
        (OldSlot::Drop, Err(_), Some(slot_name), _) => change.with_note(format!(
            "the publisher could not be reached: slot {slot_name:?} stays there and retains WAL until flare drop_subscription {} is run again, or SELECT pg_drop_replication_slot('{slot_name}') there",
            ShellWord(subname)
        )),
        _ => change,
    })
}

/// A session of an account that may change the subscription, where one of them is its owner.
pub(crate) fn owning(
    subscriber: &Subscriber,
    dbname: &str,
    subscription: &Subscription,
) -> Result<Arc<Session>> {
    let login = login_of(subscriber, subscription);
    subscriber.visit_as(ActAs::EvenShutOut(login), dbname)
}

/// The account of ours that may change the subscription.
pub(crate) fn login_of(subscriber: &Subscriber, subscription: &Subscription) -> Login {
    let db_owner = &subscriber.declared().db_owner.user;
    Login::owner_if(!subscriber.facts().superuser && subscription.owner == *db_owner)
}

/// Whether the subscriber may try to reach the publisher when the subscription is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    /// From 14 on DROP SUBSCRIPTION connects to drop the slots of unfinished copies, and hangs where nobody answers.
    Closed,
}

/// Fails at once; the password is asked of owners that are no superusers.
const NOWHERE: &str = "host=/nonexistent password=none";

/// One transaction: without a slot's name DROP SUBSCRIPTION is allowed in one and does not need the publisher.
pub(super) fn detach_plan(side: Side, dbname: &str, subscription: &Subscription, way: Way) -> Plan {
    let subname = &subscription.subname;
    let ident = Ident::new(subname);
    let mut plan = Plan::new(side, dbname);
    if subscription.subenabled {
        plan.step(
            format!("disable subscription {subname:?}"),
            format!("ALTER SUBSCRIPTION {ident} DISABLE"),
        );
    }
    if let Some(slot_name) = &subscription.subslotname {
        plan.step(
            format!("detach subscription {subname:?} from slot {slot_name:?}"),
            format!("ALTER SUBSCRIPTION {ident} SET (slot_name = NONE)"),
        );
    }
    if way == Way::Closed {
        plan.step(
            format!("lead subscription {subname:?} nowhere"),
            format!("ALTER SUBSCRIPTION {ident} CONNECTION {}", Literal(NOWHERE)),
        );
    }
    plan.step(
        format!("drop subscription {subname:?}"),
        format!("DROP SUBSCRIPTION {ident}"),
    );
    plan
}

/// Drops slots of a database.
pub(crate) fn drop_slots(
    publisher: &Publisher,
    dbname: &str,
    slots: &[Slot],
    run: &Run,
) -> Result<Change> {
    let mut plan = Plan::new(publisher.side(), dbname);
    for Slot { slot_name, .. } in slots {
        plan.step(
            format!("drop replication slot {slot_name:?}"),
            format!("SELECT pg_drop_replication_slot('{slot_name}')"),
        );
    }
    plan.carry_out_by(run, |_| {
        slots
            .iter()
            .try_for_each(|slot| slot::drop(publisher, &slot.slot_name))
    })
}

/// `pg_<subscription>_sync_<table>_<identifier of the subscriber>` (14+), of no other subscription that still exists.
fn is_sync_slot(slot_name: &str, identifier: u64, other_oids: &[String]) -> bool {
    let middle = slot_name
        .strip_prefix("pg_")
        .and_then(|rest| rest.strip_suffix(&format!("_{identifier}")));
    let oids = middle.and_then(|middle| middle.split_once("_sync_"));
    oids.is_some_and(|(subscription, _)| !other_oids.iter().any(|oid| oid == subscription))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sync_slots_of_this_subscriber_without_a_subscription_are_leftovers() {
        let others = ["17".to_owned()];
        assert!(is_sync_slot("pg_16_sync_5_99", 99, &others));
        assert!(!is_sync_slot("pg_17_sync_5_99", 99, &others));
        assert!(!is_sync_slot("pg_16_sync_5_98", 99, &others));
        assert!(!is_sync_slot("bench1", 99, &others));
    }
}
