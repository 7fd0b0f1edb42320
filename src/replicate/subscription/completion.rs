//! A subscription that is there already: as wanted, or behind its publication, or another's.

use super::Wanted;
use crate::catalog::slots::{self, Slot};
use crate::catalog::subscriptions::{self, Subscription};
use crate::error::{Failure, Result};
use crate::replicate::{Change, Run, refresh, status_table, unsubscribe};
use crate::value::{Ident, ShellWord};

/// Why a subscription does not follow its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standstill {
    /// It goes on when it is enabled.
    Disabled,
    /// Its slot cannot carry it any more.
    ForGood(&'static str),
}

impl Standstill {
    /// A disabled subscription without a usable slot would not go on when enabled.
    fn of(subscription: &Subscription, slot: Option<&Slot>) -> Option<Standstill> {
        match slot {
            None => Some(Standstill::ForGood("is not on the publisher")),
            Some(slot) if slot.wal_status.as_deref() == Some("lost") => Some(Standstill::ForGood(
                "is lost: the publisher has removed the WAL that it needs",
            )),
            Some(_) if !subscription.subenabled => Some(Standstill::Disabled),
            Some(_) => None,
        }
    }
}

impl Wanted<'_> {
    /// Has it take the tables that its publication has gained; refuses one that is another's or stands still.
    pub(super) fn complete(&self, existing: &Subscription, run: &Run) -> Result<Change> {
        let Subscription {
            subpublications,
            subslotname,
            ..
        } = existing;
        let start_over = format!(
            "flare drop_subscription {}, then create it again",
            ShellWord(self.subname)
        );
        if *subpublications != [self.declared.pubname.clone()] {
            return Failure::new(format!(
                "it exists already, for publication {}",
                subpublications.join(", ")
            ))
            .hint(start_over)
            .err();
        }
        let slot_name = subslotname.clone().unwrap_or_default();
        let slot = slots::find(&self.on_publisher, &slot_name)?;
        match Standstill::of(existing, slot.as_ref()) {
            None => {}
            Some(Standstill::Disabled) => {
                return Failure::new("it exists already, but it is disabled")
                    .hint(format!(
                        "ALTER SUBSCRIPTION {} ENABLE on the subscriber, or {start_over}",
                        Ident::new(self.subname)
                    ))
                    .err();
            }
            Some(Standstill::ForGood(why)) => {
                return Failure::new(format!(
                    "it exists already, but its slot {slot_name:?} {why}"
                ))
                .hint(start_over)
                .err();
            }
        }
        let login = unsubscribe::login_of(&self.pair.subscriber, existing);
        let mut change =
            Change::none(run).with_note(format!("subscription {:?} exists already", self.subname));
        change = change.and(self.close(&self.published, login, run)?);
        let relations = subscriptions::relations(&self.on_subscriber, self.subname)?;
        let missing = refresh::missing(&self.published, &relations);
        if missing.is_empty() {
            return Ok(change);
        }
        self.check_tables_to_take(&missing)?;
        if missing.iter().any(status_table::is) {
            change = change.and(status_table::create(
                &self.pair.subscriber,
                self.dbname(),
                run,
            )?);
        }
        change = change.and(self.set_aside(&missing, run)?);
        let plan = refresh::plan(self.dbname(), existing, &missing);
        let session = refresh::session(
            &self.pair.subscriber,
            self.dbname(),
            existing,
            self.published.len(),
        )?;
        Ok(change.and(plan.carry_out_singly(&session, run)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standstill(subenabled: bool, slot: Option<serde_json::Value>) -> Option<Standstill> {
        let subscription = serde_json::json!({
            "oid": "1", "subname": "s", "subenabled": subenabled, "subslotname": "s",
            "subpublications": ["p"], "owner": "o", "mine": true,
        });
        let slot: Option<Slot> = slot.map(|slot| serde_json::from_value(slot).unwrap());
        Standstill::of(
            &serde_json::from_value(subscription).unwrap(),
            slot.as_ref(),
        )
    }

    #[test]
    fn enabling_is_no_way_out_where_the_slot_is_of_no_use() {
        let slot = |wal_status| {
            Some(serde_json::json!({
                "slot_name": "s", "temporary": false, "active": false, "wal_status": wal_status,
            }))
        };
        assert_eq!(standstill(true, slot(None)), None);
        assert_eq!(standstill(true, slot(Some("extended"))), None);
        assert_eq!(standstill(false, slot(None)), Some(Standstill::Disabled));
        for enabled in [true, false] {
            for slot in [None, slot(Some("lost"))] {
                let why = standstill(enabled, slot);
                assert!(matches!(why, Some(Standstill::ForGood(_))), "{why:?}");
            }
        }
    }
}
