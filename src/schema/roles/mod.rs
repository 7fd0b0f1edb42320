//! The roles of pg_dumpall, rewritten so that one transaction on the subscriber creates and updates them.
//!
//! What is left alone: the publisher's and the subscriber's bootstrap superusers, and the roles of PostgreSQL (`pg_*`)
//! and of Amazon RDS, with their settings, comments and memberships; `pg_*` and `rds_*` roles are still granted to others
//! where they exist. Roles that flare connects as on the subscriber keep their attributes and password; their settings,
//! comments and memberships follow the publisher, since the database owner is often also the application.

mod grants;
mod read;
mod rewrite;
mod strip;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Restrict;

use read::Attribute;
pub(crate) use rewrite::rewrite_roles;
pub(crate) use strip::strip_role_options_for_rds;

/// Who runs the rewritten SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executor {
    Superuser,
    /// CREATEROLE without superuser: the master user of a managed server.
    Administrator,
}

/// What becomes of the attributes that a managed server lets nobody set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RdsOptions {
    /// As the executor may: an administrator sets none of them anyway.
    Keep,
    /// Never written, whoever runs it.
    Strip,
}

/// Which attributes may be written, of those that not every administrator may give: a superuser gives all; from 16 on
/// CREATEROLE gives what the administrator has itself, before CREATEDB alone (manual: "CREATE ROLE").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaySet {
    pub(crate) superuser: bool,
    pub(crate) replication: bool,
    pub(crate) bypassrls: bool,
    pub(crate) createdb: bool,
}

impl MaySet {
    pub(crate) const ALL: MaySet = MaySet {
        superuser: true,
        replication: true,
        bypassrls: true,
        createdb: true,
    };
    /// What a managed server lets its administrator give.
    pub(crate) const OF_MANAGED_SERVERS: MaySet = MaySet {
        superuser: false,
        replication: false,
        bypassrls: false,
        createdb: true,
    };

    /// An attribute as it is written, `CREATEDB` or `NOCREATEDB`.
    fn attribute(self, word: &str) -> bool {
        match word.strip_prefix("NO").unwrap_or(word) {
            "SUPERUSER" => self.superuser,
            "REPLICATION" => self.replication,
            "BYPASSRLS" => self.bypassrls,
            "CREATEDB" => self.createdb,
            _ => true,
        }
    }

    fn permitted<'a, 'b>(self, attributes: &'b [Attribute<'a>]) -> Vec<&'b Attribute<'a>> {
        let permitted = |it: &&Attribute| self.attribute(&it.word);
        attributes.iter().filter(permitted).collect()
    }
}

/// What flare does with a role of the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It connects as this role: attributes and password stay.
    Connects,
    Other,
}

/// Whether the executor may ALTER a role and grant membership in it: a superuser may; an administrator of 10 to 15 where
/// the role is neither superuser nor replication, from 16 on where it has ADMIN OPTION on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Within,
    Beyond,
}

/// A role that the subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) used: Use,
    pub(crate) reach: Reach,
}

/// Whether the executor may set a parameter for a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Settable,
    NotPermitted,
    /// The subscriber's version has no such parameter.
    Unknown,
    /// It does not take the value.
    Refused,
}

/// The server that the roles go to.
pub(crate) struct RolesTarget<'a> {
    pub(crate) major: u32,
    pub(crate) executor: Executor,
    /// The role that runs the SQL.
    pub(crate) executor_name: &'a str,
    pub(crate) rds: RdsOptions,
    pub(crate) may_set: MaySet,
    pub(crate) restrict: Restrict,
    /// Every role of the subscriber (`pg_roles`, predefined ones too), by its exact name.
    pub(crate) roles: &'a BTreeMap<String, Standing>,
    /// The bootstrap superusers (oid 10) of publisher and subscriber.
    pub(crate) bootstrap: &'a BTreeSet<String>,
    /// By the role and the parameter.
    pub(crate) setting: &'a dyn Fn(&str, &str) -> Setting,
    /// The verifier of the password that flare itself will log in with, of a role that is created without one.
    pub(crate) verifier: &'a dyn Fn(&str) -> Option<String>,
}

impl RolesTarget<'_> {
    /// Attributes that need superuser are not written.
    fn is_restricted(&self) -> bool {
        self.executor == Executor::Administrator || self.rds == RdsOptions::Strip
    }

    /// Roles that are the platform's own.
    fn is_platform(&self, role: &str) -> bool {
        self.bootstrap.contains(role) || is_platform_role(role)
    }

    fn connects_as(&self, role: &str) -> bool {
        self.roles
            .get(role)
            .is_some_and(|standing| standing.used == Use::Connects)
    }

    fn is_beyond_reach(&self, role: &str) -> bool {
        self.executor == Executor::Administrator
            && self
                .roles
                .get(role)
                .is_some_and(|standing| standing.reach == Reach::Beyond)
    }
}

/// Roles that PostgreSQL or Amazon RDS makes itself.
fn is_platform_role(role: &str) -> bool {
    const RDS: [&str; 4] = [
        "rdsadmin",
        "rdsrepladmin",
        "rdstopmgr",
        "rdswriteforwarduser",
    ];
    role.starts_with("pg_") || role.starts_with("rds_") || RDS.contains(&role)
}

/// What the rewritten SQL does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RolesReport {
    pub(crate) created: Vec<String>,
    pub(crate) updated: Vec<String>,
    pub(crate) left_alone: Vec<String>,
    /// Roles that may log in and were created without a password.
    pub(crate) need_password: Vec<String>,
    /// Roles that were given the configuration's password.
    pub(crate) of_configuration: Vec<String>,
    /// What could not be carried over, and why.
    pub(crate) notes: Vec<String>,
}
