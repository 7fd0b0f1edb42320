//! Databases: `pg_database`, with their privileges and comment.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::error::Result;
use crate::server::{Session, params};

/// A database as `pg_database` shows it; `None` where the version has no such column.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Database {
    pub(crate) datname: String,
    pub(crate) owner: String,
    /// The encoding's name.
    pub(crate) encoding_name: String,
    pub(crate) datcollate: String,
    pub(crate) datctype: String,
    /// `c` (libc), `i` (ICU) or `b` (builtin).
    pub(crate) datlocprovider: Option<String>,
    /// 17 and later.
    pub(crate) datlocale: Option<String>,
    /// 15 and 16.
    pub(crate) daticulocale: Option<String>,
    pub(crate) daticurules: Option<String>,
    pub(crate) datconnlimit: i32,
    pub(crate) comment: Option<String>,
    /// The default ones spelled out.
    pub(crate) acl: BTreeSet<Privilege>,
}

/// One privilege on a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Privilege {
    /// `None`: PUBLIC.
    pub(crate) grantee: Option<String>,
    pub(crate) privilege: String,
    pub(crate) grantable: bool,
}

const DATABASE: &str = "
    SELECT to_jsonb(d) || jsonb_build_object(
             'owner', pg_get_userbyid(d.datdba),
             'encoding_name', pg_encoding_to_char(d.encoding),
             'comment', shobj_description(d.oid, 'pg_database'),
             'acl', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                         'grantee', CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END,
                         'privilege', a.privilege_type,
                         'grantable', a.is_grantable)), '[]')
                       FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a))
      FROM pg_database d WHERE d.datname = $1";

/// A database, if there is one of this name.
pub(crate) fn database(session: &Session, dbname: &str) -> Result<Option<Database>> {
    session.first(DATABASE, params![dbname])
}

/// The names of all databases.
pub(crate) fn dbnames(session: &Session) -> Result<BTreeSet<String>> {
    let dbnames: Vec<String> = session.value(
        "SELECT array(SELECT datname::text FROM pg_database)",
        params![],
    )?;
    Ok(dbnames.into_iter().collect())
}

/// Whether a subscription writes into a database. Without the right to see, any subscription of the server counts.
pub(crate) fn is_subscribed(session: &Session, dbname: &str) -> Result<bool> {
    let may_see: bool = session.value(
        "SELECT has_column_privilege('pg_subscription', 'subdbid', 'SELECT')",
        params![],
    )?;
    if may_see {
        session.value(
            "SELECT EXISTS (SELECT subdbid FROM pg_subscription
          WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = $1))",
            params![dbname],
        )
    } else {
        session.value(
            "SELECT EXISTS (SELECT FROM pg_stat_subscription)",
            params![],
        )
    }
}

/// Processes that this flare or an earlier one has at work in a database, besides the asking session.
pub(crate) fn loaders(session: &Session, dbname: &str, application_name: &str) -> Result<Vec<i32>> {
    session.value(
        "SELECT array(SELECT pid FROM pg_stat_activity
                       WHERE datname = $1 AND application_name = $2 AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
                       ORDER BY pid)",
        params![dbname, application_name],
    )
}
