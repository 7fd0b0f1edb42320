//! Who creates a subscription, and the rights that this needs. Before 16 it is a superuser's alone (Amazon RDS also lets
//! `rds_superuser`); from 16 on it takes `pg_create_subscription`, CREATE on the database, and SET ROLE to each table's owner.

use serde::Deserialize;

use super::granted::Grant;
use crate::catalog::tables;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Login, Server, Side, Subscriber, params};
use crate::value::{Ident, TableName};

/// The account that will own the subscription, and what it still has to be granted.
pub(crate) struct Creator {
    pub(crate) login: Login,
    /// What the database's owner grants first, then what the administrator does.
    pub(super) grants: Vec<Grant>,
}

impl Creator {
    /// Whether it has to be granted something first.
    pub(crate) fn is_granted(&self) -> bool {
        !self.grants.is_empty()
    }
}

/// What one account may do on the subscriber.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Rights {
    user: String,
    may_subscribe: bool,
    may_create: bool,
    /// Owners of tables that the subscription writes to, as whom it may not act, and what the administrator can grant
    /// against that.
    #[serde(skip)]
    out_of_reach: Vec<(String, Option<Grant>)>,
}

const RIGHTS: &str = "
    SELECT jsonb_build_object('user', $1::text,
             'may_subscribe', pg_has_role($1::name, 'pg_create_subscription', 'USAGE'),
             'may_create', has_database_privilege($1::name, current_database(), 'CREATE'))";

/// Whether nobody else is asked for: a superuser, or a version that lets only one.
pub(super) fn is_the_administrators(subscriber: &Server) -> bool {
    subscriber.facts().superuser || subscriber.major() < 16
}

/// Looks who may create the subscription on the subscriber, and refuses when nobody can be enabled to.
pub(super) fn creator(
    subscriber: &Subscriber,
    dbname: &str,
    published: &[TableName],
    acts_for_owners: bool,
) -> Result<Creator> {
    let admin = Creator {
        login: Login::Superuser,
        grants: Vec::new(),
    };
    if is_the_administrators(subscriber) {
        return Ok(admin);
    }
    let session = subscriber.visit(dbname)?;
    let read = |login| -> Result<Rights> {
        let user = subscriber.credentials(login)?.user();
        let rights: Option<Rights> = session
            .first(RIGHTS, params![user])
            .wrap_err_with(|| format!("read the rights of {user:?}"))?;
        let mut rights = rights.unwrap_or_default();
        if acts_for_owners {
            let db_owner = &subscriber.declared().db_owner.user;
            for owner in tables::owners_out_of_reach(&session, user, db_owner, published)? {
                let grant = Grant::to_act_as(&session, &owner, user)?;
                rights.out_of_reach.push((owner, grant));
            }
        }
        Ok(rights)
    };
    let (as_admin, as_owner) = (read(Login::Superuser)?, read(Login::DbOwner)?);
    // The owner needs nothing but that one right.
    let (login, rights) = if as_owner.may_subscribe && as_owner.out_of_reach.is_empty() {
        (Login::DbOwner, as_owner)
    } else {
        (Login::Superuser, as_admin)
    };
    let owner_may_grant: bool = session.value(
        "SELECT coalesce(has_database_privilege((SELECT rolname FROM pg_roles WHERE rolname = $1), current_database(), 'CREATE WITH GRANT OPTION'), false)",
        params![&subscriber.declared().db_owner.user],
    )?;
    decide((subscriber.side(), dbname), login, &rights, owner_may_grant)
}

/// What a user lacks whom a server does not let create a subscription, and how it gets it.
pub(super) fn lacks(server: &Server, user: &str, dbname: &str) -> String {
    let ident = Ident::new(user);
    let right = match server.major() {
        16.. => format!(
            "GRANT pg_create_subscription TO {ident}; GRANT CREATE ON DATABASE {} TO {ident}",
            Ident::from(dbname)
        ),
        _ => format!("ALTER ROLE {ident} SUPERUSER"),
    };
    format!(
        "{user:?} may not create subscriptions on the {}: {right}; on Amazon RDS log in as the master user or GRANT rds_superuser TO {ident}",
        server.side()
    )
}

fn decide(
    (side, dbname): (Side, &str),
    login: Login,
    rights: &Rights,
    owner_may_grant: bool,
) -> Result<Creator> {
    let user = &rights.user;
    let ident = Ident::new(user);
    if !rights.may_subscribe {
        return Failure::new(format!(
            "on the {side} {user:?} may not create subscriptions: it is no member of pg_create_subscription"
        ))
        .hint(format!(
            "GRANT pg_create_subscription TO {ident} there, or to the database's owner; on Amazon RDS log in as the master user or GRANT rds_superuser TO {ident}"
        ))
        .err();
    }
    let beyond: Vec<&str> = rights
        .out_of_reach
        .iter()
        .filter(|(_, grant)| grant.is_none())
        .map(|(owner, _)| owner.as_str())
        .collect();
    if let Some(first) = beyond.first() {
        return Failure::new(format!(
            "on the {side} {user:?} cannot SET ROLE to {}, who own tables that it would write to",
            beyond.join(", ")
        ))
        .hint(format!(
            "GRANT {} TO {ident} WITH SET TRUE on the {side}, or set run_as_owner: true in the subscription's options and grant it the tables",
            Ident::new(*first)
        ))
        .err();
    }
    let mut grants = Vec::new();
    if !rights.may_create {
        if !owner_may_grant {
            return Failure::new(format!(
                "on the {side} {user:?} may not create subscriptions in database {dbname:?}: it has no CREATE there"
            ))
            .hint(format!(
                "GRANT CREATE ON DATABASE {} TO {ident} as the database's owner",
                Ident::from(dbname)
            ))
            .err();
        }
        grants.push(Grant::CreateOnDatabase { to: user.clone() });
    }
    let missing = rights.out_of_reach.iter();
    grants.extend(missing.filter_map(|(_, grant)| grant.clone()));
    Ok(Creator { login, grants })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights() -> Rights {
        Rights {
            user: "adm".into(),
            may_subscribe: true,
            may_create: false,
            out_of_reach: vec![("o\"o".into(), Some(membership()))],
        }
    }

    fn membership() -> Grant {
        Grant::Membership {
            role: "o\"o".into(),
            to: "adm".into(),
            by: "adm".into(),
        }
    }

    #[test]
    fn what_lacks_is_granted() {
        let grants = |rights: &Rights| {
            let creator = decide((Side::Subscriber, "d"), Login::Superuser, rights, true).unwrap();
            creator.grants
        };
        let create = Grant::CreateOnDatabase { to: "adm".into() };
        assert_eq!(grants(&rights()), [create, membership()]);
        let has_all = Rights {
            may_create: true,
            out_of_reach: vec![],
            ..rights()
        };
        assert_eq!(grants(&has_all), []);
    }

    #[test]
    fn what_nobody_may_grant_is_named() {
        let refused = |rights: &Rights, owner| {
            let refused = decide((Side::Subscriber, "d"), Login::Superuser, rights, owner)
                .err()
                .unwrap();
            format!("{refused:#}")
        };
        assert!(refused(&rights(), false).contains("no CREATE there"));
        let mut beyond = rights();
        beyond.out_of_reach[0].1 = None;
        assert!(refused(&beyond, true).contains("cannot SET ROLE to o\"o"));
        beyond.may_subscribe = false;
        assert!(refused(&beyond, true).contains("no member of pg_create_subscription"));
    }
}
