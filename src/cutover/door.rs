//! door: no new session. CONNECT is taken from everyone but those who stay, together with the journal's record of it.

use super::rights::Door;
use super::state::Pause;
use super::undo;
use crate::catalog::privileges::DatabasePrivileges;
use crate::error::{Failure, Result, WrapErr};
use crate::journal::{self, Step};
use crate::server::{Session, is_lost, params};

/// Shuts it: the journal's `paused` and the privileges, in one transaction.
pub(super) fn shut(pause: &mut Pause) -> Result<()> {
    loop {
        match try_shut(pause) {
            Err(report) if undo::is_concurrent(&report) && pause.deadline.check().is_ok() => {}
            outcome => return outcome,
        }
    }
}

fn try_shut(pause: &Pause) -> Result<()> {
    let session = &pause.sessions.door.session;
    session.batch("BEGIN")?;
    let shut = shut_in_transaction(pause, session);
    match shut {
        Ok(()) => session.batch("COMMIT"),
        Err(report) if is_lost(&report) => Err(report),
        Err(report) => session.batch("ROLLBACK").and(Err(report)),
    }
}

fn shut_in_transaction(pause: &Pause, session: &Session) -> Result<()> {
    if !journal::advance(session, pause.run, &[Step::Preparing], Step::Paused)? {
        return Failure::new("another flare has ended this run").err();
    }
    if !DatabasePrivileges::read(session, pause.dbname())?.same_as(pause.door.before()) {
        return Failure::new(
            "the privileges of the database have just been changed by someone else",
        )
        .hint("run the command again")
        .err();
    }
    session
        .batch(&pause.door.shutting().join("; "))
        .wrap_err("take CONNECT from everyone but those who stay")?;
    nobody_is_left(session, &pause.door)
}

/// Login roles that could still connect: neither superusers nor among those who stay. Membership counts.
const STILL_WELCOME: &str = "
    SELECT array(SELECT rolname::text FROM pg_roles
                  WHERE rolcanlogin AND NOT rolsuper AND NOT rolname = ANY ($2::text[])
                    AND has_database_privilege(oid, $1, 'CONNECT') ORDER BY 1)";

/// Fails when the door is not shut for somebody; to be asked in the transaction that shut it.
fn nobody_is_left(session: &Session, door: &Door) -> Result<()> {
    let keep: Vec<String> = door.keep().iter().cloned().collect();
    let dbname = door.before().dbname.as_str();
    let welcome: Vec<String> = session.value(STILL_WELCOME, params![dbname, keep])?;
    match welcome.is_empty() {
        true => Ok(()),
        false => Failure::new(format!(
            "shut the door of database {dbname:?}: {} could still connect, as members of roles that stay",
            welcome.join(", ")
        ))
        .hint("name them in cutover.keep_users, or take that membership away")
        .err(),
    }
}
