//! Databases that nobody may connect to: written and deleted together with the privileges, so that it is right whatever dies.

use serde::Deserialize;

use super::create::list_if_there;
use crate::catalog::privileges::DatabasePrivileges;
use crate::error::{Result, WrapErr};
use crate::server::Session;
use crate::value::Literal;

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
    let select = format!(
        "SELECT to_jsonb(s) FROM flare.shut s WHERE dbname = {}",
        Literal(dbname)
    );
    let found = list_if_there(session, &select);
    let found = found.wrap_err_with(|| format!("read whether {dbname:?} is shut"))?;
    Ok(found.into_iter().next())
}

/// Whether a database is shut.
pub(crate) fn is_shut(session: &Session, dbname: &str) -> Result<bool> {
    Ok(shut_database(session, dbname)?.is_some())
}
