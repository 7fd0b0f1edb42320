//! Privileges, replica identities and settings as they are at one moment, and what has come between two.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};

/// One thing that flare has made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "made", rename_all = "snake_case")]
pub(crate) enum Made {
    /// A privilege of a role that flare works as. `on` is quoted as in GRANT.
    Privilege {
        on: String,
        privilege: String,
        to: String,
    },
    /// A privilege on objects that will be made.
    DefaultPrivilege {
        role: String,
        schema: Option<String>,
        on: String,
        privilege: String,
        to: String,
    },
    /// BYPASSRLS of a role.
    BypassRls { role: String },
    /// A table's replica identity.
    ReplicaIdentity {
        /// Quoted as the server does.
        table: String,
        was: String,
        is: String,
    },
    /// A setting of a role in the database.
    Setting {
        role: String,
        name: String,
        was: Option<String>,
        is: String,
    },
    /// A constraint that was taken off, `on` a table or domain quoted as in ALTER.
    NotValid {
        on: String,
        conname: String,
        definition: String,
    },
}

impl Made {
    /// Whether both speak of one thing, whatever it was before.
    pub(super) fn is_of_the_same(&self, other: &Made) -> bool {
        match (self, other) {
            (Made::ReplicaIdentity { table, .. }, Made::ReplicaIdentity { table: another, .. }) => {
                table == another
            }
            (
                Made::Setting { role, name, .. },
                Made::Setting {
                    role: other_role,
                    name: other_name,
                    ..
                },
            ) => (role, name) == (other_role, other_name),
            (
                Made::NotValid { on, conname, .. },
                Made::NotValid {
                    on: other,
                    conname: another,
                    ..
                },
            ) => (on, conname) == (other, another),
            (one, other) => one == other,
        }
    }
}

/// What there is of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Privileges, default privileges and attributes.
    pub(super) held: BTreeSet<Made>,
    /// By table, quoted; those that are DEFAULT are not named.
    pub(super) identities: BTreeMap<String, String>,
    settings: Vec<RoleSetting>,
    /// Privileges on columns, which REVOKE on the table takes as well.
    #[serde(skip)]
    pub(super) columns: Vec<OnColumn>,
    /// Constraints of tables and domains, each as `TABLE a.b`, and its name.
    #[serde(skip)]
    pub(super) constraints: BTreeSet<(String, String)>,
}

/// A privilege on one column, its table as in GRANT.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct OnColumn {
    pub(super) table: String,
    pub(super) column: String,
    pub(super) privilege: String,
    pub(super) to: String,
}

/// A setting of a role in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RoleSetting {
    role: String,
    name: String,
    value: String,
}

/// What the roles `$1` hold in this database by grants of their own.
const HELD: &str = "
    WITH acl(kind, name, acl, owner) AS (
        SELECT 'DATABASE', quote_ident(datname), datacl, datdba FROM pg_database WHERE datname = current_database()
        UNION ALL SELECT 'SCHEMA', quote_ident(nspname), nspacl, nspowner FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'flare')
        UNION ALL SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relacl, c.relowner
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relacl IS NOT NULL AND c.relkind IN ('r', 'p', 'S') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flare') AND c.relname !~ '^flare_replication_status')
    SELECT jsonb_build_object('made', 'privilege', 'on', o.kind || ' ' || o.name, 'privilege', a.privilege_type, 'to', r.rolname)
      FROM acl o, aclexplode(o.acl) a JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname = ANY ($1) AND a.grantee <> o.owner
    UNION ALL
    SELECT jsonb_build_object('made', 'default_privilege', 'role', pg_get_userbyid(d.defaclrole), 'schema', n.nspname,
             'on', CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END, 'privilege', a.privilege_type, 'to', r.rolname)
      FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) a JOIN pg_roles r ON r.oid = a.grantee
     WHERE r.rolname = ANY ($1) AND a.grantee <> d.defaclrole AND d.defaclobjtype IN ('r', 'S', 'f', 'T', 'n')
    UNION ALL
    SELECT jsonb_build_object('made', 'bypass_rls', 'role', rolname) FROM pg_roles WHERE rolname = ANY ($1) AND rolbypassrls AND NOT rolsuper";

