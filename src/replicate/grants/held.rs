//! What the replication user has and lacks on the publisher.

use serde::Deserialize;

use crate::error::{Failure, Result};
use crate::server::{Publisher, Session, params};
use crate::value::{Ident, TableName};

/// A schema whose tables are published, as far as privileges go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Schema {
    pub(super) nspname: String,
    pub(super) usage: bool,
    /// Tables on which the grantee lacks a privilege.
    pub(super) tables: Vec<Object>,
    /// Sequences that the grantee cannot read.
    pub(super) sequences: Vec<Object>,
    /// Who owns tables here, and what the grantee will not get on their next ones.
    pub(super) owners: Vec<Owner>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Object {
    #[serde(flatten)]
    pub(super) name: TableName,
    pub(super) owner: String,
    /// Whether the grantee can read it nevertheless.
    pub(super) readable: bool,
    /// Whether the grantor may grant on it.
    pub(super) grantable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Owner {
    pub(super) rolname: String,
    /// Whether the grantor may act for it.
    pub(super) mine: bool,
    pub(super) tables: bool,
    pub(super) sequences: bool,
}

/// What the grantee has and lacks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Held {
    pub(super) superuser: bool,
    pub(super) replication: bool,
    /// Privileges it lacks on the database.
    pub(super) database: Vec<String>,
    pub(super) schemas: Vec<Schema>,
    /// Tables whose row security would hide rows from the grantee while they are copied, in silence.
    pub(super) hidden: Vec<TableName>,
    /// Whether the grantor may let it bypass row security: a superuser, or from 16 on who has that right to give.
    pub(super) bypass_grantable: bool,
}

const HELD: &str = "
    SELECT jsonb_build_object('superuser', r.rolsuper, 'replication', r.rolreplication,
        'database', (SELECT coalesce(jsonb_agg(p), '[]') FROM unnest(ARRAY['CREATE', 'CONNECT', 'TEMPORARY']) p
                      WHERE NOT has_database_privilege(r.oid, current_database(), p)),
        'schemas', (SELECT coalesce(jsonb_agg(jsonb_build_object('nspname', n.nspname, 'usage', has_schema_privilege(r.oid, n.oid, 'USAGE'),
            'tables', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', c.relname,
                                'owner', pg_get_userbyid(c.relowner), 'readable', has_table_privilege(r.oid, c.oid, 'SELECT'),
                                'grantable', pg_has_role(c.relowner, 'USAGE')) ORDER BY c.relname), '[]')
                         FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
                          AND EXISTS (SELECT FROM unnest($2) p WHERE NOT has_table_privilege(r.oid, c.oid, p))),
            'sequences', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', c.relname,
                                'owner', pg_get_userbyid(c.relowner), 'readable', has_table_privilege(r.oid, c.oid, 'SELECT'),
                                'grantable', pg_has_role(c.relowner, 'USAGE')) ORDER BY c.relname), '[]')
                         FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'S' AND c.relpersistence <> 't'
                          AND NOT (has_table_privilege(r.oid, c.oid, 'SELECT'))),
            'owners', (SELECT coalesce(jsonb_agg(jsonb_build_object('rolname', o.rolname, 'mine', pg_has_role(o.oid, 'USAGE'),
                                'tables', o.oid <> r.oid AND (SELECT count(DISTINCT a.privilege_type) FROM pg_default_acl d, aclexplode(d.defaclacl) a
                                            WHERE d.defaclrole = o.oid AND d.defaclnamespace IN (0, n.oid) AND d.defaclobjtype = 'r'
                                              AND a.grantee = r.oid AND a.privilege_type = ANY($2)) < cardinality($2),
                                'sequences', o.oid <> r.oid AND NOT EXISTS (SELECT FROM pg_default_acl d, aclexplode(d.defaclacl) a
                                            WHERE d.defaclrole = o.oid AND d.defaclnamespace IN (0, n.oid) AND d.defaclobjtype = 'S'
                                              AND a.grantee = r.oid AND a.privilege_type = 'SELECT')) ORDER BY o.rolname), '[]')
                         FROM pg_roles o
                        WHERE o.rolname = $3 OR o.oid IN (SELECT c.relowner FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p')))
            ) ORDER BY n.nspname), '[]')
          FROM pg_namespace n
         WHERE CASE WHEN EXISTS (SELECT FROM pg_publication WHERE pubname = $4)
                    THEN n.oid IN (SELECT c.relnamespace FROM pg_get_publication_tables($4) t JOIN pg_class c ON c.oid = t.relid)
                    ELSE n.nspname NOT IN ('information_schema', 'flare') AND n.nspname !~ '^pg_' END),
        'hidden', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', c.relname) ORDER BY n.nspname, c.relname), '[]')
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)
                      AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
                      AND CASE WHEN EXISTS (SELECT FROM pg_publication WHERE pubname = $4)
                               THEN c.oid IN (SELECT t.relid FROM pg_get_publication_tables($4) t)
                               ELSE n.nspname NOT IN ('information_schema', 'flare') AND n.nspname !~ '^pg_' END),
        'bypass_grantable', (SELECT g.rolsuper OR current_setting('server_version_num')::int >= 160000
                                AND g.rolcreaterole AND g.rolbypassrls AND pg_has_role(g.oid, r.oid, 'MEMBER WITH ADMIN OPTION')
                               FROM pg_roles g WHERE g.rolname = current_user))
      FROM pg_roles r WHERE r.rolname = $1";

/// Every table privilege of a major version.
fn table_privileges(major: i32) -> Vec<String> {
    let all = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "REFERENCES",
        "TRIGGER",
    ];
    let maintain = (major >= 17).then_some("MAINTAIN");
    let all = all.into_iter().chain(maintain);
    all.map(str::to_owned).collect()
}

pub(super) fn held(
    session: &Session,
    grantee: &str,
    publisher: &Publisher,
    pubname: &str,
) -> Result<Held> {
    let db_owner = &publisher.declared().db_owner.user;
    let privileges = table_privileges(publisher.major());
    let held: Option<Held> =
        session.first(HELD, params![grantee, privileges, db_owner, pubname])?;
    held.ok_or_else(|| {
        Failure::new(format!("there is no role {grantee:?} on the publisher"))
            .hint(format!(
                "CREATE ROLE {} LOGIN REPLICATION PASSWORD '...'; on Amazon RDS without REPLICATION, and GRANT rds_replication to it",
                Ident::new(grantee)
            ))
            .into()
    })
}
