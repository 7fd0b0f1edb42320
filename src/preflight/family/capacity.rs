//! Room for what will be made: slots, walsenders, workers, origins.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::SideView;
use crate::server::Side;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "wal_level",
        title: "the publisher's WAL holds what logical replication needs",
        before: Before::Subscription,
        place: Place::Server,
        asks: &[SETTINGS.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) => Ok(wal_level(&Settings::of(publisher)?, publisher.side)),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "wal_level_back",
        title: "the subscriber's WAL holds what the way back needs",
        before: Before::Cutover,
        place: Place::Server,
        asks: &[SETTINGS.on_subscriber()],
        judge: |view| match view.subscriber {
            Some(subscriber) if view.reverse => {
                Ok(wal_level(&Settings::of(subscriber)?, subscriber.side))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "capacity",
        title: "there is room for the subscriptions",
        before: Before::Subscription,
        place: Place::Server,
        asks: &[SETTINGS.on_both(), USED.on_both()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) => {
                let needed = match view.unsubscribed {
                    0 => 0,
                    // Each, and one more for a worker that copies.
                    n => n + 1,
                };
                lacking(publisher, subscriber, needed as i64)
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "capacity_back",
        title: "there is room for the way back",
        before: Before::Cutover,
        place: Place::Server,
        asks: &[SETTINGS.on_both(), USED.on_both()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if view.reverse => {
                lacking(subscriber, publisher, view.databases as i64)
            }
            _ => Ok(Vec::new()),
        },
    },
];

/// A setting as pg_settings has it, in its own unit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) setting: String,
}

pub(crate) const SETTINGS: Question<Setting> = Question::server(
    "settings",
    "SELECT jsonb_build_object('name', name, 'setting', setting) FROM pg_settings WHERE setting IS NOT NULL",
);

/// The settings of a server, by name.
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(crate) fn of(side: &SideView) -> Result<Settings> {
        let rows = side.rows(&SETTINGS)?.into_iter();
        Ok(Settings(rows.map(|it| (it.name, it.setting)).collect()))
    }

    #[cfg(test)]
    pub(crate) fn from(settings: &[(&str, &str)]) -> Settings {
        let owned = settings
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Settings(owned.collect())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The same, whatever the case of its letters.
    pub(crate) fn folded(&self, name: &str) -> Option<&str> {
        let mut settings = self.0.iter();
        let same = settings.find(|(known, _)| known.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }
}

/// How much is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Used {
    slots: i64,
    walsenders: i64,
    workers: i64,
    origins: i64,
    /// Background workers of all kinds; the launcher of logical replication is one.
    processes: i64,
}

const USED: Question<Used> = Question::server(
    "used",
    "SELECT jsonb_build_object(
         'slots', (SELECT count(*) FROM pg_replication_slots),
         'walsenders', (SELECT count(*) FROM pg_stat_get_wal_senders()),
         'workers', (SELECT count(pid) FROM pg_stat_subscription),
         'origins', (SELECT count(*) FROM pg_replication_origin),
         'processes', (SELECT count(*) FROM pg_stat_activity WHERE backend_type NOT IN ('client backend', 'walsender',
             'walreceiver', 'walwriter', 'checkpointer', 'startup', 'archiver', 'logger', 'background writer', 'standalone backend',
             'autovacuum launcher', 'autovacuum worker', 'slotsync worker', 'walsummarizer', 'io worker', 'parallel worker')))",
);

fn wal_level(settings: &Settings, side: Side) -> Vec<Finding> {
    match settings.text("wal_level") {
        None | Some("logical") => Vec::new(),
        Some(level) => vec![
            Finding::blocker(format!(
                "wal_level of the {side} is {level}, and logical is needed"
            ))
            .fix(format!(
                "ALTER SYSTEM SET wal_level = logical on the {side}, and restart it (Amazon RDS: rds.logical_replication = 1)"
            )),
        ],
    }
}

