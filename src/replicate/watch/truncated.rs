//! A table that is truncated on the publisher while it is copied, to a server of 11 to 13: apply waits for the table's lock,
//! which the worker that copies it holds until apply lets it go on. Neither waits for a lock alone, so the server ends neither.

use std::time::Duration;

use serde::Deserialize;

use crate::catalog::databases;
use crate::error::{Result, message_of};
use crate::replicate::Run;
use crate::server::{Session, Subscriber, interrupt, params};

/// Who hangs this long hangs for ever.
const STILL: Duration = Duration::from_millis(500);

/// A table's worker that holds up the one that it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Hanging {
    pid: i32,
    table: String,
}

const HANGING: &str = "
    SELECT jsonb_build_object('pid', w.pid, 'table', format('%s.%s', n.nspname, c.relname))
      FROM pg_stat_subscription a JOIN pg_stat_activity apply ON apply.pid = a.pid AND apply.wait_event_type = 'Lock'
      JOIN pg_stat_subscription w ON w.subid = a.subid AND w.relid IS NOT NULL
      JOIN pg_class c ON c.oid = w.relid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_stat_activity s ON s.pid = w.pid AND s.wait_event = 'LogicalSyncStateChange'
     WHERE a.subname = $1 AND a.relid IS NULL AND w.pid = ANY (pg_blocking_pids(a.pid))";

/// The same where nobody has waited for the copy: whoever reads those tables' schema would wait, too.
pub(crate) fn free_now(
    subscriber: &Subscriber,
    subname: &str,
    dbname: &str,
    run: &Run,
) -> Result<()> {
    if databases::database(subscriber.admin(), dbname)?.is_none() {
        return Ok(());
    }
    let session = subscriber.visit(dbname)?;
    let before = free(&session, subname, &[], run)?;
    if !before.is_empty() {
        interrupt::sleep(STILL)?;
        free(&session, subname, &before, run)?;
    }
    Ok(())
}

/// Ends the workers that hung at the look before, and still do: their tables are copied anew. Returns those of now.
pub(super) fn free(
    session: &Session,
    subname: &str,
    before: &[Hanging],
    run: &Run,
) -> Result<Vec<Hanging>> {
    let hanging: Vec<Hanging> = session.list(HANGING, params![subname])?;
    for it in hanging.iter().filter(|it| before.contains(it)) {
        run.progress.step(&format!(
            "the copy of {} begins anew: it was truncated meanwhile, and apply and the copy wait for each other",
            it.table
        ));
        if let Err(report) = session.execute("SELECT pg_terminate_backend($1)", params![it.pid]) {
            log::warn!(
                "end the worker that copies {}: {}",
                it.table,
                message_of(&report)
            );
        }
    }
    Ok(hanging)
}
