//! Roles: dumped, rewritten for the subscriber, and loaded as one transaction when the catalogs differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};

use serde::Serialize;

use super::load::load;
use super::setting;
use super::{Mode, Run};
use crate::catalog::databases;
use crate::catalog::roles::{self, Membership, Passwords, Role};
use crate::catalog::settings::{self, Parameters, Settable, Setting};
use crate::config::Tools;
use crate::error::{Result, WrapErr};
use crate::schema::{
    Executor, RdsOptions, Reach, Restrict, RolesReport, RolesTarget, Setting as Verdict, Standing,
    Use, rewrite_roles, strip_role_options_for_rds,
};
use crate::server::{Login, Pair, Server, silencing};
use crate::tools::{DumpProgram, Job, Toolbox, unlinked};
use crate::value::Ident;

/// Whether password verifiers are carried over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PasswordPolicy {
    /// Where the publisher lets its administrator read them.
    #[default]
    Copy,
    /// Not at all.
    Omit,
}

/// Whether attributes that managed servers let nobody set are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleAttributes {
    /// As far as the subscriber's administrator may set them.
    #[default]
    AsPermitted,
    /// SUPERUSER, REPLICATION, BYPASSRLS and GRANTED BY are never written.
    StripForRds,
}

/// How roles are carried over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolesOptions {
    /// What becomes of passwords.
    pub passwords: PasswordPolicy,
    /// What becomes of attributes.
    pub attributes: RoleAttributes,
}

/// What `replicate_roles` did, or in a dry run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RolesChange {
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Roles that the subscriber did not have.
    pub roles_created: Vec<String>,
    /// Roles that differed.
    pub roles_updated: Vec<String>,
    /// Bootstrap superusers, the platform's roles, and those that flare connects as on the subscriber.
    pub roles_left_alone: Vec<String>,
    /// Roles that may log in and have no password on the subscriber.
    pub passwords_needed: Vec<String>,
    /// What could not be carried over, and why.
    pub notes: Vec<String>,
}

