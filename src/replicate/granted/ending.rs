//! What becomes of a subscription's grants when it goes: taken back, or left to another subscription that rests on them.

use serde::Deserialize;

use super::Grant;
use super::record::{comment_of, record, recorded};
use crate::catalog::subscriptions::Subscription;
use crate::error::{Result, WrapErr};
use crate::replicate::{Change, Plan, Run};
use crate::server::{ActAs, Login, Session, Side, Subscriber, params};

/// Another subscription of the same owner, which rests on the same grants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Heir {
    dbname: String,
    subname: String,
}

/// What becomes of a subscription's grants when it goes.
#[derive(Debug, Default)]
pub(in crate::replicate) struct Ending {
    /// They go too.
    taken_back: Vec<Grant>,
    /// They stay, and are named in the comment of another subscription from now on.
    inherited: Vec<(Heir, Vec<Grant>)>,
}

/// Looks which of flare's grants end with the subscription; `session` is its owner's.
pub(in crate::replicate) fn ending(
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
pub(in crate::replicate) fn ending_of(
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
    pub(in crate::replicate) fn before(
        &self,
        subscriber: &Subscriber,
        login: Login,
        dbname: &str,
        run: &Run,
    ) -> Result<Change> {
        let mut change = Change::none(run);
        for (Heir { dbname, subname }, grants) in &self.inherited {
            let session = subscriber.connect(ActAs::EvenShutOut(login), dbname)?;
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
            let session = subscriber.connect(ActAs::EvenShutOut(Login::DbOwner), dbname)?;
            change = change.and(by_owner.carry_out(&session, run)?);
        }
        Ok(change)
    }

    /// What goes in one transaction with the subscription, whose worker needs it to the end.
    pub(in crate::replicate) fn within(&self, plan: &mut Plan, dbname: &str) {
        for grant in self.taken_back.iter().filter(|grant| !grant.is_by_owner()) {
            grant.take_back(plan, dbname);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{create, membership};
    use super::*;

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
