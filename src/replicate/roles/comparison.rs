//! Which of the subscriber's roles differ from the publisher's, and what pg_dumpall does not say of them: pure.

use std::collections::BTreeSet;

use super::State;
use crate::catalog::roles::{Membership, Passwords, Role};
use crate::catalog::settings::{Parameters, Settable};
use crate::replicate::setting;
use crate::schema::{MaySet, RolesReport};
use crate::value::Ident;

/// What is compared with what.
pub(super) struct Scope<'a> {
    pub(super) source: &'a State,
    pub(super) target: &'a State,
    pub(super) parameters: &'a Parameters,
    pub(super) connecting: &'a BTreeSet<&'a str>,
    /// The role that runs the SQL.
    pub(super) administrator: &'a str,
    /// Which attributes are written.
    pub(super) may_set: MaySet,
    pub(super) superuser: bool,
    /// Whether the dump has verifiers.
    pub(super) passwords: Passwords,
    /// Whether roles are to have passwords at all.
    pub(super) passwords_wanted: bool,
    /// Whether the subscriber's verifiers could be read.
    pub(super) target_seen: Passwords,
}

/// What pg_dumpall leaves out.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub(super) statements: Vec<String>,
    pub(super) roles: BTreeSet<String>,
    pub(super) notes: Vec<String>,
}

impl Scope<'_> {
    pub(super) fn bootstrap(&self) -> BTreeSet<String> {
        [self.source, self.target]
            .into_iter()
            .filter_map(|state| state.bootstrap().map(str::to_owned))
            .collect()
    }

    /// Roles whose settings, comments and memberships follow the publisher: those updated, and those that keep only
    /// attributes and password because flare connects as them.
    fn following(&self, report: &RolesReport) -> BTreeSet<String> {
        let bootstrap = self.bootstrap();
        let kept = report
            .left_alone
            .iter()
            .filter(|role| self.connecting.contains(role.as_str()) && !bootstrap.contains(*role))
            .filter(|role| self.is_within_reach(role));
        report.updated.iter().chain(kept).cloned().collect()
    }

    fn is_within_reach(&self, role: &str) -> bool {
        let there = self.target.roles.get(role);
        there.is_some_and(|role| role.within_reach)
    }

    /// The existing roles that the dump would change.
    pub(super) fn differing(&self, report: &RolesReport) -> BTreeSet<String> {
        let mut differing = BTreeSet::new();
        let following = self.following(report);
        for role in &following {
            let (Some(source), Some(target)) =
                (self.source.roles.get(role), self.target.roles.get(role))
            else {
                continue;
            };
            let attributes =
                report.updated.contains(role) && attributes_differ(source, target, self.may_set);
            let comment = source.comment.is_some() && source.comment != target.comment;
            if attributes || comment {
                differing.insert(role.clone());
            }
        }
        for setting in &self.source.settings {
            let (Some(role), None) = (&setting.role, &setting.dbname) else {
                continue;
            };
            if following.contains(role)
                && self.parameters.may_have(
                    setting.role.as_deref(),
                    setting.dbname.as_deref(),
                    &setting.name,
                ) == Settable::Yes
                && !self.target.settings.contains(setting)
            {
                differing.insert(role.clone());
            }
        }
        let bootstrap = self.bootstrap();
        for membership in &self.source.memberships {
            let Membership { role, member, .. } = membership;
            let there = &self.target.memberships;
            if following.contains(member)
                && !bootstrap.contains(role)
                && self.is_within_reach(role)
                && !self.is_own_admin(membership)
                && !there.iter().any(|found| satisfies(found, membership))
            {
                differing.insert(member.clone());
            }
        }
        differing
    }

    /// From 16 on whoever creates a role has ADMIN OPTION on it, and cannot grant that to itself.
    fn is_own_admin(&self, membership: &Membership) -> bool {
        !self.superuser && membership.member == self.administrator && membership.admin_option
    }

    /// Settings in one database and of all roles; limits that pg_dumpall does not write when they are the default.
    pub(super) fn extras(&self, report: &RolesReport) -> Extras {
        let mut extras = Extras::default();
        let following = self.following(report);
        for setting in &self.source.settings {
            let wanted = match (&setting.role, &setting.dbname) {
                // For a database that is not there yet, replicate_schema does it.
                (Some(role), Some(dbname)) => {
                    self.target.dbnames.contains(dbname)
                        && (following.contains(role) || report.created.contains(role))
                }
                (None, None) => self.superuser,
                _ => false,
            };
            if !wanted || self.target.settings.contains(setting) {
                continue;
            }
            match setting::obstacle(self.parameters, setting) {
                Some(why) => extras.notes.push(why),
                None => {
                    extras.statements.push(setting::statement(setting));
                    extras.roles.extend(setting.role.clone());
                }
            }
        }
        for role in &report.updated {
            let (Some(source), Some(target)) =
                (self.source.roles.get(role), self.target.roles.get(role))
            else {
                continue;
            };
            let mut defaults = Vec::new();
            if source.rolconnlimit == -1 && target.rolconnlimit != -1 {
                defaults.push("CONNECTION LIMIT -1");
            }
            let limited =
                |role: &Role| matches!(&role.valid_until, Some(until) if until != "infinity");
            if !limited(source) && limited(target) {
                defaults.push("VALID UNTIL 'infinity'");
            }
            if !defaults.is_empty() {
                let role_name = Ident::new(role);
                extras
                    .statements
                    .push(format!("ALTER ROLE {role_name} {}", defaults.join(" ")));
                extras.roles.insert(role.clone());
            }
        }
        extras
    }

    /// Roles that may log in and have no password: those created without one, and those that never got one.
    pub(super) fn passwords_needed(&self, report: &RolesReport) -> Vec<String> {
        let mut needed: BTreeSet<String> = report.need_password.iter().cloned().collect();
        if self.target_seen == Passwords::Read {
            let without = report.updated.iter().filter(|role| {
                let (source, target) = (self.source.roles.get(*role), self.target.roles.get(*role));
                let may_have_one = self.passwords == Passwords::Leave;
                source.is_some_and(|source| source.rolcanlogin && may_have_one)
                    && target.is_some_and(|target| target.rolpassword.is_none())
            });
            needed.extend(without.cloned());
        }
        needed.into_iter().collect()
    }
}

