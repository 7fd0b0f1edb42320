//! Memberships: which ones the subscriber gets, and in which words its version reads them.

use std::collections::BTreeSet;

use super::read::Grant;
use super::{Executor, RdsOptions, RolesTarget, is_platform_role};

/// The first version that reads `WITH INHERIT TRUE, SET TRUE`.
const GRANT_OPTIONS_SINCE: u32 = 16;

/// What is known when the memberships come.
pub(super) struct Known<'a> {
    pub(super) target: &'a RolesTarget<'a>,
    /// Roles that the rewritten SQL creates.
    pub(super) created: &'a BTreeSet<String>,
    /// (role, member) pairs granted so far with ADMIN OPTION: who may be named as a grantor.
    pub(super) admins: &'a BTreeSet<(String, String)>,
}

/// What becomes of a membership.
pub(super) enum Membership {
    /// As this SQL, perhaps with something lost.
    Granted(Vec<u8>, Option<String>),
    /// The platform's own business.
    LeftOut,
    Refused(String),
}

impl Known<'_> {
    pub(super) fn membership(&self, grant: &Grant) -> Membership {
        let (role, member) = (&grant.role, &grant.member);
        if self.target.is_platform(member) {
            return Membership::LeftOut;
        }
        if self.target.bootstrap.contains(role) && !is_platform_role(role) {
            return Membership::Refused(format!(
                "membership of {member:?} in the bootstrap superuser {role:?} is not carried over"
            ));
        }
        for name in [role, member] {
            if !self.target.roles.contains_key(name) && !self.created.contains(name) {
                return Membership::Refused(format!(
                    "{member:?} is not made a member of {role:?}: the subscriber has no role {name:?}"
                ));
            }
        }
        if self.is_its_own(grant) && grant.inherit == Some(false) && grant.set == Some(false) {
            return Membership::LeftOut;
        }
        if self.target.is_beyond_reach(role) {
            return Membership::Refused(format!(
                "{member:?} is not made a member of {role:?}: that needs the ADMIN option on {role:?}"
            ));
        }
        self.written(grant)
    }

    /// From 16 on whoever creates a role has ADMIN OPTION on it, and cannot grant that to itself.
    fn is_its_own(&self, grant: &Grant) -> bool {
        self.target.executor == Executor::Administrator
            && self.target.major >= GRANT_OPTIONS_SINCE
            && grant.member == self.target.executor_name
    }

    fn written(&self, grant: &Grant) -> Membership {
        let modern = self.target.major >= GRANT_OPTIONS_SINCE;
        let value = |value: bool| if value { "TRUE" } else { "FALSE" };
        let mut options: Vec<String> = Vec::new();
        if grant.admin && !self.is_its_own(grant) {
            options.push("ADMIN OPTION".into());
        }
        if let (true, Some(inherit)) = (modern, grant.inherit) {
            options.push(format!("INHERIT {}", value(inherit)));
        }
        if let (true, Some(set)) = (modern, grant.set) {
            options.push(format!("SET {}", value(set)));
        }
        let lost = !modern && (grant.inherit == Some(false) || grant.set == Some(false));
        let mut sql = [b"GRANT ", grant.raw_role, b" TO ", grant.raw_member].concat();
        if !options.is_empty() {
            sql.extend_from_slice(format!(" WITH {}", options.join(", ")).as_bytes());
        }
        if let (Some((_, raw)), true) = (&grant.grantor, self.keeps_grantor(grant)) {
            sql.extend_from_slice(b" GRANTED BY ");
            sql.extend_from_slice(raw);
        }
        sql.extend_from_slice(b";\n");
        let note = lost.then(|| {
            format!(
                "membership of {:?} in {:?}: INHERIT FALSE or SET FALSE cannot be said before PostgreSQL 16",
                grant.member, grant.role
            )
        });
        Membership::Granted(sql, note)
    }

    /// Before 16 a grantor is only a word, and pg_dumpall orders grants by grantor only for servers of 16 and later
    /// (their grants say INHERIT). Without GRANTED BY the grantor is the bootstrap superuser, as it most often was.
    fn keeps_grantor(&self, grant: &Grant) -> bool {
        let may = self.target.executor == Executor::Superuser
            && self.target.rds == RdsOptions::Keep
            && self.target.major >= GRANT_OPTIONS_SINCE;
        may && grant.inherit.is_some()
            && grant
                .grantor
                .as_ref()
                .is_some_and(|(name, _)| self.admins.contains(&(grant.role.clone(), name.clone())))
    }
}
