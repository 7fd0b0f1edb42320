//! The limits of connections: of the subscriber beside the application's sessions, of both servers beside flare's own.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::capacity::{SETTINGS, Settings};
use super::databases::DATABASES;
use super::logins::{ROLES, Role, SESSIONS, Sessions, applications};
use crate::error::Result;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::run::Later;
use crate::preflight::view::SideView;
use crate::server::Side;
use crate::value::{Ident, counted};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "own_sessions",
        title: "both servers have room for flare's sessions",
        before: Before::Cutover,
        place: Place::Server,
        asks: &[TAKEN.on_both()],
        judge: |view| {
            // Until then it is not known how many go together.
            let together = if view.later == Later::Blocks {
                view.databases
            } else {
                1
            };
            let (of_left, of_next) = needed(together);
            let sides = [(view.publisher, of_left), (view.subscriber, of_next)];
            let mut small = Vec::new();
            for (side, needed) in sides {
                let Some(side) = side else { continue };
                small.extend(lacking(side, needed)?);
            }
            Ok(no_room(&small))
        },
    },
    Check {
        id: "app_limits",
        title: "the subscriber takes as many sessions as there are now",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[
            SESSIONS.on_publisher(),
            ROLES.on_subscriber(),
            DATABASES.on_subscriber(),
            SETTINGS.on_subscriber(),
        ],
        judge: |view| match (view.moving, view.subscriber) {
            (Some(moving), Some(subscriber)) if !view.is_back() => {
                let databases = subscriber.rows(&DATABASES)?;
                let limit = databases
                    .iter()
                    .find(|it| it.datname == moving.dbname)
                    .map(|it| i64::from(it.datconnlimit));
                Ok(limits(
                    &applications(view)?,
                    &subscriber.rows(&ROLES)?,
                    limit,
                    &Settings::of(subscriber)?,
                    moving.dbname,
                ))
            }
            _ => Ok(Vec::new()),
        },
    },
];

/// Sessions that a cutover of so many databases has at once on the server that is left, and on the other one, as counted
/// for one to four.
fn needed(databases: usize) -> (i64, i64) {
    let databases = i64::try_from(databases.max(1)).unwrap_or(i64::from(u16::MAX));
    (7 + 5 * databases, 4 + 4 * databases)
}

/// How many sessions a server takes of the administrator, and how many it has that are not flare's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Taken {
    limit: i64,
    others: i64,
}

/// Before 12 walsenders are among them. Whose kind of process may not be seen is taken for a client where it is in a
/// database and neither sends nor applies.
const TAKEN: Question<Taken> = Question::server(
    "taken",
    "SELECT jsonb_build_object(
         'limit', current_setting('max_connections')::int8 - CASE WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN 0
             ELSE current_setting('superuser_reserved_connections')::int8 + coalesce(current_setting('reserved_connections', true), '0')::int8 END,
         'others', (SELECT count(*) FROM pg_stat_activity a WHERE coalesce(a.application_name, '') NOT LIKE 'flare/%'
             AND (a.backend_type = 'client backend' OR a.backend_type = 'walsender' AND current_setting('server_version_num')::int < 120000
               OR a.backend_type IS NULL AND a.datid IS NOT NULL
                  AND a.pid NOT IN (SELECT w.pid FROM pg_stat_get_wal_senders() w WHERE w.pid IS NOT NULL)
                  AND a.pid NOT IN (SELECT s.pid FROM pg_stat_subscription s WHERE s.pid IS NOT NULL))))",
);

/// A server that has too little room for flare's sessions.
struct TooFew {
    words: String,
    fix: String,
}

fn lacking(side: &SideView, needed: i64) -> Result<Option<TooFew>> {
    let taken = side.first(&TAKEN)?;
    Ok(taken.and_then(|taken| too_few(side.side, &taken, needed)))
}

fn too_few(side: Side, taken: &Taken, needed: i64) -> Option<TooFew> {
    let Taken { limit, others } = *taken;
    let room = (limit - others).max(0);
    (room < needed).then(|| TooFew {
        words: format!(
            "the {side} has room for {limit} sessions, {others} are taken, and a cutover needs {needed} of its own"
        ),
        fix: format!(
            "end {} on the {side}, or raise max_connections there by as much, and restart it",
            counted(needed - room, "session")
        ),
    })
}

