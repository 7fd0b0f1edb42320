//! The limits of connections of the subscriber, beside the sessions that there are.

use std::collections::BTreeMap;

use super::capacity::{SETTINGS, Settings};
use super::databases::DATABASES;
use super::logins::{ROLES, Role, SESSIONS, Sessions, applications};
use crate::preflight::finding::Finding;
use crate::preflight::question::Place;
use crate::preflight::registry::{Before, Check};
use crate::value::{Ident, counted};

pub(crate) const CHECKS: &[Check] = &[Check {
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
}];

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
