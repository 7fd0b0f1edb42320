//! Roles, their passwords' verifiers and their memberships.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::error::Result;
use crate::server::{Server, Session, params};
use crate::value::Secret;

/// A role as `pg_authid` shows it, or `pg_roles` to whom that is closed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Role {
    pub(crate) rolname: String,
    /// 10 is the bootstrap superuser.
    pub(crate) oid: String,
    pub(crate) rolsuper: bool,
    pub(crate) rolinherit: bool,
    pub(crate) rolcreaterole: bool,
    pub(crate) rolcreatedb: bool,
    pub(crate) rolcanlogin: bool,
    pub(crate) rolreplication: bool,
    pub(crate) rolbypassrls: bool,
    pub(crate) rolconnlimit: i32,
    /// In UTC.
    pub(crate) valid_until: Option<String>,
    pub(crate) comment: Option<String>,
    /// The verifier; `None` when there is none or nobody may see it.
    pub(crate) rolpassword: Option<Secret>,
    /// Whether the session's role may alter this one and grant membership in it.
    pub(crate) within_reach: bool,
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Role({})", self.rolname)
    }
}

/// A membership; 16 and later have one per grantor, with two more options.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Membership {
    pub(crate) role: String,
    pub(crate) member: String,
    pub(crate) admin_option: bool,
    pub(crate) inherit_option: Option<bool>,
    pub(crate) set_option: Option<bool>,
}

/// Whether verifiers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passwords {
    Read,
    Leave,
}

/// Whether the administrator's session may read `pg_authid`, which Amazon RDS allows nobody.
pub(crate) fn sees_passwords(server: &Server) -> Result<bool> {
    server.admin().value(
        "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')",
        params![],
    )
}

/// Every role of a server, by its exact name.
pub(crate) fn roles(server: &Server, passwords: Passwords) -> Result<BTreeMap<String, Role>> {
    let (view, password) = match passwords {
        Passwords::Read => ("pg_authid", "r.rolpassword"),
        Passwords::Leave => ("pg_roles", "NULL::text"),
    };
    // Before 16 CREATEROLE is enough for any role without higher rights (manual: "Role Attributes").
    let reach = match server.major() {
        16.. => "pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')",
        _ => "NOT r.rolsuper AND NOT r.rolreplication",
    };
    let sql = format!(
        "SELECT to_jsonb(r) || jsonb_build_object(
                  'oid', r.oid::text,
                  'valid_until', (r.rolvaliduntil AT TIME ZONE 'UTC')::text,
                  'comment', shobj_description(r.oid, 'pg_authid'),
                  'rolpassword', {password},
                  'within_reach', current_setting('is_superuser') = 'on' OR {reach})
           FROM {view} r"
    );
    let roles: Vec<Role> = server.admin().list(&sql, params![])?;
    Ok(roles
        .into_iter()
        .map(|role| (role.rolname.clone(), role))
        .collect())
}

const MEMBERSHIPS: &str = "
    SELECT to_jsonb(m) || jsonb_build_object('role', pg_get_userbyid(m.roleid), 'member', pg_get_userbyid(m.member))
      FROM pg_auth_members m ORDER BY 1";

/// Every membership of a server.
pub(crate) fn memberships(session: &Session) -> Result<Vec<Membership>> {
    session.list(MEMBERSHIPS, params![])
}

/// Which of these roles exist, but cannot be acted for by the administrator: it is no member, or not with all rights.
pub(crate) fn foreign_roles(server: &Server, roles: &[String]) -> Result<Vec<String>> {
    let set = match server.major() {
        16.. => "AND pg_has_role(oid, 'SET')",
        _ => "",
    };
    server.admin().value(
        &format!(
            "SELECT array(SELECT rolname::text FROM pg_roles
                           WHERE rolname::text = ANY ($1) AND NOT (pg_has_role(oid, 'USAGE') {set}) ORDER BY 1)"
        ),
        params![roles.to_vec()],
    )
}

/// Which of these roles do not exist.
pub(crate) fn missing_roles(session: &Session, roles: &[String]) -> Result<Vec<String>> {
    session.value(
        "SELECT array(SELECT name FROM unnest($1) name WHERE name NOT IN (SELECT rolname::text FROM pg_roles) ORDER BY 1)",
        params![roles.to_vec()],
    )
}
