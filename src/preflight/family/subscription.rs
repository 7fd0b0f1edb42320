//! The subscription that is there: what it follows, that it goes on, and who stands beside it.

use serde::Deserialize;

use super::other_subscriptions::elsewhere;
use super::published::{PUBLISHED, TABLES};
use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Ask, Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::{Ends, View};
use crate::server::Side;
use crate::value::{Ident, TableName};

/// What tells how far a migration is.
pub(crate) const PROGRESS: &[Ask] = &[SUBSCRIPTIONS.on_both(), SUBSCRIBED.on_subscriber()];

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "subscription_stopped",
        title: "the subscription follows",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[SUBSCRIPTIONS.on_subscriber(), SLOTS.on_publisher()],
        judge: |view| match (own(view)?, view.publisher) {
            (Some(own), Some(publisher)) => {
                let slots = publisher.rows(&SLOTS)?;
                Ok(match anothers(view, &own, &slots)? {
                    Some(found) => vec![found],
                    None => stopped(&own, &slots, view.ends()),
                })
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "subscription_publications",
        title: "the subscription has the configured publication and no other",
        before: Before::Subscription,
        place: Place::Database,
        asks: &[SUBSCRIPTIONS.on_subscriber()],
        judge: |view| match (own(view)?, view.moving) {
            (Some(own), Some(moving)) => Ok(publications_of(&own, moving.pubname, view.ends().to)),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "subscription_tables",
        title: "the subscription takes exactly what is published",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[
            PUBLISHED.on_publisher(),
            SUBSCRIBED.on_subscriber(),
            TABLES.on_subscriber(),
        ],
        judge: |view| match (
            view.moving.and_then(|it| it.subname),
            view.publisher,
            view.subscriber,
        ) {
            (Some(subname), Some(publisher), Some(subscriber)) if view.subscribed => {
                // What another migration's takes is its own business.
                if let Some(own) = own(view)?
                    && anothers(view, &own, &publisher.rows(&SLOTS)?)?.is_some()
                {
                    return Ok(Vec::new());
                }
                Ok(taken(
                    subname,
                    &publisher.rows(&PUBLISHED)?,
                    &subscriber.rows(&SUBSCRIBED)?,
                    view.ends(),
                ))
            }
            _ => Ok(Vec::new()),
        },
    },
];

/// A subscription, by the columns that everybody may read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) subname: String,
    pub(crate) subenabled: bool,
    pub(crate) subslotname: Option<String>,
    pub(crate) subpublications: Vec<String>,
    pub(crate) owner: String,
}

pub(crate) const SUBSCRIPTIONS: Question<Subscription> = Question::database(
    "subscriptions",
    "SELECT jsonb_build_object('subname', s.subname, 'subenabled', s.subenabled, 'subslotname', s.subslotname,
              'subpublications', s.subpublications, 'owner', pg_get_userbyid(s.subowner))
       FROM pg_subscription s WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      ORDER BY s.subname",
);

/// A table of the subscription and the state of its copy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Subscribed {
    #[serde(flatten)]
    pub(crate) name: TableName,
    pub(crate) srsubstate: char,
}

/// By the view of workers, which has every subscription: before 14 the oid in pg_subscription is the superuser's alone.
pub(crate) const SUBSCRIBED: Question<Subscribed> = Question::database(
    "subscribed",
    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'srsubstate', r.srsubstate)
       FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE r.srsubid IN (SELECT subid FROM pg_stat_subscription WHERE subname = {subname})",
);

/// A slot as `pg_replication_slots` shows it; `None` where the version has no such column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Slot {
    pub(crate) slot_name: String,
    pub(crate) database: Option<String>,
    pub(crate) plugin: Option<String>,
    pub(crate) temporary: bool,
    pub(crate) active: bool,
    pub(crate) wal_status: Option<String>,
    pub(crate) invalidation_reason: Option<String>,
    pub(crate) retained_bytes: Option<i64>,
}

pub(crate) const SLOTS: Question<Slot> = Question::server(
    "slots",
    "SELECT to_jsonb(s) || jsonb_build_object('retained_bytes',
              CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::int8 END)
       FROM pg_replication_slots s",
);

