//! door: no new session. CONNECT is taken from everyone but those who stay, together with the journal's record of it.

use super::rights::Door;
use super::state::Pause;
use super::undo;
use crate::catalog::privileges::DatabasePrivileges;
use crate::error::{Failure, Result, WrapErr};
use crate::journal::{self, Step};
use crate::server::{Session, is_lost, params};

/// Shuts it: the journal's `paused` and the privileges, in one transaction.
pub(super) fn shut(pause: &mut Pause<'_>) -> Result<()> {
    loop {
        match try_shut(pause) {
            Err(report) if undo::is_concurrent(&report) && pause.deadline.check().is_ok() => {}
            outcome => return outcome,
        }
    }
}

fn try_shut(pause: &Pause<'_>) -> Result<()> {
    let session = &pause.sessions.door.session;
    in_transaction(session, || {
        if !journal::advance(session, pause.run(), &[Step::Preparing], Step::Paused)? {
            return Failure::new("another flare has ended this run").err();
        }
        let doors = pause.databases.iter().map(|it| &it.door);
        doors
            .into_iter()
            .try_for_each(|door| shut_one(session, door))
    })
}

/// Runs `work` between BEGIN and COMMIT.
pub(super) fn in_transaction<T>(session: &Session, work: impl FnOnce() -> Result<T>) -> Result<T> {
    session.batch("BEGIN")?;
    match work() {
        Ok(done) => session.batch("COMMIT").map(|()| done),
        Err(report) if is_lost(&report) => Err(report),
        Err(report) => session.batch("ROLLBACK").and(Err(report)),
    }
}

/// Takes CONNECT from everyone but those who stay, in the session's transaction.
pub(super) fn shut_one(session: &Session, door: &Door) -> Result<()> {
    let dbname = &door.before().dbname;
    if !DatabasePrivileges::read(session, dbname)?.same_as(door.before()) {
        return Failure::new(format!(
            "the privileges of database {dbname:?} have just been changed by someone else"
        ))
        .hint("run the command again")
        .err();
    }
    session
        .batch(&door.shutting().join("; "))
        .wrap_err_with(|| format!("take CONNECT on {dbname:?} from everyone but those who stay"))?;
    nobody_is_left(session, door)
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
