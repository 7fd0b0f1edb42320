//! The script that psql is given: the publisher's roles as pg_dumpall writes them, rewritten for the subscriber, and what
//! pg_dumpall leaves out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write};

use postgres_protocol::password::scram_sha_256;

use super::comparison::{Extras, Scope};
use super::{PasswordPolicy, RoleAttributes, RolesOptions};
use crate::catalog::roles::{Passwords, Role};
use crate::catalog::settings::Settable;
use crate::config::{PasswordSource, Tools};
use crate::error::{Result, WrapErr};
use crate::replicate::{made, setting};
use crate::schema::{
    Executor, MaySet, RdsOptions, Reach, Restrict, RolesReport, RolesTarget, Setting as Verdict,
    Standing, Use, rewrite_roles, strip_role_options_for_rds,
};
use crate::server::{Login, Pair, Server, Subscriber, silencing};
use crate::tools::{DumpProgram, Job, Toolbox, WRITING, written};

/// The roles of the publisher as pg_dumpall writes them, and whether with passwords.
pub(super) fn dump(
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

pub(super) fn toolbox(pair: &Pair, tools: &Tools) -> Result<Toolbox> {
    let job = Job {
        dump: DumpProgram::PgDumpall,
        publisher: pair.publisher.release(),
        subscriber: pair.subscriber.release(),
    };
    Toolbox::find(tools, job)
}

fn executor(server: &Server) -> Executor {
    if server.facts().superuser {
        Executor::Superuser
    } else {
        Executor::Administrator
    }
}

/// Which attributes may be written; `administrator` is the subscriber's own row of the role that runs the SQL.
pub(super) fn may_set(
    subscriber: &Server,
    administrator: Option<&Role>,
    options: RolesOptions,
) -> MaySet {
    let of_itself = |has: fn(&Role) -> bool| administrator.is_some_and(has);
    match (executor(subscriber), options.attributes) {
        (Executor::Superuser, RoleAttributes::AsPermitted) => MaySet::ALL,
        (Executor::Administrator, RoleAttributes::AsPermitted) if subscriber.major() >= 16 => {
            MaySet {
                superuser: false,
                replication: of_itself(|it| it.rolreplication),
                bypassrls: of_itself(|it| it.rolbypassrls),
                createdb: of_itself(|it| it.rolcreatedb),
            }
        }
        (Executor::Administrator, RoleAttributes::StripForRds) if subscriber.major() >= 16 => {
            MaySet {
                createdb: of_itself(|it| it.rolcreatedb),
                ..MaySet::OF_MANAGED_SERVERS
            }
        }
        _ => MaySet::OF_MANAGED_SERVERS,
    }
}

/// Whether attributes are left out of what is printed.
fn is_restricted(subscriber: &Server, options: RolesOptions) -> bool {
    options.attributes == RoleAttributes::StripForRds
        || executor(subscriber) == Executor::Administrator
}

/// The SQL that creates the publisher's roles on an empty server like the subscriber, verifiers included where asked for.
pub(crate) fn print(pair: &Pair, tools: &Tools, options: RolesOptions) -> Result<File> {
    let seen = super::visible(&pair.publisher)?;
    let (dumped, _) = dump(pair, &toolbox(pair, tools)?, options, seen)?;
    let mut input = BufReader::new(dumped);
    let (printed, ()) = written(|output| {
        if is_restricted(&pair.subscriber, options) {
            strip_role_options_for_rds(input, output)?;
        } else {
            std::io::copy(&mut input, output).wrap_err(WRITING)?;
        }
        for setting in made::users_settings(&pair.publisher)? {
            // pg_dumpall leaves these out.
            if setting.role.is_some() && setting.dbname.is_some() {
                writeln!(output, "{};", setting::statement(&setting)).wrap_err(WRITING)?;
            }
        }
        Ok(())
    })?;
    Ok(printed)
}

impl Scope<'_> {
    /// What is loaded, what became of the roles in it, and what was added to the dump.
    pub(super) fn script(
        &self,
        dumped: File,
        subscriber: &Subscriber,
        options: RolesOptions,
    ) -> Result<(File, (RolesReport, Extras))> {
        let silencing = silencing(subscriber.admin(), subscriber.major())?;
        written(|output| {
            write!(output, "SET TRANSACTION READ WRITE;\n{silencing}").wrap_err(WRITING)?;
            let report = self.rewrite(dumped, output, subscriber, options)?;
            let extras = self.extras(&report);
            for statement in &extras.statements {
                writeln!(output, "{statement};").wrap_err(WRITING)?;
            }
            Ok((report, extras))
        })
    }

    /// Of a role that flare will log in as, where the publisher shows no hash to carry over. A token that a command
    /// prints is no password.
    fn verifier(&self, role: &str, subscriber: &Subscriber) -> Option<String> {
        if self.passwords_wanted && self.passwords == Passwords::Leave {
            let mut accounts = subscriber.declared().accounts();
            let account = accounts.find(|it| it.user == role)?;
            let password = match &account.password {
                PasswordSource::Command(_) => return None,
                source => source.read().ok()?,
            };
            let password = Some(password.reveal()).filter(|it| !it.is_empty())?;
            Some(scram_sha_256(password.as_bytes()))
        } else {
            None
        }
    }

    fn rewrite(
        &self,
        dumped: File,
        output: &mut impl Write,
        subscriber: &Subscriber,
        options: RolesOptions,
    ) -> Result<RolesReport> {
        let standing = |role: &Role| Standing {
            used: if self.connecting.contains(role.rolname.as_str()) {
                Use::Connects
            } else {
                Use::Other
            },
            reach: if role.within_reach {
                Reach::Within
            } else {
                Reach::Beyond
            },
        };
        let roles: BTreeMap<String, Standing> = self
            .target
            .roles
            .iter()
            .map(|(name, role)| (name.clone(), standing(role)))
            .collect();
        let setting =
            |role: &str, name: &str| match self.parameters.may_have(Some(role), None, name) {
                Settable::Yes => Verdict::Settable,
                Settable::NotPermitted => Verdict::NotPermitted,
                Settable::Unknown => Verdict::Unknown,
                Settable::Refused => Verdict::Refused,
            };
        let target = RolesTarget {
            major: subscriber.major().unsigned_abs(),
            executor: executor(subscriber),
            executor_name: self.administrator,
            rds: match options.attributes {
                RoleAttributes::AsPermitted => RdsOptions::Keep,
                RoleAttributes::StripForRds => RdsOptions::Strip,
            },
            may_set: self.may_set,
            restrict: Restrict::Keep,
            roles: &roles,
            bootstrap: &self.bootstrap(),
            setting: &setting,
            verifier: &|role| self.verifier(role, subscriber),
        };
        rewrite_roles(BufReader::new(dumped), output, &target)
            .wrap_err("rewrite the roles for the subscriber")
    }
}
