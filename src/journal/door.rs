//! Doors that are shut: written and deleted together with the privileges, so that they are right whatever dies.

use serde::Deserialize;

use super::create::exists;
use crate::catalog::privileges::DatabasePrivileges;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};

/// A database's door that is shut, with what opens it again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Shut {
    /// As they were before.
    pub(crate) privileges: DatabasePrivileges,
    /// Roles that may go on connecting.
    pub(crate) keep: Vec<String>,
}

/// The door of a database, when it is shut.
pub(crate) fn shut_door(session: &Session, dbname: &str) -> Result<Option<Shut>> {
    if !exists(session, "door")? {
        return Ok(None);
    }
    session
        .first(
            "SELECT to_jsonb(d) FROM flare.door d WHERE dbname = $1",
            params![dbname],
        )
        .wrap_err_with(|| format!("read whether the door of {dbname:?} is shut"))
}

/// Whether the door of a database is shut.
pub(crate) fn is_shut(session: &Session, dbname: &str) -> Result<bool> {
    Ok(shut_door(session, dbname)?.is_some())
}
