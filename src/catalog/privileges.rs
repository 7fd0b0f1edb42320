//! Who may connect to a database: `pg_database.datacl`, entry by entry.

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::server::{Login, Server, Session, params};

/// A database's access privileges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatabasePrivileges {
    pub(crate) dbname: String,
    pub(crate) owner: String,
    /// `datacl` with the order of its entries; none is NULL: the built-in default holds.
    pub(crate) written: Option<String>,
    pub(crate) entries: Vec<AclEntry>,
}

/// One privilege, as `aclexplode` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct AclEntry {
    pub(crate) grantor: String,
    /// None is PUBLIC.
    pub(crate) grantee: Option<String>,
    pub(crate) privilege: String,
    pub(crate) grantable: bool,
}

/// A dropped role cannot appear: the database depends on every role in its privileges.
const PRIVILEGES_OF: &str = "
    SELECT jsonb_build_object(
        'dbname', d.datname,
        'owner', pg_get_userbyid(d.datdba),
        'written', d.datacl::text,
        'entries', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                'grantor', pg_get_userbyid(a.grantor),
                'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
                'privilege', a.privilege_type,
                'grantable', a.is_grantable)), '[]')
              FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a))
      FROM pg_database d WHERE d.datname = $1";

impl DatabasePrivileges {
    /// The privileges of a database, as they are now.
    pub(crate) fn read(session: &Session, dbname: &str) -> Result<DatabasePrivileges> {
        let found = session.first(PRIVILEGES_OF, params![dbname])?;
        found.ok_or_else(|| {
            Failure::new(format!(
                "read the privileges of database {dbname:?}: there is no such database"
            ))
            .hint("correct the name: \\l in psql lists the databases of the server")
            .into()
        })
    }

    /// The entries that let somebody connect.
    pub(crate) fn connect(&self) -> impl Iterator<Item = &AclEntry> {
        self.entries
            .iter()
            .filter(|entry| entry.privilege == "CONNECT")
    }

    /// Whether both let the same roles do the same, whatever the order and however it is written down.
    pub(crate) fn same_as(&self, other: &DatabasePrivileges) -> bool {
        let sorted = |privileges: &DatabasePrivileges| {
            let mut entries = privileges.entries.clone();
            entries.sort();
            entries
        };
        sorted(self) == sorted(other)
    }
}

/// Who may change the privileges and settings of databases: the administrator where it is a superuser or acts for their
/// owners, else the owner itself.
pub(crate) fn owner_login(server: &Server, dbnames: &[&str]) -> Result<Login> {
    let dbnames: Vec<String> = dbnames.iter().map(|dbname| dbname.to_string()).collect();
    let may: bool = server.admin().value(
        "SELECT coalesce((SELECT bool_and(pg_has_role(datdba, 'USAGE')) FROM pg_database WHERE datname = ANY ($1)), true)",
        params![dbnames],
    )?;
    Ok(Login::owner_if(!may))
}
