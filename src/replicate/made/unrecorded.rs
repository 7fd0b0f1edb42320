//! What stays where there was no place for a record: the replication role's rights, with the statements that take them away.

use super::state::State;
use super::{EXISTS, is_there, undoing};
use crate::error::Result;
use crate::server::{Server, Statement, params};

/// What is to be typed where no record says what flare has granted.
pub(crate) fn unrecorded(server: &Server, dbname: &str) -> Result<Option<String>> {
    if !is_there(server, dbname)? {
        return Ok(None);
    }
    let statements = statements(server, dbname)?;
    let Some(repl) = server
        .declared()
        .repl
        .as_ref()
        .filter(|_| !statements.is_empty())
    else {
        return Ok(None);
    };
    let shown: Vec<&str> = statements.iter().map(|it| it.shown.as_str()).collect();
    Ok(Some(format!(
        "nobody could keep a record on the {} (CREATE on database postgres), so what flare has granted there stays; all that {:?} holds in {dbname:?} goes with: {}; replica identities that flare has set stay as they are",
        server.side(),
        repl.user,
        shown.join("; ")
    )))
}

/// What is to be typed on a server to which the schema has brought what another one, which is gone, has on record.
pub(crate) fn brought(server: &Server, dbname: &str) -> Result<Option<String>> {
    let Some(repl) = &server.declared().repl else {
        return Ok(None);
    };
    if !is_there(server, dbname)? {
        return Ok(None);
    }
    let statements = held(server, dbname)?;
    if statements.is_empty() {
        return Ok(None);
    }
    let shown: Vec<&str> = statements.iter().map(|it| it.shown.as_str()).collect();
    Ok(Some(format!(
        "what the schema has brought to the {} of what flare had granted stays, since it is on record on the other server; all that {:?} holds in {dbname:?} goes with: {}; replica identities that flare has set stay as they are",
        server.side(),
        repl.user,
        shown.join("; ")
    )))
}

/// The statements for what the replication role holds on a server that lets nobody of flare's create a record in `postgres`;
/// none where there is a record, or could have been. Whose doing it is, nobody knows.
fn statements(server: &Server, dbname: &str) -> Result<Vec<Statement>> {
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
fn held(server: &Server, dbname: &str) -> Result<Vec<Statement>> {
    let Some(repl) = &server.declared().repl else {
        return Ok(Vec::new());
    };
    let session = server.visit(dbname)?;
    let now = State::of(&session, std::slice::from_ref(&repl.user))?;
    let held: Vec<_> = now.held.iter().cloned().collect();
    Ok(undoing::undoing(dbname, &held, &now))
}
