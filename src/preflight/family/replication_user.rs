//! Whom the receiving server logs in to the sending one as: that it may, and may replicate.

use serde::Deserialize;

use super::app_connect::Connect;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::server::Side;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "repl_user",
        title: "the replication user may log in and replicate",
        before: Before::Subscription,
        place: Place::Server,
        asks: &[REPL.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) => Ok(replicates(publisher.first(&REPL)?, publisher.side)),
            None => Ok(Vec::new()),
        },
    },
    Check {
        id: "repl_user_back",
        title: "the replication user of the way back may log in and replicate",
        before: Before::Cutover,
        place: Place::Server,
        asks: &[LOGINS.on_subscriber()],
        judge: |view| match view.subscriber {
            Some(subscriber) if view.reverse && !view.is_back() => {
                let declared = view.config.subscriber.repl.as_ref();
                let mut logins = subscriber.rows(&LOGINS)?.into_iter();
                // It comes with replicate_roles.
                let repl = declared.and_then(|it| logins.find(|role| role.rolname == it.user));
                Ok(replicates(repl, subscriber.side))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "subscribe_back",
        title: "the way back may be created",
        before: Before::Cutover,
        place: Place::Server,
        asks: &[CREATOR.on_publisher()],
        judge: |view| match view.publisher {
            Some(publisher) if view.reverse && !view.is_back() => Ok(may_subscribe(
                publisher.first(&CREATOR)?,
                publisher.side,
                publisher.major,
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "repl_connect",
        title: "the replication user has CONNECT on the database",
        before: Before::Cutover,
        place: Place::Database,
        asks: &[REPL_CONNECT.on_publisher()],
        judge: |view| match (view.moving, view.publisher) {
            (Some(moving), Some(publisher)) if view.subscribed => Ok(kept_out(
                publisher.first(&REPL_CONNECT)?,
                moving.dbname,
                publisher.side,
            )),
            _ => Ok(Vec::new()),
        },
    },
];

/// Who would create the subscription of the way back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Creator {
    user: String,
    may: bool,
}

/// Managed servers have roles of their own that may.
const CREATOR: Question<Creator> = Question::server(
    "creator of the way back",
    "SELECT jsonb_build_object('user', current_user, 'may', r.rolsuper OR EXISTS (SELECT FROM pg_roles g, pg_roles m
              WHERE g.rolname IN ('pg_create_subscription', 'rds_superuser', 'cloudsqlsuperuser', 'alloydbsuperuser', 'azure_pg_admin')
                AND m.rolname IN (current_user, {db_owner}) AND pg_has_role(m.oid, g.oid, 'MEMBER')))
       FROM pg_roles r WHERE r.rolname = current_user",
);

fn may_subscribe(creator: Option<Creator>, side: Side, major: i32) -> Vec<Finding> {
    let Some(creator) = creator.filter(|it| !it.may) else {
        return Vec::new();
    };
    let user = Ident::new(&creator.user);
    let right = if major >= 16 {
        format!("GRANT pg_create_subscription TO {user}")
    } else {
        format!("ALTER ROLE {user} SUPERUSER")
    };
    vec![
        Finding::warning(format!(
            "{:?} may not create subscriptions on the {side}: the cutover will be refused unless it goes without a way back",
            creator.user
        ))
        .fix(format!("{right} on the {side}, or cutover: {{reverse: false}}")),
    ]
}

/// Whom the subscriber logs in as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Repl {
    rolname: String,
    rolcanlogin: bool,
    replicates: bool,
    rolconnlimit: i64,
    expired: bool,
}

const REPL: Question<Repl> = Question::server(
    "repl",
    "SELECT jsonb_build_object('rolname', n.name, 'rolcanlogin', coalesce(r.rolcanlogin, false),
              'rolconnlimit', coalesce(r.rolconnlimit, -1), 'expired', coalesce(r.rolvaliduntil < now(), false),
              'replicates', coalesce(r.rolreplication OR r.rolsuper, false) OR EXISTS (SELECT FROM pg_roles g
                 WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'MEMBER')))
       FROM (SELECT {repl}::text AS name) n LEFT JOIN pg_roles r ON r.rolname = n.name",
);