/// What a stream from one server to the other has no room for.
fn lacking(from: &SideView, to: &SideView, needed: i64) -> Result<Vec<Finding>> {
    if needed == 0 {
        return Ok(Vec::new());
    }
    let (sends, receives) = (Settings::of(from)?, Settings::of(to)?);
    let used = |side: &SideView| side.first(&USED).map(Option::unwrap_or_default);
    let mut small = small(from.side, &sending(&sends, &used(from)?), needed);
    small.extend(self::small(
        to.side,
        &receiving(&receives, &used(to)?),
        needed,
    ));
    let Some(first) = small.first() else {
        return Ok(Vec::new());
    };
    Ok(vec![
        Finding::blocker("there is too little room for what is to be made")
            .fix(format!(
                "ALTER SYSTEM SET {} = {} on the {}, and restart it; or drop what is not needed any more",
                first.setting, first.enough, first.side
            ))
            .objects(small.iter().map(|it| it.words.clone())),
    ])
}

/// A limit, and how much of it is taken.
struct Room {
    setting: &'static str,
    limit: Option<i64>,
    used: i64,
}

/// A limit that is too low.
struct Small {
    side: Side,
    setting: &'static str,
    enough: i64,
    words: String,
}

fn sending(settings: &Settings, used: &Used) -> Vec<Room> {
    let room = |setting, used| Room {
        setting,
        limit: settings.number(setting),
        used,
    };
    vec![
        room("max_replication_slots", used.slots),
        room("max_wal_senders", used.walsenders),
    ]
}

/// Until 17 `max_replication_slots` limits the origins of subscriptions too.
fn receiving(settings: &Settings, used: &Used) -> Vec<Room> {
    let room = |setting, used| Room {
        setting,
        limit: settings.number(setting),
        used,
    };
    let origins = match settings.text("max_active_replication_origins") {
        Some(_) => "max_active_replication_origins",
        None => "max_replication_slots",
    };
    vec![
        room("max_logical_replication_workers", used.workers),
        room("max_worker_processes", used.processes),
        room(origins, used.origins),
    ]
}

fn small(side: Side, rooms: &[Room], needed: i64) -> Vec<Small> {
    let small = rooms.iter().filter_map(|room| {
        let limit = room.limit?;
        (limit - room.used < needed).then(|| Small {
            side,
            setting: room.setting,
            enough: room.used + needed,
            words: format!(
                "{} of the {side} is {limit}, {} are taken, and {needed} more are needed",
                room.setting, room.used
            ),
        })
    });
    small.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_small_is_named_with_its_setting() {
        let settings = Settings::from(&[
            ("max_replication_slots", "10"),
            ("max_wal_senders", "10"),
            ("max_logical_replication_workers", "4"),
            ("max_worker_processes", "8"),
        ]);
        let used = Used {
            slots: 3,
            walsenders: 9,
            workers: 1,
            origins: 9,
            processes: 2,
        };
        let words = |rooms: Vec<Room>| -> Vec<String> {
            let small = small(Side::Publisher, &rooms, 2).into_iter();
            small.map(|it| it.words).collect()
        };
        assert_eq!(
            words(sending(&settings, &used)),
            ["max_wal_senders of the publisher is 10, 9 are taken, and 2 more are needed"]
        );
        assert_eq!(
            words(receiving(&settings, &used)),
            ["max_replication_slots of the publisher is 10, 9 are taken, and 2 more are needed"]
        );
        let newer = Settings::from(&[("max_active_replication_origins", "10")]);
        let words = words(receiving(&newer, &used));
        assert!(
            words[0].starts_with("max_active_replication_origins"),
            "{words:?}"
        );
    }

    #[test]
    fn only_logical_will_do() {
        let of = |level| wal_level(&Settings::from(&[("wal_level", level)]), Side::Subscriber);
        assert!(of("logical").is_empty());
        assert!(
            of("replica")[0]
                .message
                .contains("of the subscriber is replica")
        );
    }
}
