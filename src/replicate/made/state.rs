//! Privileges, replica identities and settings as they are at one moment, and what has come between two.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::known::Known;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};

/// One thing that flare has made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "made", rename_all = "snake_case")]
pub(crate) enum Made {
    /// A privilege of a role that flare works as. `on` is quoted as in GRANT; its oid stays when it is renamed.
    Privilege {
        on: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oid: Option<u32>,
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oid: Option<u32>,
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

/// What there is of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Privileges, default privileges and attributes.
    pub(super) held: BTreeSet<Made>,
    /// By table, quoted; those that are DEFAULT are not named.
    pub(super) identities: BTreeMap<String, String>,
    /// The oids of those tables.
    #[serde(default)]
    pub(super) oids: BTreeMap<String, u32>,
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
    WITH acl(kind, name, oid, acl, owner) AS (
        SELECT 'DATABASE', quote_ident(datname), oid, datacl, datdba FROM pg_database WHERE datname = current_database()
        UNION ALL SELECT 'SCHEMA', quote_ident(nspname), oid, nspacl, nspowner FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'flare')
        UNION ALL SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.oid, c.relacl, c.relowner
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relacl IS NOT NULL AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flare') AND c.relname !~ '^flare_replication_status')
    SELECT jsonb_build_object('made', 'privilege', 'on', o.kind || ' ' || o.name, 'oid', o.oid::bigint, 'privilege', a.privilege_type, 'to', r.rolname)
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
    SELECT jsonb_build_object('name', quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'oid', c.oid::bigint, 'identity', CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'
             ELSE 'USING INDEX ' || (SELECT quote_ident(x.relname) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident) END)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relreplident <> 'd' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flare')";

/// What roles hold on relations by the owner's grant, where the default privileges in `$1` have given it when the relation
/// was made: all of them, or somebody has changed what they gave.
const BY_DEFAULT: &str = "
    WITH given AS (
        SELECT d.role, d.schema, d.\"on\", d.\"to\", array_agg(d.privilege) AS privileges,
               coalesce(array_agg(d.privilege) FILTER (WHERE d.privilege <> 'MAINTAIN'), '{}') AS surely
          FROM jsonb_to_recordset($1) d(role text, schema text, \"on\" text, privilege text, \"to\" text)
         GROUP BY d.role, d.schema, d.\"on\", d.\"to\")
    SELECT jsonb_build_object('made', 'privilege', 'on', CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || quote_ident(n.nspname) || '.' || quote_ident(c.relname),
                              'oid', c.oid::bigint, 'privilege', privilege, 'to', g.\"to\")
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN given g ON g.role = pg_get_userbyid(c.relowner) AND coalesce(g.schema, n.nspname) = n.nspname
                  AND g.\"on\" = CASE c.relkind WHEN 'S' THEN 'SEQUENCES' ELSE 'TABLES' END,
           unnest(g.privileges) privilege
     WHERE c.relacl IS NOT NULL AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_'
       AND g.surely <@ (SELECT array_agg(a.privilege_type) FROM aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
                             WHERE a.grantor = c.relowner AND r.rolname = g.\"to\")";

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
    oid: u32,
    identity: Option<String>,
}

impl State {
    pub(super) fn of(session: &Session, roles: &[String]) -> Result<State> {
        let read = || -> Result<State> {
            let identities: Vec<Identity> = session.list(IDENTITIES, params![])?;
            Ok(State {
                oids: identities
                    .iter()
                    .map(|it| (it.name.clone(), it.oid))
                    .collect(),
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

    /// A table under its name of now, and its replica identity. One that is DEFAULT may have another name than this.
    pub(super) fn table_and_identity<'a>(
        &'a self,
        name: &'a str,
        oid: Option<u32>,
    ) -> (&'a str, &'a str) {
        let Some(oid) = oid else {
            return (name, self.identity(name));
        };
        let found = self.oids.iter().find(|(_, it)| **it == oid);
        found.map_or((name, DEFAULT), |(name, _)| (name, self.identity(name)))
    }

    /// Gives what was renamed since its name of now.
    pub(super) fn rename(&self, made: &mut [Made]) {
        let held = Known::of(&self.held);
        for it in made {
            let now = held.find(it);
            match (it, now) {
                (Made::Privilege { on, .. }, Some(Made::Privilege { on: now, .. })) => {
                    on.clone_from(now);
                }
                (Made::ReplicaIdentity { table, oid, .. }, _) => {
                    *table = self.table_and_identity(table, *oid).0.to_owned();
                }
                _ => {}
            }
        }
    }

    fn identity(&self, table: &str) -> &str {
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

/// What has been given since by the default privileges among these, on what was made since.
pub(super) fn given_by_default(session: &Session, made: &[Made]) -> Result<Vec<Made>> {
    let defaults: Vec<&Made> = made
        .iter()
        .filter(|it| matches!(it, Made::DefaultPrivilege { .. }))
        .collect();
    if defaults.is_empty() {
        return Ok(Vec::new());
    }
    session
        .list(BY_DEFAULT, params![serde_json::json!(defaults)])
        .wrap_err("read what default privileges have given")
}

/// What has come between two moments.
pub(super) fn made_between(before: &State, now: &State) -> Vec<Made> {
    let known = Known::of(&before.held);
    let come = now.held.iter().filter(|it| known.find(it).is_none());
    let mut made: Vec<Made> = come.cloned().collect();
    let before_by_name: BTreeMap<&str, &str> = before
        .identities
        .iter()
        .map(|(table, was)| {
            let oid = before.oids.get(table).copied();
            (now.table_and_identity(table, oid).0, was.as_str())
        })
        .collect();
    let tables: BTreeSet<&str> = before_by_name
        .keys()
        .copied()
        .chain(now.identities.keys().map(String::as_str))
        .collect();
    for table in tables {
        let was = before_by_name.get(table).copied().unwrap_or(DEFAULT);
        let is = now.identity(table);
        if was != is {
            let oid = now.oids.get(table).or_else(|| before.oids.get(table));
            made.push(Made::ReplicaIdentity {
                table: table.to_owned(),
                oid: oid.copied(),
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