/// Whether the subscription is there, and whether every table of it is copied.
pub(crate) fn progress(view: &View<'_>) -> Result<(bool, bool)> {
    let Some(subscriber) = view.subscriber else {
        return Ok((false, false));
    };
    let subscribed = own(view)?.is_some();
    let tables = subscriber.rows(&SUBSCRIBED)?;
    let copied = !tables.is_empty() && tables.iter().all(|it| it.srsubstate == 'r');
    Ok((subscribed, subscribed && copied))
}

/// The migration's own subscription, where it is there.
pub(crate) fn own(view: &View<'_>) -> Result<Option<Subscription>> {
    let (Some(subscriber), Some(subname)) =
        (view.subscriber, view.moving.and_then(|it| it.subname))
    else {
        return Ok(None);
    };
    let mut all = subscriber.rows(&SUBSCRIPTIONS)?.into_iter();
    Ok(all.find(|it| it.subname == subname))
}

/// A subscription of this name that follows a third server: what is advised for one's own would destroy what another migration
/// has brought.
fn anothers(view: &View<'_>, own: &Subscription, slots: &[Slot]) -> Result<Option<Finding>> {
    let name = own.subslotname.as_deref().unwrap_or_default();
    if slots.iter().any(|it| it.slot_name == name) {
        return Ok(None);
    }
    let from = view.ends().from;
    Ok(elsewhere(view)?.map(|(source, _)| {
        Finding::blocker(format!(
            "subscription {:?} follows {}, and the {from} has no slot of it: it is another migration's",
            own.subname,
            source.in_words()
        ))
        .fix("name this migration's subscription otherwise in the configuration, or correct the address there; drop and empty nothing")
    }))
}

fn stopped(own: &Subscription, slots: &[Slot], ends: Ends) -> Vec<Finding> {
    let Ends { from, to } = ends;
    let again = ends.anew(&own.subname);
    if !own.subenabled {
        return vec![
            Finding::blocker(format!("subscription {:?} is disabled", own.subname)).fix(format!(
                "ALTER SUBSCRIPTION {} ENABLE on the {to}",
                Ident::new(&own.subname)
            )),
        ];
    }
    let name = own.subslotname.as_deref().unwrap_or_default();
    let Some(slot) = slots.iter().find(|it| it.slot_name == name) else {
        return vec![
            Finding::blocker(format!(
                "slot {name:?} of subscription {:?} is not on the {from}: it was dropped, or the {from} is a standby that took over",
                own.subname
            ))
            .fix(again),
        ];
    };
    if slot.wal_status.as_deref() == Some("lost") || slot.invalidation_reason.is_some() {
        let why = slot.invalidation_reason.as_deref().unwrap_or("wal_removed");
        return vec![
            Finding::blocker(format!(
                "slot {name:?} is lost ({why}): WAL that the {to} needs is gone"
            ))
            .fix(again),
        ];
    }
    if slot.active {
        Vec::new()
    } else {
        vec![
            Finding::blocker(format!(
                "slot {name:?} is not active: subscription {:?} does not follow",
                own.subname
            ))
            .fix(format!(
                "flare lag says what is known of it; the {to}'s server log says what its worker met"
            )),
        ]
    }
}

fn publications_of(own: &Subscription, pubname: &str, to: Side) -> Vec<Finding> {
    let others: Vec<String> = own
        .subpublications
        .iter()
        .filter(|it| *it != pubname)
        .cloned()
        .collect();
    let has = own.subpublications.iter().any(|it| it == pubname);
    if has && others.is_empty() {
        return Vec::new();
    }
    let subname = &own.subname;
    let message = if has {
        format!(
            "subscription {subname:?} has other publications beside {pubname:?}, whose tables would be neither fenced nor carried back"
        )
    } else {
        format!("subscription {subname:?} does not have publication {pubname:?}")
    };
    vec![Finding::blocker(message).objects(others).fix(format!(
        "ALTER SUBSCRIPTION {} SET PUBLICATION {} on the {to}",
        Ident::new(subname),
        Ident::new(pubname)
    ))]
}

