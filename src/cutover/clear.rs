//! clear: no old session. Those still starting first, then those that are listed, until a round finds neither.

use std::collections::BTreeSet;
use std::time::Duration;

use super::backends::{end_all, no_prepared_transaction};
use super::clearing::Clearing;
use super::state::Pause;
use crate::error::{Result, WrapErr};
use crate::server::{interrupt, params};

/// A backend holds this lock from before its privilege check until it is listed in pg_stat_activity (10 to 18).
const STARTING: &str = "
    SELECT array(SELECT l.pid FROM pg_locks l
                   LEFT JOIN pg_stat_activity a ON a.pid = l.pid AND a.datid IS NOT NULL
                  WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass
                    AND l.objid = (SELECT oid FROM pg_database WHERE datname = $1)
                    AND l.mode = 'RowExclusiveLock' AND l.pid <> ALL ($2) AND a.pid IS NULL)";

const LISTED: &str = "
    SELECT array(SELECT a.pid FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
                  WHERE a.datname = $1 AND a.pid <> ALL ($2)
                    AND coalesce(a.backend_type, 'client backend') NOT IN ('walsender', 'autovacuum worker')
                    AND CASE WHEN $3::text[] IS NULL THEN NOT coalesce(r.rolsuper, true)
                             ELSE a.usename = ANY ($3) END)";

/// How long a session that is starting may take to be listed, before it is ended unseen.
const STARTING_GRACE: Duration = Duration::from_millis(10);

/// How long after a round the next one looks: sessions need a moment to go.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(1);

/// Ends the application's sessions.
pub(crate) fn clear(pause: &mut Pause) -> Result<()> {
    let watch = &pause.sessions.watch.session;
    let roles = match &pause.clearing {
        Clearing::Roles(roles) => Some(roles.iter().cloned().collect::<Vec<String>>()),
        Clearing::EveryoneButSuperusers => None,
    };
    let mut told = BTreeSet::new();
    loop {
        let starting: Vec<i32> = watch.value(STARTING, params![pause.dbname(), &pause.own_pids])?;
        if !starting.is_empty() {
            interrupt::sleep(STARTING_GRACE)?;
            let still: Vec<i32> =
                watch.value(STARTING, params![pause.dbname(), &pause.own_pids])?;
            let late: Vec<i32> = still
                .into_iter()
                .filter(|pid| starting.contains(pid))
                .collect();
            end_all(watch, &late)?;
            told.extend(late);
        }
        let listed: Vec<i32> = watch.value(
            LISTED,
            params![pause.dbname(), &pause.own_pids, roles.clone()],
        )?;
        if starting.is_empty() && listed.is_empty() {
            break;
        }
        end_all(watch, &listed)?;
        told.extend(listed);
        pause
            .deadline
            .check()
            .wrap_err("end the application's sessions")?;
        interrupt::sleep(BETWEEN_ROUNDS)?;
    }
    pause.ended.extend(told);
    no_prepared_transaction(watch, pause.dbname())
}