impl fmt::Display for RolesChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let would = if self.dry_run { "would be " } else { "" };
        let lists = [
            (format!("{would}created"), &self.roles_created),
            (format!("{would}updated"), &self.roles_updated),
            ("left alone".to_owned(), &self.roles_left_alone),
            ("need a new password".to_owned(), &self.passwords_needed),
        ];
        for (what, roles) in lists {
            if !roles.is_empty() {
                writeln!(f, "{what}: {}", roles.join(", "))?;
            }
        }
        if self.roles_created.is_empty() && self.roles_updated.is_empty() && !self.changed {
            writeln!(
                f,
                "nothing to change: the subscriber has these roles already"
            )?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

/// What a server says of its roles.
#[derive(PartialEq)]
struct State {
    roles: BTreeMap<String, Role>,
    memberships: Vec<Membership>,
    settings: Vec<Setting>,
    dbnames: BTreeSet<String>,
}

impl State {
    fn read(server: &Server, passwords: Passwords) -> Result<State> {
        Ok(State {
            roles: roles::roles(server, passwords)?,
            memberships: roles::memberships(server.admin())?,
            settings: settings::settings(server.admin())?,
            dbnames: databases::dbnames(server.admin())?,
        })
    }

    fn bootstrap(&self) -> Option<&str> {
        let first = self.roles.values().find(|role| role.oid == "10");
        first.map(|role| role.rolname.as_str())
    }
}

fn visible(server: &Server) -> Result<Passwords> {
    Ok(match roles::sees_passwords(server)? {
        true => Passwords::Read,
        false => Passwords::Leave,
    })
}

/// The roles of the publisher as pg_dumpall writes them, and whether with passwords.
fn dump(
    pair: &Pair,
    toolbox: &Toolbox,
    options: RolesOptions,
    seen: Passwords,
) -> Result<(File, Passwords)> {
    let passwords = match options.passwords {
        PasswordPolicy::Copy => seen,
        PasswordPolicy::Omit => Passwords::Leave,
    };
    let mut args = vec!["--roles-only", "--no-password"];
    if passwords == Passwords::Leave {
        args.push("--no-role-passwords");
    }
    let dumped = toolbox
        .dump
        .on(&pair.publisher, Login::Superuser, "postgres")?
        .args(args)
        .dump()
        .wrap_err("dump the publisher's roles")?;
    Ok((dumped, passwords))
}

fn toolbox(pair: &Pair, tools: &Tools) -> Result<Toolbox> {
    let job = Job {
        dump: DumpProgram::PgDumpall,
        publisher: pair.publisher.major(),
        subscriber: pair.subscriber.major(),
    };
    Toolbox::find(tools, job)
}

fn executor(server: &Server) -> Executor {
    match server.facts().superuser {
        true => Executor::Superuser,
        false => Executor::Administrator,
    }
}

/// The SQL that creates the publisher's roles on an empty server like the subscriber, verifiers included where asked for.
pub(crate) fn print(pair: &Pair, tools: &Tools, options: RolesOptions) -> Result<File> {
    let (dumped, _) = dump(
        pair,
        &toolbox(pair, tools)?,
        options,
        visible(&pair.publisher)?,
    )?;
    let strip = options.attributes == RoleAttributes::StripForRds
        || executor(&pair.subscriber) == Executor::Administrator;
    let mut printed = unlinked()?;
    let writing = || "write the temporary file";
    let mut output = BufWriter::new(printed.try_clone().wrap_err_with(writing)?);
    let mut input = BufReader::new(dumped);
    match strip {
        true => strip_role_options_for_rds(input, &mut output)?,
        false => drop(std::io::copy(&mut input, &mut output).wrap_err_with(writing)?),
    }
    for setting in settings::settings(pair.publisher.admin())? {
        // pg_dumpall leaves these out.
        if setting.role.is_some() && setting.dbname.is_some() {
            writeln!(output, "{};", setting::statement(&setting)).wrap_err_with(writing)?;
        }
    }
    output.flush().wrap_err_with(writing)?;
    drop(output);
    printed
        .seek(SeekFrom::Start(0))
        .wrap_err("rewind the temporary file")?;
    Ok(printed)
}

/// Creates and updates the subscriber's roles.
pub(crate) fn replicate(
    pair: &Pair,
    tools: &Tools,
    options: RolesOptions,
    run: &Run,
) -> Result<RolesChange> {
    let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
    let toolbox = toolbox(pair, tools)?;
    let (source_seen, target_seen) = (visible(publisher)?, visible(subscriber)?);
    let (dumped, passwords) = dump(pair, &toolbox, options, source_seen)?;
    let source = State::read(publisher, passwords)?;
    let target = State::read(subscriber, target_seen)?;
    let parameters = settings::parameters(subscriber)?;
    let connecting: BTreeSet<&str> = subscriber
        .declared()
        .accounts()
        .map(|account| account.user.as_str())
        .collect();
    let scope = Scope {
        source: &source,
        target: &target,
        parameters: &parameters,
        connecting: &connecting,
        administrator: subscriber.credentials(Login::Superuser)?.user(),
        restricted: executor(subscriber) == Executor::Administrator
            || options.attributes == RoleAttributes::StripForRds,
        superuser: subscriber.facts().superuser,
    };
    let mut script = unlinked()?;
    let mut output = BufWriter::new(script.try_clone().wrap_err("share the temporary file")?);
    let silencing = silencing(subscriber.admin())?;
    let written = output
        .write_all(b"SET TRANSACTION READ WRITE;\n")
        .and_then(|()| output.write_all(silencing.as_bytes()));
    written.wrap_err("write the temporary file")?;
    let report = scope.rewrite(
        BufReader::new(dumped),
        &mut output,
        subscriber.major(),
        executor(subscriber),
        options,
    )?;
    let extras = scope.extras(&report);
    for statement in &extras.statements {
        writeln!(output, "{statement};").wrap_err("write the temporary file")?;
    }
    output.flush().wrap_err("write the temporary file")?;
    drop(output);
    script
        .seek(SeekFrom::Start(0))
        .wrap_err("rewind the temporary file")?;

    let mut updated = scope.differing(&report);
    updated.extend(extras.roles.iter().cloned());
    updated.retain(|role| !report.created.contains(role));
    // Verifiers that nobody may compare are written again, to be sure.
    let unseen = passwords == Passwords::Read && target_seen == Passwords::Leave;
    let due = !report.created.is_empty()
        || !updated.is_empty()
        || !extras.statements.is_empty()
        || unseen;
    let mut change = RolesChange {
        dry_run: run.mode == Mode::DryRun,
        passwords_needed: scope.passwords_needed(&report, passwords, target_seen),
        roles_created: report.created,
        roles_updated: updated.into_iter().collect(),
        roles_left_alone: report.left_alone,
        notes: report.notes,
        ..RolesChange::default()
    };
    change.notes.extend(extras.notes);
    if passwords == Passwords::Leave && options.passwords == PasswordPolicy::Copy {
        change.notes.push(
            "the publisher lets its administrator read no password hashes: none were carried over"
                .to_owned(),
        );
    }
    if due && run.mode == Mode::Apply {
        load(&toolbox, subscriber, Login::Superuser, "postgres", &script)
            .wrap_err("create and update the subscriber's roles")?;
        change.changed = State::read(subscriber, target_seen)? != target;
    }
    Ok(change)
}

/// What is compared with what.
struct Scope<'a> {
    source: &'a State,
    target: &'a State,
    parameters: &'a Parameters,
    connecting: &'a BTreeSet<&'a str>,
    /// The role that runs the SQL.
    administrator: &'a str,
    /// Attributes that need superuser are not written.
    restricted: bool,
    superuser: bool,
}

/// What pg_dumpall leaves out.
#[derive(Debug, Default)]
struct Extras {
    statements: Vec<String>,
    roles: BTreeSet<String>,
    notes: Vec<String>,
}