fn taken(
    subname: &str,
    published: &[TableName],
    subscribed: &[Subscribed],
    ends: Ends,
) -> Vec<Finding> {
    let Ends { from, to } = ends;
    let mut found = Vec::new();
    let does_that = |command| {
        if ends.is_back() {
            String::new()
        } else {
            format!(" (flare {command} does that)")
        }
    };
    let refresh = format!(
        "create them on the {to} where they are missing, then ALTER SUBSCRIPTION {} REFRESH PUBLICATION there{}",
        Ident::new(subname),
        does_that("create_subscription")
    );
    let missing: Vec<String> = published
        .iter()
        .filter(|name| !subscribed.iter().any(|it| it.name == **name))
        .map(TableName::plain)
        .collect();
    if !missing.is_empty() {
        found.push(
            Finding::blocker(format!("subscription {subname:?} does not take tables that are published: their rows would be missing"))
                .objects(missing)
                .fix(&*refresh),
        );
    }
    let status = |it: &Subscribed| it.name.table.as_str() == "flare_replication_status";
    let left: Vec<String> = subscribed
        .iter()
        .filter(|it| !published.contains(&it.name) && !status(it))
        .map(|it| it.name.plain())
        .collect();
    if !left.is_empty() {
        found.push(
            Finding::blocker(format!("subscription {subname:?} takes tables that are not published any more: what is written there does not arrive"))
                .objects(left)
                .fix(format!("ALTER PUBLICATION ... ADD TABLE on the {from}{}, or ALTER SUBSCRIPTION {} REFRESH PUBLICATION on the {to}, which lets them go", does_that("create_publication"), Ident::new(subname))),
        );
    }
    let copying: Vec<String> = subscribed
        .iter()
        .filter(|it| it.srsubstate != 'r')
        .map(|it| it.name.plain())
        .collect();
    if !copying.is_empty() {
        found.push(
            Finding::blocker("tables are still being copied")
                .objects(copying)
                .fix("wait until flare monitor shows every table ready"),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> Subscription {
        Subscription {
            subname: "s".into(),
            subenabled: true,
            subslotname: Some("slot".into()),
            subpublications: vec!["p".into()],
            owner: "o".into(),
        }
    }

    fn slot() -> Slot {
        Slot {
            slot_name: "slot".into(),
            active: true,
            wal_status: Some("reserved".into()),
            ..Slot::default()
        }
    }

    #[test]
    fn a_subscription_stops_in_five_ways() {
        assert!(stopped(&subscription(), &[slot()], Ends::FORWARD).is_empty());
        let message = |own: Subscription, slots: &[Slot]| {
            stopped(&own, slots, Ends::FORWARD)[0].message.clone()
        };
        let disabled = Subscription {
            subenabled: false,
            ..subscription()
        };
        assert!(message(disabled, &[slot()]).contains("disabled"));
        assert!(message(subscription(), &[]).contains("is not on the publisher"));
        let lost = Slot {
            wal_status: Some("lost".into()),
            ..slot()
        };
        assert!(message(subscription(), &[lost]).contains("lost (wal_removed)"));
        let idle = Slot {
            invalidation_reason: Some("idle_timeout".into()),
            ..slot()
        };
        assert!(message(subscription(), &[idle]).contains("idle_timeout"));
        let inactive = Slot {
            active: false,
            ..slot()
        };
        assert!(message(subscription(), &[inactive]).contains("not active"));
    }

    #[test]
    fn a_second_publication_or_another_one_is_refused() {
        assert!(publications_of(&subscription(), "p", Side::Subscriber).is_empty());
        let mut two = subscription();
        two.subpublications.push("q".into());
        assert_eq!(
            publications_of(&two, "p", Side::Subscriber)[0].objects,
            ["q"]
        );
        assert!(
            publications_of(&subscription(), "x", Side::Subscriber)[0]
                .message
                .contains("does not have")
        );
    }

    #[test]
    fn both_differences_of_the_tables_are_named_and_copies_awaited() {
        let table = |name: &str, srsubstate| Subscribed {
            name: name.parse().unwrap(),
            srsubstate,
        };
        let published = ["a".parse().unwrap(), "b".parse().unwrap()];
        assert!(
            taken(
                "s",
                &published,
                &[table("a", 'r'), table("b", 'r')],
                Ends::FORWARD
            )
            .is_empty()
        );
        let found = taken(
            "s",
            &published,
            &[table("a", 'd'), table("c", 'r')],
            Ends::FORWARD,
        );
        let objects: Vec<&[String]> = found.iter().map(|it| it.objects.as_slice()).collect();
        assert_eq!(objects, [["public.b"], ["public.c"], ["public.a"]]);
    }
}
