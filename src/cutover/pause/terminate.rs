//! terminate: no old session. Those that were starting when CONNECT was revoked first, then those that are listed, until a
//! round finds neither.

use serde::Deserialize;

use crate::cutover::pause::batch::{self, Sent};
use crate::cutover::pause::signal::Signal;
use crate::cutover::pause::terminating::Terminating;
use crate::cutover::report::StepName;
use crate::cutover::state::Pause;
use crate::error::Result;
use crate::value::Literal;

/// A session that was ended.
#[derive(Debug, Deserialize)]
pub(in crate::cutover) struct Ended {
    pub(in crate::cutover) dbname: String,
    pub(in crate::cutover) pid: i32,
}

/// A backend holds this lock from before its privilege check until it is listed in pg_stat_activity (10 to 18). Only those
/// of the first look have passed the check before CONNECT was revoked.
const STARTING: &str = "
    array(SELECT l.pid FROM pg_locks l
            LEFT JOIN pg_stat_activity a ON a.pid = l.pid AND a.datid IS NOT NULL
           WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.objid = ANY (dbs)
             AND l.mode = 'RowExclusiveLock' AND l.pid <> ALL (own) AND a.pid IS NULL)";

/// The sessions to end. A walsender that sends a slot's changes writes nothing; one without a slot can run any statement.
/// Kept users come back whenever they like, and are stopped by the locks: they are ended once.
const LISTED: &str = "
    SELECT a.pid, a.datname, a.usename, coalesce(u.rolsuper, true) AS welcome
      FROM pg_stat_activity a LEFT JOIN pg_roles u ON u.oid = a.usesysid
     WHERE a.datid = ANY (dbs) AND a.pid <> ALL (own)
       AND coalesce(a.backend_type, 'client backend') NOT IN ('autovacuum worker', 'logical replication worker',
           'logical replication apply worker', 'logical replication tablesync worker', 'logical replication parallel worker')
       AND NOT EXISTS (SELECT FROM pg_stat_subscription s WHERE s.pid = a.pid)
       AND NOT (a.backend_type = 'walsender' AND EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = a.pid))
       AND (rounds <= 0 OR a.usename IS NULL OR a.usename <> ALL (keep))
       AND CHOSEN";

/// Transactions that outlive their sessions.
const OUTLIVING: &str = "
    SELECT string_agg(gid, ', ' ORDER BY prepared) INTO gids FROM pg_prepared_xacts x
     WHERE database IN (SELECT datname FROM pg_database WHERE oid = ANY (dbs));";

/// Ends sessions until a round finds none. Superusers and background workers come back whenever they like: they are ended
/// for 50 ms. Before 15 the activity view is frozen within a transaction.
///
/// The first round, before CONNECT is revoked, ends nobody: its statements are planned by then.
const ROUNDS: &str = "
    LOOP
      PERFORM pg_stat_clear_snapshot();
      IF rounds <= 0 THEN
        starting := STARTING;
      ELSIF starting <> '{}' THEN
        starting := array(SELECT pid FROM unnest(STARTING) pid WHERE pid = ANY (starting));
        IF clock_timestamp() > since + interval '10 milliseconds' THEN
          PERFORM pg_terminate_backend(pid) FROM unnest(starting) pid;
        END IF;
      END IF;
      here := 0; barred := 0;
      FOR r IN
        LISTED
      LOOP
        EXIT WHEN rounds < 0;
        here := here + 1;
        IF NOT r.welcome THEN barred := barred + 1; END IF;
        BEGIN
          PERFORM pg_terminate_backend(r.pid);
        EXCEPTION WHEN insufficient_privilege THEN
          RAISE EXCEPTION 'end the session with pid % of %: %', r.pid, r.usename, SQLERRM USING ERRCODE = SQLSTATE;
        END;
        ended := ended || jsonb_build_object(r.pid::text, r.datname);
      END LOOP;
      done := rounds >= 0 AND starting = '{}'
          AND (here = 0 OR (barred = 0 AND clock_timestamp() > since + interval '50 milliseconds'));
      IF done OR rounds < 0 THEN
        OUTLIVING
      END IF;
      EXIT WHEN done;
      rounds := rounds + 1;
      IF rounds = 0 THEN
        REVOKED
        since := clock_timestamp();
        -- Its guard may have ended the pause while flare was held up.
        CONTINUE WHEN since < until;
      END IF;
      IF clock_timestamp() > until THEN
        RAISE EXCEPTION 'the pause is longer than max_pause: % sessions of the application do not end', here
          USING ERRCODE = 'query_canceled';
      END IF;
      PERFORM pg_sleep(0.001);
    END LOOP;
    IF gids IS NOT NULL THEN
      RAISE EXCEPTION 'prepared transactions are open: %', gids
        USING HINT = 'COMMIT PREPARED or ROLLBACK PREPARED them in that database, then run the command again';
    END IF;
    answer := (SELECT coalesce(jsonb_agg(jsonb_build_object('pid', key::int, 'dbname', value)), '[]') FROM jsonb_each_text(ended));";

