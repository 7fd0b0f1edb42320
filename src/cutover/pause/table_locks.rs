//! lock: nothing that slipped through. Every published table is locked against writes until the pause is decided.

use crate::catalog::publications;
use crate::cutover::pause::batch::{self, Sent};
use crate::cutover::pause::signal::Signal;
use crate::cutover::pause::terminate::own_pids;
use crate::cutover::report::StepName;
use crate::cutover::state::{Database, Pause};
use crate::error::{Advise, Result, WrapErr};
use crate::journal::{self, Step};
use crate::replicate::status_table;
use crate::server::Session;
use crate::value::{Literal, TableName};

/// The published tables that the application writes: the probe row goes through flare's own table while they are locked.
pub(crate) fn tables(session: &Session, pubname: &str) -> Result<Vec<TableName>> {
    let mut published = publications::tables(session, pubname)?;
    published.retain(|name| !status_table::is(name));
    Ok(published)
}

/// The statement that locks them all, at once.
pub(crate) fn lock_statement(tables: &[TableName]) -> Option<String> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| {
        format!(
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            names.join(", ")
        )
    })
}

/// Locks the tables as a reader does, which hinders nobody, and lets them go.
pub(crate) fn touch(session: &Session, begin: &str, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let touched = session.batch(&format!(
        "{begin}; SET LOCAL lock_timeout = '2s'; LOCK TABLE {} IN ACCESS SHARE MODE; ROLLBACK",
        names.join(", ")
    ));
    if touched.is_err() {
        session.batch("ROLLBACK")?;
    }
    touched.wrap_err("touch the published tables").hint(|| {
        "a session holds them exclusively: find it in pg_locks, and run the command again".into()
    })
}

/// The name of a relation `c` in its namespace `n`, always quoted, as [`TableName`] writes it.
pub(in crate::cutover) const QUALIFIED: &str =
    r#"format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))"#;

/// Reads the list of tables in a block.
const PUBLISHED: &str = "
    SELECT coalesce(jsonb_agg(QUALIFIED ORDER BY QUALIFIED COLLATE \"C\"), '[]') INTO now
      FROM pg_publication p, pg_get_publication_tables(p.pubname) t
      JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE p.pubname = PUBNAME AND c.relname <> STATUS;";

/// Behind the locks the list is read again: a difference undoes. Both are sorted, alike in most encodings: to look for each
/// name of a thousand in a thousand others takes 20 ms.
const UNCHANGED: &str = "
    IF now IS DISTINCT FROM expected AND NOT (now @> expected AND expected @> now) THEN
      RAISE EXCEPTION 'the published tables have changed since the preparation: %',
        (SELECT string_agg(name, ', ' ORDER BY name) FROM
           ((SELECT jsonb_array_elements_text(now) EXCEPT SELECT jsonb_array_elements_text(expected))
            UNION ALL (SELECT jsonb_array_elements_text(expected) EXCEPT SELECT jsonb_array_elements_text(now))) d(name))
        USING HINT = 'let no DDL run during the pause, and run the command again';
    END IF;";

/// A transaction that waits for one of the tables, and holds another, makes a deadlock, of which the locks are the victim:
/// their deadlock_timeout is the shorter one. It gets what it waits for, and is in the way again, until it is ended.
const LOCK: &str = "
    LOOP
      BEGIN
        EXECUTE STATEMENT;
        EXIT;
      EXCEPTION WHEN deadlock_detected THEN
        IF clock_timestamp() > until THEN RAISE; END IF;
      END;
    END LOOP;";

/// Sends the batch of one database, whose transaction stays open.
pub(in crate::cutover) fn send<'a>(
    pause: &'a Pause<'_>,
    database: &'a Database,
) -> Result<Sent<'a>> {
    let left = pause.deadline.left();
    let lock = lock_statement(&database.published)
        .map(|statement| LOCK.replace("STATEMENT", &Literal(&statement).to_string()));
    let body = format!(
        "{} {} {UNCHANGED} {}",
        lock.unwrap_or_default(),
        published(database),
        Signal::Locked.give()
    );
    let block = batch::block(left, &declared(database), "", &body);
    let sql = format!(
        "{}; SET LOCAL lock_timeout = {}; {}",
        pause.begin_locks,
        left.as_millis().max(1),
        batch::answering(&block)
    );
    batch::send(
        StepName::Lock,
        format!("lock the published tables of {:?}", database.dbname()),
        &database.sessions.lock,
        sql,
    )
}

/// Reads the list of tables, as the batch will.
pub(in crate::cutover) fn rehearse(database: &Database) -> Result<Sent<'_>> {
    batch::rehearse(
        &database.sessions.lock,
        StepName::Lock,
        &declared(database),
        &format!("{} {UNCHANGED}", published(database)),
        &[Signal::Locked],
    )
}

fn published(database: &Database) -> String {
    // The user's name comes last: it may contain the other words.
    PUBLISHED
        .replace("QUALIFIED", QUALIFIED)
        .replace("STATUS", &Literal(status_table::NAME).to_string())
        .replace("PUBNAME", &Literal(&database.stream.pubname).to_string())
}

fn declared(database: &Database) -> String {
    let published = database.published.iter();
    let mut expected: Vec<String> = published.map(ToString::to_string).collect();
    expected.sort_unstable();
    format!(
        "now jsonb; expected CONSTANT jsonb := {};",
        Literal(serde_json::json!(expected).to_string())
    )
}

