//! *from* is fenced: what the table locks of the pause kept off, the triggers keep off for good.

use std::time::Duration;

use crate::cutover::deadline::Deadline;
use crate::cutover::exits::undo;
use crate::cutover::pause::backends::end_blockers_of;
use crate::cutover::pause::fencing::Fencing;
use crate::cutover::pause::table_locks;
use crate::error::{Result, WrapErr};
use crate::journal::Entry;
use crate::replicate::fence;
use crate::server::{ActAs, Publisher, Session, Timeout, is_lost};
use crate::value::TableName;

/// What still holds the tables of *from*, in the order of the run's databases.
pub(in crate::cutover) enum Locks<'a> {
    /// They become the fence by themselves, each in its session.
    Standing(Vec<(&'a Session, Fencing)>),
    /// The fence has to be made anew.
    Gone,
    /// The fence stands, and they have gone.
    Fenced,
}

/// How long the locks may take to become the fence.
const MADE_WITHIN: Timeout = Timeout::For(Duration::from_secs(30));

/// How long a lock on the tables of *from* is waited for, when the pause's own have gone.
const LOCKED_WITHIN: Duration = Duration::from_secs(5);

/// The tables of *from* are fenced, by the transactions that hold their locks where these still stand. What was on record
/// of the database's default goes into the comment of the fence.
pub(in crate::cutover) fn fence_from(
    from: &Publisher,
    entry: &Entry,
    locks: Locks<'_>,
) -> Result<()> {
    if matches!(locks, Locks::Fenced) {
        return Ok(());
    }
    for (at, member) in entry.databases.iter().enumerate() {
        let pubname = member.stream(entry.direction).pubname;
        let before = undo::default_of(member);
        let what = || format!("fence database {:?} of the {}", member.dbname, from.side());
        if let Locks::Standing(fencing) = &locks {
            let (session, made) = &fencing[at];
            match session.wait(made, MADE_WITHIN) {
                // One that was made because nobody had said anything in time stands for good from now on.
                Ok(()) => {
                    session.batch(&fence::closed()).wrap_err_with(what)?;
                    continue;
                }
                Err(report) if is_lost(&report) => return Err(report).wrap_err_with(what),
                Err(report) => {
                    log::warn!("{report:#}; fencing it anew");
                    session.batch("ROLLBACK").wrap_err_with(what)?;
                }
            }
        }
        let session = from.connect(ActAs::Tables, &member.dbname)?;
        let pid: i32 = session.value("SELECT pg_backend_pid()", Vec::new())?;
        let fenced = session.batch("BEGIN").and_then(|()| {
            let tables = table_locks::tables(&session, &pubname)?;
            lock_against_all(from, &session, pid, &tables)?;
            fence::raise(&session, &tables, &before.recording())
        });
        fenced.wrap_err_with(what)?;
    }
    Ok(())
}

/// Locks the tables in the session's transaction; who holds them is ended.
fn lock_against_all(
    from: &Publisher,
    session: &Session,
    pid: i32,
    tables: &[TableName],
) -> Result<()> {
    let Some(lock) = table_locks::lock_statement(tables) else {
        return Ok(());
    };
    let since = Deadline::after(LOCKED_WITHIN);
    let locking = session.start(move |client| client.batch_execute(&lock))?;
    while session.poll(&locking, Duration::from_millis(5))?.is_none() {
        since.check().wrap_err("lock the published tables")?;
        end_blockers_of(from.admin(), pid)?;
    }
    Ok(())
}
