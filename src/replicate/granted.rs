//! The grants that flare makes for a subscription's owner, and takes back with the subscription.
//!
//! The subscription's comment names them: what it does not name is the user's and stays. Only the subscription's owner
//! can write that comment, and only what was granted to that owner is taken back, so nobody can take from another by it.

use serde::{Deserialize, Serialize};

use super::{Change, Plan, Run};
use crate::catalog::subscriptions::Subscription;
use crate::error::{Result, WrapErr};
use crate::server::{Login, Session, Side, Subscriber, params};
use crate::value::{Ident, Literal};

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

/// How flare's line in the comment begins; JSON follows.
const RECORD: &str = "granted by flare and taken back by its drop_subscription: ";

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

/// Names the grants in the subscription's comment, beside what is written there already.
pub(super) fn record(plan: &mut Plan, subname: &str, comment: &str, grants: &[Grant]) {
    let mut named = recorded(comment);
    let more: Vec<&Grant> = grants
        .iter()
        .filter(|grant| !named.contains(grant))
        .collect();
    if more.is_empty() {
        return;
    }
    named.extend(more.into_iter().cloned());
    let json = serde_json::to_string(&named).unwrap_or_default();
    let mut lines: Vec<&str> = comment
        .lines()
        .filter(|line| !line.starts_with(RECORD))
        .collect();
    let ours = format!("{RECORD}{json}");
    lines.push(&ours);
    plan.step(
        format!("name in the comment of subscription {subname:?} what was granted for it"),
        format!(
            "COMMENT ON SUBSCRIPTION {} IS {}",
            Ident::new(subname),
            Literal(&lines.join("\n"))
        ),
    );
}

/// The grants that a comment names; one that cannot be read names none.
fn recorded(comment: &str) -> Vec<Grant> {
    let ours = comment.lines().find_map(|line| line.strip_prefix(RECORD));
    ours.and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default()
}

fn comment_of(session: &Session, subname: &str) -> Result<String> {
    session
        .value(
            "SELECT coalesce((SELECT obj_description(s.oid, 'pg_subscription') FROM pg_subscription s
                               WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())), '')",
            params![subname],
        )
        .wrap_err_with(|| format!("read the comment of subscription {subname:?}"))
}

/// Another subscription of the same owner, which rests on the same grants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Heir {
    dbname: String,
    subname: String,
}

/// What becomes of a subscription's grants when it goes.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// They go too.
    taken_back: Vec<Grant>,
    /// They stay, and are named in the comment of another subscription from now on.
    inherited: Vec<(Heir, Vec<Grant>)>,
}

/// Looks which of flare's grants end with the subscription; `session` is its owner's.
pub(super) fn ending(
    subscriber: &Subscriber,
    session: &Session,
    dbname: &str,
    subscription: &Subscription,
) -> Result<Ending> {
    if subscriber.major() < 16 {
        return Ok(Ending::default());
    }
    let mut grants = recorded(&comment_of(session, &subscription.subname)?);
    grants.retain(|grant| grant.to() == subscription.owner);
    ending_of(session, dbname, &subscription.subname, &grants)
}

/// The same for grants that are known: of a subscription that may not have come to be.
pub(super) fn ending_of(
    session: &Session,
    dbname: &str,
    subname: &str,
    grants: &[Grant],
) -> Result<Ending> {
    let mut standing = Vec::new();
    for grant in grants {
        if grant.stands(session)? {
            standing.push(grant.clone());
        }
    }
    let Some(owner) = standing.first().map(|grant| grant.to().to_owned()) else {
        return Ok(Ending::default());
    };
    let others: Vec<Heir> = session
        .list(
            "SELECT jsonb_build_object('dbname', d.datname, 'subname', s.subname)
               FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
              WHERE pg_get_userbyid(s.subowner) = $1 AND NOT (s.subname = $2 AND d.datname = $3)
              ORDER BY d.datname <> $3, d.datname, s.subname",
            params![&owner, subname, dbname],
        )
        .wrap_err_with(|| format!("read the subscriptions of {owner:?}"))?;
    Ok(divide(dbname, standing, &others))
}

