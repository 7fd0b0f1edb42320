//! Whether the application may connect to the subscriber's database as it may to the publisher's.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::logins::{SESSIONS, Sessions, applications};
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "app_connect",
    title: "the application has CONNECT on the subscriber, too",
    before: Before::Cutover,
    place: Place::Database,
    asks: &[SESSIONS.on_publisher(), CONNECTS.on_both()],
    judge: |view| match (view.moving, view.publisher, view.subscriber) {
        (Some(moving), Some(publisher), Some(subscriber)) if !view.is_back() => Ok(shut_out(
            &applications(view)?,
            &publisher.rows(&CONNECTS)?,
            &subscriber.rows(&CONNECTS)?,
            &view.config.subscriber.db_owner.user,
            moving.dbname,
        )),
        _ => Ok(Vec::new()),
    },
}];

/// Whether a role has CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Connect {
    pub(super) rolname: String,
    pub(super) connect: bool,
}

const CONNECTS: Question<Connect> = Question::database(
    "connects",
    "SELECT jsonb_build_object('rolname', rolname, 'connect', has_database_privilege(oid, current_database(), 'CONNECT'))
       FROM pg_roles WHERE rolcanlogin",
);

fn shut_out(
    sessions: &[Sessions],
    here: &[Connect],
    there: &[Connect],
    owner: &str,
    dbname: &str,
) -> Vec<Finding> {
    let connect = |rows: &[Connect], user: &str| {
        let mut rows = rows.iter();
        rows.find(|it| it.rolname == user).map(|it| it.connect)
    };
    // Nobody shuts the owner out but a cutover that was undone, and the next one opens it again.
    if connect(there, owner) == Some(false) {
        return Vec::new();
    }
    let users: BTreeSet<&str> = sessions.iter().map(|it| it.user.as_str()).collect();
    let out: Vec<String> = users
        .into_iter()
        .filter(|user| connect(here, user) == Some(true) && connect(there, user) == Some(false))
        .map(str::to_owned)
        .collect();
    match out.first() {
        None => Vec::new(),
        Some(first) => vec![
            Finding::blocker("the application may connect to the publisher's database and not to the subscriber's")
                .fix(format!(
                    "GRANT CONNECT ON DATABASE {} TO {} on the subscriber",
                    Ident::from(dbname),
                    Ident::new(first)
                ))
                .objects(out),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_is_missed_only_where_it_was_had() {
        let row = |connect| {
            vec![Connect {
                rolname: "app".into(),
                connect,
            }]
        };
        let app = [Sessions {
            user: "app".into(),
            address: None,
            n: 1,
            tls: None,
        }];
        assert_eq!(
            shut_out(&app, &row(true), &row(false), "o", "d")[0].objects,
            ["app"]
        );
        assert!(shut_out(&app, &row(false), &row(false), "o", "d").is_empty());
        assert!(shut_out(&app, &row(true), &[], "o", "d").is_empty());
    }
}
