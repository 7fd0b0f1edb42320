//! Roles: dumped, rewritten for the subscriber, and loaded as one transaction when the catalogs differ.

mod comparison;
mod outcome;
mod script;

use std::collections::{BTreeMap, BTreeSet};

use self::comparison::Scope;
pub use self::outcome::RolesChange;
pub(crate) use self::script::print;
use self::script::{dump, may_set, toolbox};
use super::load::load;
use super::{Mode, Run, made};
use crate::catalog::databases;
use crate::catalog::roles::{self, Membership, Passwords, Role};
use crate::catalog::settings::{self, Setting};
use crate::config::Tools;
use crate::error::{Result, WrapErr};
use crate::server::{Login, Pair, Server, Timeout, params};

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
            settings: made::users_settings(server)?,
            dbnames: databases::dbnames(server.admin())?,
        })
    }

    fn bootstrap(&self) -> Option<&str> {
        let first = self.roles.values().find(|role| role.oid == "10");
        first.map(|role| role.rolname.as_str())
    }
}

fn visible(server: &Server) -> Result<Passwords> {
    Ok(if roles::sees_passwords(server)? {
        Passwords::Read
    } else {
        Passwords::Leave
    })
}

/// The advisory lock that one command at a time holds in `postgres` of the subscriber while it compares and writes roles,
/// "flarrole" in ASCII: roles are the server's, and databases may be prepared side by side.
const TURN: i64 = 0x66_6c_61_72_72_6f_6c_65;

/// Creates and updates the subscriber's roles.
pub(crate) fn replicate(
    pair: &Pair,
    tools: &Tools,
    options: RolesOptions,
    run: &Run,
) -> Result<RolesChange> {
    if run.mode == Mode::DryRun {
        return in_turn(pair, tools, options, run);
    }
    let session = pair.subscriber.connect(Login::Superuser, "postgres")?;
    let session = session.with_timeout(Timeout::WhileServerAnswers);
    session.transaction(|session| {
        let at_once: bool = session.value("SELECT pg_try_advisory_xact_lock($1)", params![TURN])?;
        if !at_once {
            run.progress
                .step("another flare writes the subscriber's roles: it is waited for");
        }
        session
            .execute("SELECT pg_advisory_xact_lock($1)", params![TURN])
            .wrap_err("wait for another flare that writes the subscriber's roles")?;
        in_turn(pair, tools, options, run)
    })
}

fn in_turn(pair: &Pair, tools: &Tools, options: RolesOptions, run: &Run) -> Result<RolesChange> {
    let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
    let toolbox = toolbox(pair, tools)?;
    let (source_seen, target_seen) = (visible(publisher)?, visible(subscriber)?);
    let (dumped, passwords) = dump(pair, &toolbox, options, source_seen)?;
    let source = State::read(publisher, passwords)?;
    let target = State::read(subscriber, target_seen)?;
    let parameters = settings::parameters(subscriber, &source.settings)?;
    let connecting: BTreeSet<&str> = subscriber
        .declared()
        .accounts()
        .map(|account| account.user.as_str())
        .collect();
    let administrator = subscriber.credentials(Login::Superuser)?.user();
    let scope = Scope {
        source: &source,
        target: &target,
        parameters: &parameters,
        connecting: &connecting,
        administrator,
        may_set: may_set(subscriber, target.roles.get(administrator), options),
        superuser: subscriber.facts().superuser,
        passwords,
        passwords_wanted: options.passwords == PasswordPolicy::Copy,
        target_seen,
    };
    let (script, (report, extras)) = scope.script(dumped, subscriber, options)?;
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
        passwords_needed: scope.passwords_needed(&report),
        roles_created: report.created,
        roles_updated: updated.into_iter().collect(),
        roles_left_alone: report.left_alone,
        notes: report.notes,
        ..RolesChange::default()
    };
    change.notes.extend(extras.notes);
    let given = report.of_configuration.iter();
    change.notes.extend(given.map(|role| {
        format!(
            "role {role:?} has the password that the configuration has for it on the subscriber"
        )
    }));
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