/// A right on the database is inherited within it; who may act as whom is the same in all databases.
fn divide(dbname: &str, standing: Vec<Grant>, others: &[Heir]) -> Ending {
    let mut ending = Ending::default();
    for grant in standing {
        let heir = others
            .iter()
            .find(|heir| !grant.is_by_owner() || heir.dbname == dbname);
        let Some(heir) = heir else {
            ending.taken_back.push(grant);
            continue;
        };
        match ending.inherited.iter_mut().find(|(known, _)| known == heir) {
            Some((_, grants)) => grants.push(grant),
            None => ending.inherited.push((heir.clone(), vec![grant])),
        }
    }
    ending
}

impl Ending {
    /// What comes before the subscription goes: after it nothing would name the grants any more. CREATE is needed to
    /// make a subscription, not to keep one.
    pub(super) fn before(
        &self,
        subscriber: &Subscriber,
        login: Login,
        dbname: &str,
        run: &Run,
    ) -> Result<Change> {
        let mut change = Change::none(run);
        for (Heir { dbname, subname }, grants) in &self.inherited {
            let session = subscriber.connect(login, dbname)?;
            let mut plan = Plan::new(Side::Subscriber, dbname);
            record(&mut plan, subname, &comment_of(&session, subname)?, grants);
            plan.note(format!(
                "what flare granted stays for subscription {subname:?} of database {dbname:?}, and goes with it"
            ));
            change = change.and(plan.carry_out(&session, run)?);
        }
        let mut by_owner = Plan::new(Side::Subscriber, dbname);
        for grant in self.taken_back.iter().filter(|grant| grant.is_by_owner()) {
            grant.take_back(&mut by_owner, dbname);
        }
        if !by_owner.is_empty() {
            let session = subscriber.connect(Login::DbOwner, dbname)?;
            change = change.and(by_owner.carry_out(&session, run)?);
        }
        Ok(change)
    }

    /// What goes in one transaction with the subscription, whose worker needs it to the end.
    pub(super) fn within(&self, plan: &mut Plan, dbname: &str) {
        for grant in self.taken_back.iter().filter(|grant| !grant.is_by_owner()) {
            grant.take_back(plan, dbname);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(role: &str) -> Grant {
        Grant::Membership {
            role: role.into(),
            to: "adm".into(),
            by: "adm".into(),
        }
    }

    fn create() -> Grant {
        Grant::CreateOnDatabase { to: "adm".into() }
    }

    fn sql(fill: impl FnOnce(&mut Plan)) -> Vec<String> {
        let mut plan = Plan::new(Side::Subscriber, "d");
        fill(&mut plan);
        let statements = plan.statements().iter();
        statements.map(|it| it.shown.clone()).collect()
    }

    #[test]
    fn a_comment_keeps_what_others_wrote_and_names_each_grant_once() {
        let grants = [membership("o'\"\\\n"), create()];
        let written = sql(|plan| record(plan, "s", "the user's\nwords", &grants[..1]));
        let comment = format!(
            "the user's\nwords\n{RECORD}{}",
            serde_json::to_string(&grants[..1]).unwrap()
        );
        assert_eq!(
            written,
            [format!(
                "COMMENT ON SUBSCRIPTION \"s\" IS {}",
                Literal(&comment)
            )]
        );
        assert_eq!(recorded(&comment), grants[..1]);
        assert!(sql(|plan| record(plan, "s", &comment, &grants[..1])).is_empty());
        let more = sql(|plan| record(plan, "s", &comment, &grants));
        assert_eq!(more[0].matches(RECORD).count(), 1, "{more:?}");
        assert!(more[0].contains("create_on_database"), "{more:?}");
        assert_eq!(recorded("granted by flare"), []);
        assert_eq!(recorded(&format!("{RECORD}[{{\"granted\":\"all\"}}]")), []);
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

    #[test]
    fn another_database_inherits_memberships_but_no_right_on_this_one() {
        let heir = |dbname: &str| Heir {
            dbname: dbname.into(),
            subname: "other".into(),
        };
        let all = || vec![membership("o"), create()];
        let alone = divide("d", all(), &[]);
        assert_eq!((alone.taken_back, alone.inherited), (all(), vec![]));
        let elsewhere = divide("d", all(), &[heir("e")]);
        assert_eq!(elsewhere.taken_back, [create()]);
        assert_eq!(elsewhere.inherited, [(heir("e"), vec![membership("o")])]);
        let here = divide("d", all(), &[heir("d"), heir("e")]);
        assert_eq!(here.taken_back, []);
        assert_eq!(here.inherited, [(heir("d"), all())]);
    }
}
