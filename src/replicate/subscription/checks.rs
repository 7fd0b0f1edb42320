//! What would make a new subscription go wrong: all of it is known before anything is made.

use super::Wanted;
use crate::catalog::capacity::{self, PublisherRoom, Room, SubscriberRoom};
use crate::catalog::slots;
use crate::catalog::tables::{self, listed};
use crate::error::{Failure, Result, WrapErr};
use crate::replicate::options::Copy;
use crate::replicate::status_table;
use crate::server::{Pair, Side};
use crate::value::{Ident, ShellWord, TableName};

impl Wanted<'_> {
    /// Refuses what would go wrong.
    pub(super) fn check(&self) -> Result<()> {
        self.check_tables_to_take(&self.published)?;
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

    /// Tables that the subscription begins to copy: there, and empty. The status table is flare's own affair.
    pub(super) fn check_tables_to_take(&self, tables: &[TableName]) -> Result<()> {
        let dbname = self.dbname();
        let mut tables = tables.to_vec();
        tables.retain(|name| !status_table::is(name));
        let missing = tables::missing(&self.on_subscriber, &tables)?;
        if !missing.is_empty() {
            return Failure::new(format!(
                "the subscriber's database {dbname:?} has no table {}",
                listed(&missing)
            ))
            .hint(format!(
                "run flare replicate_schema {0} (with --missing where the other tables are there); where tables were renamed, flare verify_schema {0} has the statements",
                ShellWord(dbname)
            ))
            .err();
        }
        if self.options.copy == Copy::Nothing {
            return Ok(());
        }
        let filled = if self.pair.subscriber.facts().superuser {
            tables::not_empty(&self.on_subscriber, &tables)?
        } else {
            tables::not_empty(&*self.as_db_owner()?, &tables)?
        };
        if filled.is_empty() {
            Ok(())
        } else {
            Failure::new(format!(
            "on the subscriber there are rows already in {}: the copy would collide with them",
            listed(&filled)
        ))
        .hint(format!(
            "TRUNCATE them on the subscriber, or set copy_data: false in subscriptions.{}.options if they are the publisher's rows",
            self.subname
        ))
        .err()
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
                ShellWord(self.dbname())
            ))
            .err();
        }
        if unreadable.filtered.is_empty() {
            Ok(())
        } else {
            Failure::new(format!(
                "row security would hide rows from {user:?} in {}, in silence",
                listed(&unreadable.filtered)
            ))
            .hint(format!(
                "run flare grant_replication {} as a superuser, or there: ALTER ROLE {} BYPASSRLS",
                ShellWord(self.dbname()),
                Ident::new(user)
            ))
            .err()
        }
    }

    /// Whether an idle slot of that name was left by an interrupted run; any other use of the name is refused.
    pub(super) fn leftover(&self, slot_name: &str) -> Result<bool> {
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
}

/// Refuses servers without room for one more subscription whose rows flare copies.
pub(crate) fn check_room(pair: &Pair) -> Result<()> {
    let from = capacity::of_publisher(pair.publisher.admin())?;
    let to = capacity::of_subscriber(pair.subscriber.admin())?;
    // The holder's walsender beside the subscription's, and a second slot when its snapshot is lost.
    let mut lacking = lacking(&from, &to, Copy::Rows);
    lacking.retain(|it| !it.contains("max_sync_workers_per_subscription"));
    if lacking.is_empty() {
        Ok(())
    } else {
        Failure::new(lacking.join("; "))
            .hint("raise the settings (each needs a restart of its server), or drop what is not needed any more")
            .err()
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
