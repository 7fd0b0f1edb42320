//! clear: no old session. Those still starting first, then those that are listed, until a round finds neither.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::backends::{end_all, no_prepared_transaction};
use super::clearing::Clearing;
use super::deadline::Deadline;
use super::state::Pause;
use crate::error::{Result, WrapErr};
use crate::server::{Session, interrupt, params};

/// A backend holds this lock from before its privilege check until it is listed in pg_stat_activity (10 to 18).
const STARTING: &str = "
    SELECT array(SELECT l.pid FROM pg_locks l
                   LEFT JOIN pg_stat_activity a ON a.pid = l.pid AND a.datid IS NOT NULL
                  WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass
                    AND l.objid IN (SELECT oid FROM pg_database WHERE datname = ANY ($1))
                    AND l.mode = 'RowExclusiveLock' AND l.pid <> ALL ($2) AND a.pid IS NULL)";

/// A walsender that sends a slot's changes writes nothing; one without a slot can run any statement.
const LISTED: &str = "
    SELECT jsonb_build_object('pid', a.pid, 'dbname', a.datname, 'welcome', coalesce(r.rolsuper, true))
      FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
     WHERE a.datname = ANY ($1) AND a.pid <> ALL ($2)
       AND coalesce(a.backend_type, 'client backend') NOT IN ('autovacuum worker', 'logical replication worker',
           'logical replication apply worker', 'logical replication tablesync worker', 'logical replication parallel worker')
       AND NOT (a.backend_type = 'walsender'
                AND EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = a.pid))
       AND CASE $3 WHEN 'roles' THEN a.usename = ANY ($4) AND a.backend_type IS DISTINCT FROM 'walsender'
                   WHEN 'nobody but superusers' THEN NOT coalesce(r.rolsuper, true) AND a.backend_type IS DISTINCT FROM 'walsender'
                   ELSE a.usename IS NULL OR a.usename <> ALL ($4) END";

/// A session that is in the way.
#[derive(Deserialize)]
struct Listed {
    pid: i32,
    dbname: String,
    /// The shut door does not keep its user out: a superuser, or nobody's (a background worker).
    welcome: bool,
}

/// How long a session that is starting may take to be listed, before it is ended unseen.
const STARTING_GRACE: Duration = Duration::from_millis(10);

/// How long after a round the next one looks: sessions need a moment to go.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(1);

/// For how long those are ended whom no door keeps out, and who come back; then the wall has to do.
const FOR_THE_WELCOME: Duration = Duration::from_millis(50);

/// Ends the application's sessions on *from*.
pub(crate) fn clear(pause: &mut Pause<'_>) -> Result<()> {
    let watch = &pause.sessions.watch.session;
    let dbnames = pause.dbnames();
    let ended = sweep(
        watch,
        &dbnames,
        &pause.own_pids,
        &pause.clearing,
        &pause.deadline,
    )?;
    for (dbname, pid) in ended {
        let database = pause.databases.iter_mut().find(|it| it.dbname() == dbname);
        if let Some(database) = database {
            database.ended.insert(pid);
        }
    }
    super::clients::await_held(pause)?;
    let watch = &pause.sessions.watch.session;
    dbnames
        .iter()
        .try_for_each(|dbname| no_prepared_transaction(watch, dbname))
}

/// Ends sessions until a round finds none; which, with their databases.
pub(super) fn sweep(
    watch: &Session,
    dbnames: &[String],
    own_pids: &[i32],
    clearing: &Clearing,
    deadline: &Deadline,
) -> Result<BTreeSet<(String, i32)>> {
    let (kind, roles): (&str, Vec<String>) = match clearing {
        Clearing::Roles(roles) => ("roles", roles.iter().cloned().collect()),
        Clearing::EveryoneButSuperusers => ("nobody but superusers", Vec::new()),
        Clearing::Everyone { but } => ("everyone", but.iter().cloned().collect()),
    };
    let starting = || -> Result<Vec<i32>> {
        watch.value(STARTING, params![dbnames.to_vec(), own_pids.to_vec()])
    };
    let since = Instant::now();
    let mut ended = BTreeSet::new();
    loop {
        let begun = starting()?;
        if !begun.is_empty() {
            interrupt::sleep(STARTING_GRACE)?;
            let late: Vec<i32> = starting()?
                .into_iter()
                .filter(|pid| begun.contains(pid))
                .collect();
            end_all(watch, &late)?;
        }
        let listed: Vec<Listed> = watch.list(
            LISTED,
            params![dbnames.to_vec(), own_pids.to_vec(), kind, roles.clone()],
        )?;
        let pids: Vec<i32> = listed.iter().map(|it| it.pid).collect();
        let only_welcome = listed.iter().all(|it| it.welcome);
        ended.extend(listed.into_iter().map(|it| (it.dbname, it.pid)));
        end_all(watch, &pids)?;
        let all_gone = begun.is_empty() && pids.is_empty();
        if all_gone || (only_welcome && since.elapsed() > FOR_THE_WELCOME) {
            return Ok(ended);
        }
        deadline
            .check()
            .wrap_err("end the application's sessions")?;
        interrupt::sleep(BETWEEN_ROUNDS)?;
    }
}