fn no_room(small: &[TooFew]) -> Vec<Finding> {
    let Some(first) = small.first() else {
        return Vec::new();
    };
    vec![
        Finding::blocker("there is too little room for flare's own sessions")
            .fix(&first.fix)
            .objects(small.iter().map(|it| it.words.clone())),
    ]
}

fn limits(
    sessions: &[Sessions],
    roles: &[Role],
    of_database: Option<i64>,
    settings: &Settings,
    dbname: &str,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut by_user: BTreeMap<&str, i64> = BTreeMap::new();
    for session in sessions {
        *by_user.entry(&session.user).or_default() += session.n;
    }
    let all: i64 = by_user.values().sum();
    let tight: Vec<(&str, String)> = roles
        .iter()
        .filter(|it| it.rolconnlimit >= 0 && !it.rolsuper)
        .filter_map(|it| {
            let n = *by_user.get(it.rolname.as_str())?;
            let words = format!(
                "{} (limit {}, {})",
                it.rolname,
                it.rolconnlimit,
                counted(n, "session")
            );
            (n > it.rolconnlimit).then_some((it.rolname.as_str(), words))
        })
        .collect();
    if let Some((first, _)) = tight.first() {
        found.push(
            Finding::blocker("roles have more sessions on the publisher than their connection limit allows on the subscriber")
                .fix(format!("ALTER ROLE {} CONNECTION LIMIT -1 on the subscriber", Ident::from(*first)))
                .objects(tight.iter().map(|(_, words)| words.clone())),
        );
    }
    if let Some(limit) = of_database.filter(|limit| *limit >= 0 && all > *limit) {
        found.push(
            Finding::blocker(format!(
                "the database has {} on the publisher, and its connection limit on the subscriber is {limit}", counted(all, "session")
            ))
            .fix(format!("ALTER DATABASE {} CONNECTION LIMIT -1 on the subscriber", Ident::from(dbname))),
        );
    }
    let max = settings.number("max_connections");
    let reserved = settings
        .number("superuser_reserved_connections")
        .unwrap_or(0);
    if let Some(max) = max.filter(|max| all > max - reserved) {
        found.push(
            Finding::blocker(format!(
                "the database has {} on the publisher, and max_connections of the subscriber is {max}", counted(all, "session")
            ))
            .fix(format!("ALTER SYSTEM SET max_connections = {} on the subscriber, and restart it", all + reserved + 10)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(user: &str, address: &str, n: i64) -> Sessions {
        Sessions {
            user: user.into(),
            address: address.parse().ok(),
            n,
            tls: None,
        }
    }

    #[test]
    fn a_server_whose_sessions_are_nearly_all_taken_has_no_room_for_a_cutover() {
        let of = |others| {
            let taken = Taken { limit: 100, others };
            too_few(Side::Publisher, &taken, needed(1).0)
        };
        assert!(of(88).is_none());
        let few = of(90).expect("too few");
        assert!(few.words.contains("90 are taken"), "{}", few.words);
        assert!(few.fix.starts_with("end 2 sessions"), "{}", few.fix);
        assert_eq!(no_room(&[few]).len(), 1);
        assert_eq!(
            [needed(0), needed(1), needed(4)],
            [(12, 8), (12, 8), (27, 20)]
        );
    }

    #[test]
    fn every_limit_is_compared_with_the_sessions_of_now() {
        let app = [
            sessions("app", "10.0.0.1", 6),
            sessions("app", "10.0.0.2", 6),
        ];
        let role = |rolconnlimit| Role {
            rolname: "app".into(),
            rolconnlimit,
            ..Role::default()
        };
        let settings = |max| {
            Settings::from(&[
                ("max_connections", max),
                ("superuser_reserved_connections", "3"),
            ])
        };
        let count = |limit, of_database, max| {
            limits(&app, &[role(limit)], of_database, &settings(max), "d").len()
        };
        assert_eq!(count(-1, Some(-1), "100"), 0);
        assert_eq!(count(10, Some(-1), "100"), 1);
        assert_eq!(count(-1, Some(11), "100"), 1);
        assert_eq!(count(-1, None, "14"), 1);
    }
}