impl Scope<'_> {
    fn rewrite(
        &self,
        input: BufReader<File>,
        output: &mut impl Write,
        major: i32,
        executor: Executor,
        options: RolesOptions,
    ) -> Result<RolesReport> {
        let standing = |role: &Role| Standing {
            used: match self.connecting.contains(role.rolname.as_str()) {
                true => Use::Connects,
                false => Use::Other,
            },
            reach: match role.within_reach {
                true => Reach::Within,
                false => Reach::Beyond,
            },
        };
        let roles: BTreeMap<String, Standing> = self
            .target
            .roles
            .iter()
            .map(|(name, role)| (name.clone(), standing(role)))
            .collect();
        let setting = |name: &str| match self.parameters.may_set(name) {
            Settable::Yes => Verdict::Settable,
            Settable::NotPermitted => Verdict::NotPermitted,
            Settable::Unknown => Verdict::Unknown,
        };
        let target = RolesTarget {
            major: major.unsigned_abs(),
            executor,
            executor_name: self.administrator,
            rds: match options.attributes {
                RoleAttributes::AsPermitted => RdsOptions::Keep,
                RoleAttributes::StripForRds => RdsOptions::Strip,
            },
            restrict: Restrict::Keep,
            roles: &roles,
            bootstrap: &self.bootstrap(),
            setting: &setting,
        };
        rewrite_roles(input, output, &target).wrap_err("rewrite the roles for the subscriber")
    }

    fn bootstrap(&self) -> BTreeSet<String> {
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
    fn differing(&self, report: &RolesReport) -> BTreeSet<String> {
        let mut differing = BTreeSet::new();
        let following = self.following(report);
        for role in &following {
            let (Some(source), Some(target)) =
                (self.source.roles.get(role), self.target.roles.get(role))
            else {
                continue;
            };
            let attributes =
                report.updated.contains(role) && attributes_differ(source, target, self.restricted);
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
                && self.parameters.may_set(&setting.name) == Settable::Yes
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
    fn extras(&self, report: &RolesReport) -> Extras {
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
    fn passwords_needed(
        &self,
        report: &RolesReport,
        passwords: Passwords,
        target_seen: Passwords,
    ) -> Vec<String> {
        let mut needed: BTreeSet<String> = report.need_password.iter().cloned().collect();
        if target_seen == Passwords::Read {
            let without = report.updated.iter().filter(|role| {
                let (source, target) = (self.source.roles.get(*role), self.target.roles.get(*role));
                let may_have_one = passwords == Passwords::Leave;
                source.is_some_and(|source| source.rolcanlogin && may_have_one)
                    && target.is_some_and(|target| target.rolpassword.is_none())
            });
            needed.extend(without.cloned());
        }
        needed.into_iter().collect()
    }
}

/// Whether ALTER ROLE would change anything; it says nothing of limits that are the default.
fn attributes_differ(source: &Role, target: &Role, restricted: bool) -> bool {
    let plain = |role: &Role| {
        (
            role.rolinherit,
            role.rolcreaterole,
            role.rolcreatedb,
            role.rolcanlogin,
        )
    };
    let privileged = |role: &Role| (role.rolsuper, role.rolreplication, role.rolbypassrls);
    plain(source) != plain(target)
        || (!restricted && privileged(source) != privileged(target))
        || (source.rolconnlimit != -1 && source.rolconnlimit != target.rolconnlimit)
        || (source.valid_until.is_some() && source.valid_until != target.valid_until)
        || (source.rolpassword.is_some()
            && target.rolpassword.is_some()
            && source.rolpassword != target.rolpassword)
        || (source.rolpassword.is_some() && target.rolpassword.is_none())
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
        restricted: bool,
    ) -> (BTreeSet<String>, Vec<String>) {
        let scope = Scope {
            source,
            target,
            parameters: &Parameters::default(),
            connecting: &["own"].into(),
            administrator: "postgres",
            restricted,
            superuser: true,
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
            differing(&source, &plain(), false).0,
            ["app".to_owned()].into()
        );
        assert!(differing(&source, &plain(), true).0.is_empty());
        let hashed = |hash: &str| all(serde_json::json!({"rolpassword": hash}), none());
        assert!(
            !differing(&hashed("md5a"), &hashed("md5b"), false)
                .0
                .is_empty()
        );
        assert!(differing(&plain(), &hashed("md5b"), false).0.is_empty());
        // A role that flare connects as keeps its attributes, but its comment follows.
        let own = |own| all(none(), own);
        assert!(
            differing(
                &own(serde_json::json!({"rolcreatedb": true})),
                &plain(),
                false
            )
            .0
            .is_empty()
        );
        assert_eq!(
            differing(&own(serde_json::json!({"comment": "c"})), &plain(), false).0,
            ["own".to_owned()].into()
        );
        let (_, extras) = differing(
            &plain(),
            &all(
                serde_json::json!({"rolconnlimit": 3, "valid_until": "2030-01-01"}),
                none(),
            ),
            false,
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