const ON_COLUMNS: &str = "
    SELECT jsonb_build_object('table', quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'column', quote_ident(t.attname), 'privilege', a.privilege_type, 'to', r.rolname)
      FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(t.attacl) a JOIN pg_roles r ON r.oid = a.grantee
     WHERE t.attacl IS NOT NULL AND r.rolname = ANY ($1)";

const IDENTITIES: &str = "
    SELECT jsonb_build_object('name', quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'identity', CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'
             ELSE 'USING INDEX ' || (SELECT quote_ident(x.relname) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident) END)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relreplident <> 'd' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flare')";

/// Of the tables and domains in `$1`.
const CONSTRAINTS: &str = "
    SELECT jsonb_build_array(o.\"on\", k.conname)
      FROM unnest($1::text[]) o(\"on\") JOIN pg_constraint k ON CASE split_part(o.\"on\", ' ', 1)
             WHEN 'DOMAIN' THEN k.contypid = to_regtype(substr(o.\"on\", 8)) ELSE k.conrelid = to_regclass(substr(o.\"on\", 7)) END";

/// The fence has its own record of the default that it sets.
const SETTINGS: &str = "
    SELECT jsonb_build_object('role', r.rolname, 'name', split_part(c, '=', 1), 'value', substr(c, strpos(c, '=') + 1))
      FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c
     WHERE d.datname = current_database() AND r.rolname = ANY ($1) AND split_part(c, '=', 1) <> 'default_transaction_read_only'";

#[derive(Deserialize)]
struct Identity {
    name: String,
    identity: Option<String>,
}

impl State {
    pub(super) fn of(session: &Session, roles: &[String]) -> Result<State> {
        let read = || -> Result<State> {
            let identities: Vec<Identity> = session.list(IDENTITIES, params![])?;
            Ok(State {
                held: session
                    .list(HELD, params![roles.to_vec()])?
                    .into_iter()
                    .collect(),
                identities: identities
                    .into_iter()
                    .filter_map(|it| Some((it.name, it.identity?)))
                    .collect(),
                settings: session.list(SETTINGS, params![roles.to_vec()])?,
                columns: session.list(ON_COLUMNS, params![roles.to_vec()])?,
                constraints: BTreeSet::new(),
            })
        };
        read().wrap_err("read privileges, replica identities and settings")
    }

    /// The same with the constraints of what these were taken off.
    pub(super) fn with_constraints(mut self, session: &Session, made: &[Made]) -> Result<State> {
        let on = made.iter().filter_map(|it| match it {
            Made::NotValid { on, .. } => Some(on.clone()),
            _ => None,
        });
        let on: BTreeSet<String> = on.collect();
        if !on.is_empty() {
            let on: Vec<String> = on.into_iter().collect();
            let found: Vec<(String, String)> = session
                .list(CONSTRAINTS, params![on])
                .wrap_err("read the constraints that were taken off")?;
            self.constraints = found.into_iter().collect();
        }
        Ok(self)
    }

    pub(super) fn identity(&self, table: &str) -> &str {
        self.identities.get(table).map_or(DEFAULT, String::as_str)
    }

    pub(super) fn setting(&self, role: &str, name: &str) -> Option<&str> {
        let found = self
            .settings
            .iter()
            .find(|it| (it.role.as_str(), it.name.as_str()) == (role, name));
        found.map(|it| it.value.as_str())
    }
}

const DEFAULT: &str = "DEFAULT";

/// What has come between two moments.
pub(super) fn made_between(before: &State, now: &State) -> Vec<Made> {
    let mut made: Vec<Made> = now.held.difference(&before.held).cloned().collect();
    let tables: BTreeSet<&String> = before
        .identities
        .keys()
        .chain(now.identities.keys())
        .collect();
    for table in tables {
        let (was, is) = (before.identity(table), now.identity(table));
        if was != is {
            made.push(Made::ReplicaIdentity {
                table: table.clone(),
                was: was.to_owned(),
                is: is.to_owned(),
            });
        }
    }
    for RoleSetting { role, name, value } in &now.settings {
        let was = before.setting(role, name);
        if was != Some(value) {
            made.push(Made::Setting {
                role: role.clone(),
                name: name.clone(),
                was: was.map(str::to_owned),
                is: value.clone(),
            });
        }
    }
    made
}
