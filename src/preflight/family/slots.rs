//! Slots and who waits for them: what they retain, who else reads, whose commits they hold up.

use serde::Deserialize;

use super::capacity::{SETTINGS, Settings};
use super::published::{TABLES, Table};
use super::subscription::{SLOTS, SUBSCRIPTIONS, Slot, own};
use crate::catalog::slots;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;
use crate::server::Side;
use crate::value::Size;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "slot_limit",
        title: "no limit of the publisher ends the slot",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[SETTINGS.on_publisher(), TABLES.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) => {
                // What streams has copied its rows.
                let tables = if view.streams {
                    Vec::new()
                } else {
                    publisher.rows(&TABLES)?
                };
                Ok(limits(&Settings::of(publisher)?, &tables, view.ends()))
            }
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "slot_retention",
        title: "no slot retains more WAL than is worth a warning",
        before: Before::Subscription,
        place: Place::Server,
        asks: &[SLOTS.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) => Ok(retaining(
                &publisher.rows(&SLOTS)?,
                view.config.lag.warning.retained_wal,
                publisher.side,
            )),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "other_slots",
        title: "nobody else reads the database's changes",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[SLOTS.on_publisher(), SUBSCRIPTIONS.on_subscriber()],
        judge: |view| {
            let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
                return Ok(Vec::new());
            };
            // Without a subscription it may still be there: a copy's that was interrupted, an adoption's.
            let own = own(view)?.and_then(|it| it.subslotname);
            let own = own.or_else(|| moving.subname.map(slots::name_for));
            Ok(others(
                &publisher.rows(&SLOTS)?,
                moving.dbname,
                own.as_deref(),
            ))
        },
    },
    Check {
        id: "synchronous_standby",
        title: "no commit waits for the subscription alone",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[
            SETTINGS.on_publisher(),
            SENDERS.on_publisher(),
            SUBSCRIPTIONS.on_subscriber(),
        ],
        judge: |view| {
            let (Some(moving), Some(publisher)) = (view.moving, view.publisher) else {
                return Ok(Vec::new());
            };
            let settings = Settings::of(publisher)?;
            let names = settings
                .text("synchronous_standby_names")
                .unwrap_or_default();
            Ok(waits_for(
                names,
                &publisher.rows(&SENDERS)?,
                moving.subname,
                publisher.side,
            ))
        },
    },
    Check {
        id: "standbys_missing",
        title: "both servers have the standbys that their commits wait for",
        before: Before::Setup,
        place: Place::Server,
        asks: &[SETTINGS.on_both(), SENDERS.on_both()],
        judge: |view| {
            let mut found = Vec::new();
            for side in [view.publisher, view.subscriber].into_iter().flatten() {
                let settings = Settings::of(side)?;
                let names = settings
                    .text("synchronous_standby_names")
                    .unwrap_or_default();
                found.extend(waits_in_vain(names, &side.rows(&SENDERS)?, side.side));
            }
            Ok(found)
        },
    },
];

/// A walsender.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Sender {
    application_name: String,
    sync_state: Option<String>,
}

const SENDERS: Question<Sender> = Question::server(
    "senders",
    "SELECT jsonb_build_object('application_name', coalesce(application_name, ''), 'sync_state', sync_state)
       FROM pg_stat_replication",
);

const MB: i64 = 1 << 20;

/// The copy retains what is written meanwhile: about as much as there is to copy, where nothing better is known.
fn limits(settings: &Settings, tables: &[Table], Ends { from, to }: Ends) -> Vec<Finding> {
    let mut found = Vec::new();
    let bytes: i64 = tables.iter().map(|it| it.bytes).sum();
    if let Some(keep) = settings
        .number("max_slot_wal_keep_size")
        .filter(|it| *it >= 0)
        && keep * MB < bytes
    {
        found.push(
            Finding::warning(format!(
                "max_slot_wal_keep_size of the {from} is {}, less than the {} of rows to copy: when so much is written meanwhile, the slot is lost and the copy begins anew",
                size(keep * MB),
                size(bytes)
            ))
            .fix(format!("ALTER SYSTEM SET max_slot_wal_keep_size = -1 on the {from} while the migration runs; SELECT pg_reload_conf()")),
        );
    }
    if let Some(seconds) = settings
        .number("idle_replication_slot_timeout")
        .filter(|it| *it > 0)
    {
        found.push(
            Finding::warning(format!(
                "idle_replication_slot_timeout of the {from} is {seconds} s: a {to} that is away for so long loses its slot"
            ))
            .fix(format!("ALTER SYSTEM SET idle_replication_slot_timeout = 0 on the {from} while the migration runs; SELECT pg_reload_conf()")),
        );
    }
    found
}