/// Who keeps the locks waiting.
const BLOCKING: &str = "
    SELECT DISTINCT blocker FROM unnest(waiting) w, unnest(pg_blocking_pids(w)) blocker WHERE blocker <> ALL (own)";

/// Ends whoever keeps the locks waiting. Autovacuum yields by itself and a superuser's session may: an administrator may end
/// neither. 0 is a prepared transaction, for which nobody can be ended.
///
/// The first look, before CONNECT is revoked, ends nobody: it is planned by then. The locks themselves are not looked for:
/// they may have become the fence, and gone, since the look before.
const UNBLOCK: &str = "
    LOOP
      locked := LOCKED;
      blocking := array(BLOCKING);
      IF NOT paused THEN
        PAUSED
        paused := true;
        since := clock_timestamp();
        CONTINUE;
      END IF;
      EXIT WHEN locked;
      nap := 0.005;
      FOREACH other IN ARRAY blocking
      LOOP
        IF other = 0 THEN
          RAISE EXCEPTION 'a prepared transaction holds them: %',
              (SELECT string_agg(gid, ', ' ORDER BY prepared) FROM pg_prepared_xacts WHERE database IN (SELECT jsonb_array_elements_text(dbnames)))
            USING HINT = 'COMMIT PREPARED or ROLLBACK PREPARED them in that database, then run the command again';
        END IF;
        BEGIN
          PERFORM pg_terminate_backend(other);
          ended := ended || other;
          nap := 0.001;
        EXCEPTION WHEN insufficient_privilege THEN
          stood := stood || other;
        END;
      END LOOP;
      IF clock_timestamp() > until THEN
        RAISE EXCEPTION 'the pause is longer than max_pause: sessions % stood in the way', array_to_string(array(SELECT DISTINCT pid FROM unnest(stood || ended) pid), ', ')
          USING ERRCODE = 'query_canceled';
      END IF;
      PERFORM pg_sleep(nap);
    END LOOP;
    answer := (SELECT to_jsonb(array(SELECT DISTINCT pid FROM unnest(ended) pid)));";

/// Sends the batch that clears the way for the locks of all databases.
pub(in crate::cutover) fn send_unblock<'a>(pause: &'a Pause<'_>) -> Result<Sent<'a>> {
    let body = UNBLOCK
        .replace("LOCKED", &have_been_locked(pause))
        .replace("BLOCKING", BLOCKING)
        .replace("PAUSED", &wait_for_paused(pause));
    let block = batch::block(
        pause.deadline.left(),
        &declared_to_unblock(pause),
        "",
        &body,
    );
    batch::send(
        StepName::Lock,
        "lock the published tables",
        &pause.sessions.unblock,
        batch::answering(&block),
    )
}

/// Until CONNECT is revoked; fails when the run is another's.
fn wait_for_paused(pause: &Pause<'_>) -> String {
    let step = journal::step_in_sql(pause.run());
    Signal::Revoked.await_from(
        pause.sessions.connect.backend.pid,
        "CONNECT was not revoked",
    ) + &format!(
        "IF {step} <> {} THEN RAISE EXCEPTION 'the run was ended by a guard or another flare'; END IF;",
        Literal(Step::Paused.as_str())
    )
}

/// Looks as the batch will, and ends nobody.
pub(in crate::cutover) fn rehearse_unblock<'a>(pause: &'a Pause<'_>) -> Result<Sent<'a>> {
    let looks = format!(
        "PERFORM {}; PERFORM FROM ({BLOCKING}) blocking; PERFORM {};",
        have_been_locked(pause),
        journal::step_in_sql(pause.run()),
    );
    batch::rehearse(
        &pause.sessions.unblock,
        StepName::Lock,
        &declared_to_unblock(pause),
        &looks,
        &[],
    )
}

fn declared_to_unblock(pause: &Pause<'_>) -> String {
    let waiting: Vec<String> = pause
        .databases
        .iter()
        .map(|database| database.sessions.lock.backend.pid.to_string())
        .collect();
    format!(
        "own CONSTANT int[] := {}; waiting CONSTANT int[] := '{{{}}}'; dbnames CONSTANT jsonb := {};
         ended int[] := '{{}}'; stood int[] := '{{}}'; paused boolean := false; locked boolean; blocking int[]; other int; nap float8;",
        own_pids(pause),
        waiting.join(","),
        Literal(serde_json::json!(pause.dbnames()).to_string()),
    )
}

/// True as soon as the locks of every database have been taken, whatever has become of them.
fn have_been_locked(pause: &Pause<'_>) -> String {
    let databases = pause.databases.iter();
    let locked: Vec<String> = databases
        .map(|it| Signal::Locked.given_by(it.sessions.lock.backend.pid))
        .collect();
    locked.join(" AND ")
}

/// True while every table of every database is locked; for the statement that must travel together with it.
pub(crate) fn still_stand(databases: &[Database]) -> String {
    let locks: Vec<String> = databases
        .iter()
        .filter(|it| !it.published.is_empty())
        .map(|it| format!("({}, {})", it.sessions.lock.backend.pid, it.published.len()))
        .collect();
    if locks.is_empty() {
        return "true".to_owned();
    }
    format!(
        "(SELECT count(*) FROM (VALUES {}) expected(pid, tables)
           JOIN (SELECT l.pid, count(*) AS locked FROM pg_locks l
                  WHERE l.locktype = 'relation' AND l.mode = 'ShareRowExclusiveLock' AND l.granted
                  GROUP BY l.pid) held ON held.pid = expected.pid AND held.locked >= expected.tables) = {}",
        locks.join(", "),
        locks.len()
    )
}
