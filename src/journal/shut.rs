//! Databases that nobody may connect to: written and deleted together with the privileges, so that it is right whatever dies.

use serde::Deserialize;

use super::create::exists;
use crate::catalog::privileges::DatabasePrivileges;
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};

/// A database whose CONNECT was revoked, with what gives it back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Shut {
    /// As they were before.
    pub(crate) privileges: DatabasePrivileges,
    /// Roles that may go on connecting.
    pub(crate) keep: Vec<String>,
}

/// The record of a database, when it is shut.
pub(crate) fn shut_database(session: &Session, dbname: &str) -> Result<Option<Shut>> {
    if !exists(session, "shut")? {
        return Ok(None);
    }
    session
        .first(
            "SELECT to_jsonb(s) FROM flare.shut s WHERE dbname = $1",
            params![dbname],
        )
        .wrap_err_with(|| format!("read whether {dbname:?} is shut"))
}

/// Whether a database is shut.
pub(crate) fn is_shut(session: &Session, dbname: &str) -> Result<bool> {
    Ok(shut_database(session, dbname)?.is_some())
}