fn size(bytes: i64) -> String {
    Size(bytes.unsigned_abs()).to_string()
}

fn retaining(slots: &[Slot], limit: Size, side: Side) -> Vec<Finding> {
    let much: Vec<String> = slots
        .iter()
        .filter_map(|slot| {
            let bytes = slot.retained_bytes?;
            let standing = if slot.active { "active" } else { "inactive" };
            (bytes.unsigned_abs() > limit.0 && bytes > 0)
                .then(|| format!("{} ({}, {standing})", slot.slot_name, size(bytes)))
        })
        .collect();
    if much.is_empty() {
        Vec::new()
    } else {
        vec![
        Finding::warning(format!("slots of the {side} retain much WAL, which may fill its disk"))
            .objects(much)
            .fix("let whoever reads from them catch up; a slot that nobody will ever read again is yours to drop"),
    ]
    }
}

/// They belong to somebody: they are named, and dropping them is not advised.
fn others(slots: &[Slot], dbname: &str, own: Option<&str>) -> Vec<Finding> {
    let others: Vec<String> = slots
        .iter()
        .filter(|it| it.database.as_deref() == Some(dbname) && !it.temporary)
        .filter(|it| Some(it.slot_name.as_str()) != own)
        // A table's copy has a slot of its own.
        .filter(|it| !it.slot_name.contains("_sync_"))
        .map(|it| {
            let plugin = it.plugin.as_deref().unwrap_or("?");
            let standing = if it.active { "active" } else { "inactive" };
            format!("{} ({plugin}, {standing})", it.slot_name)
        })
        .collect();
    if others.is_empty() {
        Vec::new()
    } else {
        vec![
        Finding::warning("others read this database's changes (a feed, a warehouse, another subscriber): their slots do not follow a switch")
            .objects(others)
            .fix("plan with whoever reads them: after it they need slots on the other server, from its first change on"),
    ]
    }
}

fn waits_for(names: &str, senders: &[Sender], subname: Option<&str>, side: Side) -> Vec<Finding> {
    let Some(subname) = subname.filter(|_| !names.is_empty()) else {
        return Vec::new();
    };
    let synchronous = |it: &&Sender| {
        matches!(
            it.sync_state.as_deref(),
            Some("sync" | "quorum" | "potential")
        )
    };
    let (own, others): (Vec<&Sender>, Vec<&Sender>) = senders
        .iter()
        .filter(synchronous)
        .partition(|it| it.application_name == subname);
    if own.is_empty() || !others.is_empty() {
        Vec::new()
    } else {
        vec![
        Finding::blocker(format!(
            "synchronous_standby_names is {names:?}, and only this subscription satisfies it: every commit would wait from the moment it stops"
        ))
        .objects([subname.to_owned()])
        .fix(format!("name a standby in synchronous_standby_names of the {side}, or ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")),
    ]
    }
}

/// Fewer synchronous standbys than commits wait for. Whoever may not see their state cannot tell.
fn waits_in_vain(names: &str, senders: &[Sender], side: Side) -> Option<Finding> {
    if names.trim().is_empty() || senders.iter().any(|it| it.sync_state.is_none()) {
        return None;
    }
    let synchronous = |it: &&Sender| matches!(it.sync_state.as_deref(), Some("sync" | "quorum"));
    let there = senders.iter().filter(synchronous).count();
    let needed = standbys_of_a_commit(names);
    (there < needed).then(|| {
        Finding::blocker(format!(
            "synchronous_standby_names of the {side} is {names:?}, and {there} of the {needed} that every commit waits for {} there: commits do not return",
            if there == 1 { "is" } else { "are" }
        ))
        .fix(format!(
            "start the standby, or ALTER SYSTEM RESET synchronous_standby_names on the {side}; SELECT pg_reload_conf()"
        ))
    })
}