/// Every role that may log in: who connects on the way back is the configuration's to say.
const LOGINS: Question<Repl> = Question::server(
    "logins",
    "SELECT jsonb_build_object('rolname', r.rolname, 'rolcanlogin', true, 'rolconnlimit', r.rolconnlimit, 'expired', coalesce(r.rolvaliduntil < now(), false),
              'replicates', r.rolreplication OR r.rolsuper OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'MEMBER')))
       FROM pg_roles r WHERE r.rolcanlogin",
);

const REPL_CONNECT: Question<Connect> = Question::database(
    "repl_connect",
    "SELECT jsonb_build_object('rolname', rolname, 'connect', has_database_privilege(oid, current_database(), 'CONNECT'))
       FROM pg_roles WHERE rolname = {repl}",
);

fn replicates(repl: Option<Repl>, side: Side) -> Vec<Finding> {
    let Some(repl) = repl else {
        return Vec::new();
    };
    let user = Ident::new(&repl.rolname);
    let lacking = match &repl {
        it if !it.rolcanlogin => Some((
            "does not exist or may not log in",
            format!("CREATE ROLE {user} LOGIN REPLICATION PASSWORD '...'"),
        )),
        it if !it.replicates => Some((
            "may not replicate",
            format!("ALTER ROLE {user} REPLICATION (Amazon RDS: GRANT rds_replication TO {user})"),
        )),
        it if it.expired => Some((
            "has a password that has expired",
            format!("ALTER ROLE {user} VALID UNTIL 'infinity'"),
        )),
        it if (0..3).contains(&it.rolconnlimit) => Some((
            "has a connection limit below the three that a copy takes",
            format!("ALTER ROLE {user} CONNECTION LIMIT -1"),
        )),
        _ => None,
    };
    let finding = lacking.map(|(why, fix)| {
        Finding::blocker(format!("the replication user {:?} {why}", repl.rolname))
            .fix(format!("{fix} on the {side}"))
    });
    finding.into_iter().collect()
}

fn kept_out(repl: Option<Connect>, dbname: &str, side: Side) -> Vec<Finding> {
    match repl.filter(|it| !it.connect) {
        None => Vec::new(),
        Some(repl) => vec![
            Finding::blocker(format!(
                "the replication user {:?} has no CONNECT on the database: apply stops when its connection ends",
                repl.rolname
            ))
            .fix(format!(
                "GRANT CONNECT ON DATABASE {} TO {} on the {side}",
                Ident::from(dbname),
                Ident::new(&repl.rolname)
            )),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_create_no_subscription_is_told_what_is_missing() {
        let of = |may, major| {
            let user = "adm".into();
            may_subscribe(Some(Creator { user, may }), Side::Publisher, major)
        };
        assert!(of(true, 14).is_empty());
        let fix = |major| of(false, major)[0].fix.clone().unwrap();
        assert!(fix(14).starts_with("ALTER ROLE \"adm\" SUPERUSER on the publisher"));
        assert!(fix(16).starts_with("GRANT pg_create_subscription"));
    }

    #[test]
    fn the_replication_user_lacks_one_thing_at_a_time() {
        let repl = Repl {
            rolname: "repl".into(),
            rolcanlogin: true,
            replicates: true,
            rolconnlimit: -1,
            expired: false,
        };
        let of = |change: fn(&mut Repl)| {
            let mut repl = repl.clone();
            change(&mut repl);
            replicates(Some(repl), Side::Publisher)
        };
        assert!(of(|_| ()).is_empty());
        assert!(
            of(|it| it.rolcanlogin = false)[0]
                .fix
                .as_deref()
                .unwrap()
                .starts_with("CREATE ROLE")
        );
        assert!(
            of(|it| it.replicates = false)[0]
                .message
                .contains("may not replicate")
        );
        assert!(of(|it| it.expired = true)[0].message.contains("expired"));
        assert!(of(|it| it.rolconnlimit = 1)[0].message.contains("limit"));
    }
}
