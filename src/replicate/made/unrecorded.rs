//! What stays where there was no place for a record: the replication role's rights, with the statements that take them away.

use super::state::State;
use super::{EXISTS, undoing};
use crate::error::Result;
use crate::server::{Server, Statement, params};

/// The statements for what the replication role holds on a server that lets nobody of flare's create a record in `postgres`;
/// none where there is a record, or could have been. Whose doing it is, nobody knows.
pub(super) fn statements(server: &Server, dbname: &str) -> Result<Vec<Statement>> {
    let declared = server.declared();
    let could: bool = server.admin().value(
        "SELECT to_regnamespace('flare') IS NOT NULL
             OR EXISTS (SELECT FROM pg_roles WHERE rolname IN ($1, $2) AND has_database_privilege(oid, 'postgres', 'CREATE'))",
        params![&declared.superuser.user, &declared.db_owner.user],
    )?;
    if could || server.admin().value::<bool>(EXISTS, params![])? {
        return Ok(Vec::new());
    }
    held(server, dbname)
}

/// The statements for all that the replication role holds.
pub(super) fn held(server: &Server, dbname: &str) -> Result<Vec<Statement>> {
    let Some(repl) = &server.declared().repl else {
        return Ok(Vec::new());
    };
    let session = server.visit(dbname)?;
    let now = State::of(&session, std::slice::from_ref(&repl.user))?;
    let held: Vec<_> = now.held.iter().cloned().collect();
    Ok(undoing::undoing(dbname, &held, &now))
}