/// Sends the batch; it waits for `paused`.
pub(in crate::cutover) fn send<'a>(pause: &'a Pause<'_>) -> Result<Sent<'a>> {
    let rounds = ROUNDS
        .replace("STARTING", STARTING)
        .replace("OUTLIVING", OUTLIVING)
        .replace(
            "REVOKED",
            // In a session of another database, which its lock does not keep waiting.
            &(Signal::Ready.show()
                + &batch::wait_until(
                    &Signal::Revoked.given_by(pause.sessions.connect.backend.pid),
                    "CONNECT was not revoked",
                )),
        )
        // Names of roles come last: they may contain the other words.
        .replace("LISTED", &listed(pause));
    let body = format!("{rounds} {}", Signal::Terminated.give());
    let block = batch::block(pause.deadline.left(), &declared(pause), "", &body);
    batch::send(
        StepName::Terminate,
        "end the application's sessions",
        &pause.sessions.terminate,
        batch::answering(&block),
    )
}

/// Looks as the batch will, and ends nobody.
pub(in crate::cutover) fn rehearse<'a>(pause: &'a Pause<'_>) -> Result<Sent<'a>> {
    let looks = format!(
        "starting := {STARTING}; here := (SELECT count(*) FROM ({}) listed); {OUTLIVING}",
        listed(pause),
    );
    batch::rehearse(
        &pause.sessions.terminate,
        StepName::Terminate,
        &declared(pause),
        &looks,
        &[Signal::Terminated],
    )
}

fn listed(pause: &Pause<'_>) -> String {
    let chosen = match &pause.terminating {
        Terminating::Roles(roles) => format!(
            "a.usename IN (SELECT jsonb_array_elements_text({})) AND a.backend_type IS DISTINCT FROM 'walsender'",
            json(roles)
        ),
        Terminating::EveryoneButSuperusers => {
            "NOT coalesce(u.rolsuper, true) AND a.backend_type IS DISTINCT FROM 'walsender'".into()
        }
        Terminating::Everyone => "true".to_owned(),
    };
    LISTED.replace("CHOSEN", &chosen)
}

fn declared(pause: &Pause<'_>) -> String {
    let keep: Vec<&String> = pause
        .databases
        .iter()
        .flat_map(|database| database.privileges.keep())
        .collect();
    format!(
        "dbs CONSTANT oid[] := array(SELECT oid FROM pg_database WHERE datname IN (SELECT jsonb_array_elements_text({})));
         own CONSTANT int[] := {};
         keep CONSTANT name[] := array(SELECT jsonb_array_elements_text({}));
         starting int[]; rounds int := -1; here int; barred int; done boolean; ended jsonb := '{{}}'; gids text; r record;",
        json(pause.dbnames()),
        own_pids(pause),
        json(&keep),
    )
}

/// The pids of this run's own sessions, as an SQL array.
pub(in crate::cutover) fn own_pids(pause: &Pause<'_>) -> String {
    let pids: Vec<String> = pause.own_pids.iter().map(i32::to_string).collect();
    format!("'{{{}}}'", pids.join(","))
}

/// The same on *to*.
pub(in crate::cutover) fn own_pids_on_to(pause: &Pause<'_>) -> String {
    let databases = pause.databases.iter();
    let in_databases = databases.flat_map(|database| database.sessions.on_to());
    let tracked = pause.sessions.on_to().into_iter().chain(in_databases);
    let mut pids: Vec<String> = tracked.map(|it| it.backend.pid.to_string()).collect();
    pids.push(pause.pair.subscriber.facts().pid.to_string());
    format!("'{{{}}}'", pids.join(","))
}

fn json(names: impl serde::Serialize) -> String {
    Literal(serde_json::json!(names).to_string()).to_string()
}
