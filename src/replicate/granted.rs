//! The grants that flare makes for a subscription's owner, and takes back with the subscription.
//!
//! The subscription's comment names them: what it does not name is the user's and stays. Only the subscription's owner
//! can write that comment, and only what was granted to that owner is taken back, so nobody can take from another by it.

mod ending;
mod record;

use serde::{Deserialize, Serialize};

pub(super) use self::ending::{ending, ending_of};
pub(super) use self::record::record;
use super::Plan;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};
use crate::value::Ident;

/// What one role was granted on the subscriber (16+).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "granted", rename_all = "snake_case")]
pub(super) enum Grant {
    /// Membership in a role, as whom `to` may act.
    Membership {
        role: String,
        to: String,
        by: String,
    },
    /// The SET option of a membership that was there before.
    SetOption {
        role: String,
        to: String,
        by: String,
    },
    /// CREATE on the subscription's database, by its owner.
    CreateOnDatabase { to: String },
}

impl Grant {
    /// The grant by which `to` comes to act as `role`; `None` when the session's role cannot grant that.
    pub(super) fn to_act_as(session: &Session, role: &str, to: &str) -> Result<Option<Grant>> {
        session
            .first(
                "SELECT jsonb_build_object('role', r.rolname, 'to', $2::text, 'by', g.rolname, 'granted',
                          CASE WHEN EXISTS (SELECT FROM pg_auth_members e JOIN pg_roles t ON t.oid = e.member
                                             WHERE e.roleid = r.oid AND e.grantor = g.oid AND t.rolname = $2)
                               THEN 'set_option' ELSE 'membership' END)
                   FROM pg_roles r JOIN pg_auth_members m ON m.roleid = r.oid AND m.admin_option
                   JOIN pg_roles g ON g.oid = m.member
                  WHERE r.rolname = $1 AND pg_has_role(g.oid, 'USAGE')
                  ORDER BY g.rolname = current_user DESC, g.rolname LIMIT 1",
                params![role, to],
            )
            .wrap_err_with(|| format!("read who grants {role:?}"))
    }

    fn to(&self) -> &str {
        match self {
            Grant::Membership { to, .. }
            | Grant::SetOption { to, .. }
            | Grant::CreateOnDatabase { to } => to,
        }
    }

    /// Whether the database's owner grants it; the rest is the administrator's.
    pub(super) fn is_by_owner(&self) -> bool {
        matches!(self, Grant::CreateOnDatabase { .. })
    }

    pub(super) fn give(&self, plan: &mut Plan, dbname: &str) {
        match self {
            Grant::Membership { role, to, by } | Grant::SetOption { role, to, by } => plan.step(
                format!("let {to:?} act for {role:?}, whose tables the subscription writes to"),
                format!(
                    "GRANT {} TO {} WITH SET TRUE GRANTED BY {}",
                    Ident::new(role),
                    Ident::new(to),
                    Ident::new(by)
                ),
            ),
            Grant::CreateOnDatabase { to } => plan.step(
                format!(
                    "grant CREATE on database {dbname:?} to {to:?}, who will own the subscription"
                ),
                format!(
                    "GRANT CREATE ON DATABASE {} TO {}",
                    Ident::from(dbname),
                    Ident::new(to)
                ),
            ),
        }
    }

    fn take_back(&self, plan: &mut Plan, dbname: &str) {
        let of_membership = |option: &str, role: &str, to: &str, by: &str| {
            format!(
                "REVOKE {option}{} FROM {} GRANTED BY {}",
                Ident::new(role),
                Ident::new(to),
                Ident::new(by)
            )
        };
        match self {
            Grant::Membership { role, to, by } => plan.step(
                format!("take back from {to:?} the membership in {role:?} that flare granted"),
                of_membership("", role, to, by),
            ),
            Grant::SetOption { role, to, by } => plan.step(
                format!("take back from {to:?} the right to act for {role:?} that flare granted"),
                of_membership("SET OPTION FOR ", role, to, by),
            ),
            Grant::CreateOnDatabase { to } => plan.step(
                format!("take back from {to:?} CREATE on database {dbname:?} that flare granted"),
                format!(
                    "REVOKE CREATE ON DATABASE {} FROM {}",
                    Ident::from(dbname),
                    Ident::new(to)
                ),
            ),
        }
    }

    /// Whether it is there as flare made it, and the session's role may take it back.
    fn stands(&self, session: &Session) -> Result<bool> {
        match self {
            Grant::Membership { role, to, by } | Grant::SetOption { role, to, by } => session.value(
                "SELECT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
                                  JOIN pg_roles t ON t.oid = m.member JOIN pg_roles g ON g.oid = m.grantor
                                 WHERE r.rolname = $1 AND t.rolname = $2 AND g.rolname = $3 AND m.set_option AND NOT m.admin_option
                                   AND pg_has_role(r.oid, 'USAGE WITH ADMIN OPTION') AND pg_has_role(g.oid, 'USAGE'))",
                params![role, to, by],
            ),
            Grant::CreateOnDatabase { to } => session.value(
                "SELECT EXISTS (SELECT FROM pg_database d, aclexplode(d.datacl) a JOIN pg_roles t ON t.oid = a.grantee
                                 WHERE d.datname = current_database() AND a.grantor = d.datdba AND t.rolname = $1
                                   AND a.privilege_type = 'CREATE' AND NOT a.is_grantable)",
                params![to],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Side;

    pub(super) fn membership(role: &str) -> Grant {
        Grant::Membership {
            role: role.into(),
            to: "adm".into(),
            by: "adm".into(),
        }
    }

    pub(super) fn create() -> Grant {
        Grant::CreateOnDatabase { to: "adm".into() }
    }

    pub(super) fn sql(fill: impl FnOnce(&mut Plan)) -> Vec<String> {
        let mut plan = Plan::new(Side::Subscriber, "d");
        fill(&mut plan);
        let statements = plan.statements().iter();
        statements.map(|it| it.shown.clone()).collect()
    }

    #[test]
    fn what_is_taken_back_is_what_was_given() {
        let set_option = Grant::SetOption {
            role: "o\"o".into(),
            to: "adm".into(),
            by: "chief".into(),
        };
        let both = |grant: &Grant| {
            sql(|plan| {
                grant.give(plan, "d");
                grant.take_back(plan, "d");
            })
        };
        assert_eq!(
            both(&membership("o\"o")),
            [
                r#"GRANT "o""o" TO "adm" WITH SET TRUE GRANTED BY "adm""#,
                r#"REVOKE "o""o" FROM "adm" GRANTED BY "adm""#
            ]
        );
        assert_eq!(
            both(&set_option),
            [
                r#"GRANT "o""o" TO "adm" WITH SET TRUE GRANTED BY "chief""#,
                r#"REVOKE SET OPTION FOR "o""o" FROM "adm" GRANTED BY "chief""#
            ]
        );
        assert_eq!(
            both(&create()),
            [
                r#"GRANT CREATE ON DATABASE "d" TO "adm""#,
                r#"REVOKE CREATE ON DATABASE "d" FROM "adm""#
            ]
        );
    }
}