/// Whether ALTER ROLE would change anything; it says nothing of limits that are the default.
fn attributes_differ(source: &Role, target: &Role, may_set: MaySet) -> bool {
    let plain = |role: &Role| (role.rolinherit, role.rolcreaterole, role.rolcanlogin);
    let settable = |role: &Role| {
        (
            role.rolsuper && may_set.superuser,
            role.rolreplication && may_set.replication,
            role.rolbypassrls && may_set.bypassrls,
            role.rolcreatedb && may_set.createdb,
        )
    };
    plain(source) != plain(target)
        || settable(source) != settable(target)
        || (source.rolconnlimit != -1 && source.rolconnlimit != target.rolconnlimit)
        || (source.valid_until.is_some() && source.valid_until != target.valid_until)
        || (source.rolpassword.is_some() && source.rolpassword != target.rolpassword)
}

/// Whether a membership that is there does what is wanted; options that one side's version lacks do not count.
fn satisfies(found: &Membership, wanted: &Membership) -> bool {
    let same = |found: Option<bool>, wanted: Option<bool>| match (found, wanted) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => true,
    };
    found.role == wanted.role
        && found.member == wanted.member
        && found.admin_option == wanted.admin_option
        && same(found.inherit_option, wanted.inherit_option)
        && same(found.set_option, wanted.set_option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(rolname: &str, oid: u32, attributes: serde_json::Value) -> Role {
        let mut row = serde_json::json!({
            "rolname": rolname, "oid": oid.to_string(), "rolsuper": oid == 10, "rolinherit": true,
            "rolcreaterole": false, "rolcreatedb": false, "rolcanlogin": true, "rolreplication": false,
            "rolbypassrls": false, "rolconnlimit": -1, "valid_until": null, "comment": null,
            "rolpassword": null, "within_reach": true,
        });
        for (name, value) in attributes.as_object().unwrap() {
            row[name] = value.clone();
        }
        serde_json::from_value(row).unwrap()
    }

    fn state(roles: Vec<Role>) -> State {
        State {
            roles: roles
                .into_iter()
                .map(|role| (role.rolname.clone(), role))
                .collect(),
            memberships: Vec::new(),
            settings: Vec::new(),
            dbnames: BTreeSet::new(),
        }
    }

    fn differing(
        source: &State,
        target: &State,
        may_set: MaySet,
    ) -> (BTreeSet<String>, Vec<String>) {
        let scope = Scope {
            source,
            target,
            parameters: &Parameters::default(),
            connecting: &["own"].into(),
            administrator: "postgres",
            may_set,
            superuser: true,
            passwords: Passwords::Read,
            passwords_wanted: true,
            target_seen: Passwords::Read,
        };
        let report = RolesReport {
            updated: vec!["app".into()],
            left_alone: vec!["postgres".into(), "own".into()],
            ..RolesReport::default()
        };
        (scope.differing(&report), scope.extras(&report).statements)
    }

    fn none() -> serde_json::Value {
        serde_json::json!({})
    }

    #[test]
    fn only_what_the_dump_would_change_counts() {
        const ALL: MaySet = MaySet::ALL;
        const MANAGED: MaySet = MaySet::OF_MANAGED_SERVERS;
        let all = |app: serde_json::Value, own: serde_json::Value| {
            state(vec![
                role("postgres", 10, none()),
                role("app", 20, app),
                role("own", 21, own),
            ])
        };
        let plain = || all(none(), none());
        let source = all(serde_json::json!({"rolreplication": true}), none());
        assert_eq!(
            differing(&source, &plain(), ALL).0,
            ["app".to_owned()].into()
        );
        assert!(differing(&source, &plain(), MANAGED).0.is_empty());
        let hashed = |hash: &str| all(serde_json::json!({"rolpassword": hash}), none());
        assert!(
            !differing(&hashed("md5a"), &hashed("md5b"), ALL)
                .0
                .is_empty()
        );
        assert!(differing(&plain(), &hashed("md5b"), ALL).0.is_empty());
        // A role that flare connects as keeps its attributes, but its comment follows.
        let own = |own| all(none(), own);
        assert!(
            differing(
                &own(serde_json::json!({"rolcreatedb": true})),
                &plain(),
                ALL
            )
            .0
            .is_empty()
        );
        assert_eq!(
            differing(&own(serde_json::json!({"comment": "c"})), &plain(), ALL).0,
            ["own".to_owned()].into()
        );
        let (_, extras) = differing(
            &plain(),
            &all(
                serde_json::json!({"rolconnlimit": 3, "valid_until": "2030-01-01"}),
                none(),
            ),
            ALL,
        );
        assert_eq!(
            extras,
            [r#"ALTER ROLE "app" CONNECTION LIMIT -1 VALID UNTIL 'infinity'"#]
        );
    }

    #[test]
    fn memberships_compare_by_what_both_versions_know() {
        let membership = |admin_option, inherit_option, set_option| Membership {
            role: "r".into(),
            member: "m".into(),
            admin_option,
            inherit_option,
            set_option,
        };
        let old = membership(false, None, None);
        let new = membership(false, Some(true), Some(true));
        assert!(satisfies(&new, &old) && satisfies(&old, &new));
        assert!(!satisfies(
            &membership(false, Some(false), Some(true)),
            &new
        ));
        assert!(!satisfies(&membership(true, None, None), &old));
    }

    #[test]
    fn debug_shows_no_verifier() {
        let role = role("app", 20, serde_json::json!({"rolpassword": "md5secret"}));
        assert_eq!(format!("{role:?}"), "Role(app)");
    }
}