/// `FIRST 2 (a, b)`, `ANY 2 (a, b)`, `2 (a, b)`; a list without a number waits for one (syncrep_gram.y).
fn standbys_of_a_commit(names: &str) -> usize {
    let Some((before, _)) = names.split_once('(') else {
        return 1;
    };
    let number = before.split_whitespace().last();
    number.and_then(|it| it.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_matters_where_the_rows_are_more() {
        let table = |bytes| Table {
            bytes,
            ..super::super::table("t")
        };
        let of = |keep, bytes| {
            let settings = Settings::from(&[("max_slot_wal_keep_size", keep)]);
            limits(&settings, &[table(bytes)], Ends::FORWARD).len()
        };
        assert_eq!(of("-1", 1 << 40), 0);
        assert_eq!(of("64", 1 << 20), 0);
        assert_eq!(of("64", 1 << 30), 1);
        let idle = Settings::from(&[("idle_replication_slot_timeout", "60")]);
        assert_eq!(limits(&idle, &[], Ends::FORWARD).len(), 1);
    }

    #[test]
    fn slots_of_others_are_named_and_never_advised_to_drop() {
        let slot = |slot_name: &str, database: &str| Slot {
            slot_name: slot_name.into(),
            database: Some(database.into()),
            plugin: Some("wal2json".into()),
            ..Slot::default()
        };
        let slots = [
            slot("own", "d"),
            slot("debezium", "d"),
            slot("far", "x"),
            slot("pg_16_sync_17_18", "d"),
        ];
        let found = &others(&slots, "d", Some("own"))[0];
        assert_eq!(found.objects, ["debezium (wal2json, inactive)"]);
        assert!(!found.fix.as_deref().unwrap().contains("drop"));
        assert!(others(&slots[..1], "d", Some("own")).is_empty());
    }

    #[test]
    fn commits_may_wait_for_a_standby_but_not_for_the_subscription_alone() {
        let sender = |name: &str, state: &str| Sender {
            application_name: name.into(),
            sync_state: Some(state.into()),
        };
        let (own, standby) = (sender("s", "sync"), sender("standby", "potential"));
        assert_eq!(
            waits_for("*", std::slice::from_ref(&own), Some("s"), Side::Publisher).len(),
            1
        );
        assert!(waits_for("*", &[own.clone(), standby], Some("s"), Side::Publisher).is_empty());
        assert!(waits_for("", &[own], Some("s"), Side::Publisher).is_empty());
        assert!(waits_for("x", &[sender("s", "async")], Some("s"), Side::Publisher).is_empty());
    }

    #[test]
    fn a_commit_that_waits_for_standbys_that_are_not_there_blocks() {
        let sender = |state: Option<&str>| Sender {
            application_name: "s".into(),
            sync_state: state.map(str::to_owned),
        };
        let of = |names, states: &[Option<&str>]| {
            let senders: Vec<Sender> = states.iter().map(|it| sender(*it)).collect();
            waits_in_vain(names, &senders, Side::Subscriber).is_some()
        };
        assert!(!of("", &[]));
        assert!(of("*", &[]));
        assert!(of("gone, away", &[Some("async")]));
        assert!(!of("a, b", &[Some("sync"), Some("potential")]));
        assert!(of("ANY 2 (a, b, c)", &[Some("quorum")]));
        assert!(!of("first 2 (a,b)", &[Some("sync"), Some("sync")]));
        assert!(of("2(a,b)", &[Some("sync")]));
        assert!(!of("a", &[None]));
    }

    #[test]
    fn what_retains_much_is_named_with_its_size() {
        let slot = |bytes| Slot {
            slot_name: "s".into(),
            retained_bytes: Some(bytes),
            ..Slot::default()
        };
        let limit = Size(1 << 30);
        assert!(retaining(&[slot(5), slot(-3)], limit, Side::Publisher).is_empty());
        assert_eq!(
            retaining(&[slot(2 << 30)], limit, Side::Publisher)[0].objects,
            ["s (2 GB, inactive)"]
        );
    }
}
