//! `flare.ddl`, as both sides have it: what was recorded on the open side, and what became of it on the other one.

use std::time::{Duration, Instant};

use postgres::error::SqlState;
use serde::{Deserialize, Serialize};

use super::script::shown;
use crate::catalog::subscriptions;
use crate::error::{Failure, Result, WrapErr, message_of};
use crate::server::{Param, Session, interrupt, is_lost, params, sqlstate_of};
use crate::value::{ShellWord, TableName};

/// The table, in schema flare.
pub(super) const RECORD: &str = "ddl";

/// How long a statement may be on its way before it counts.
const COMES_WITHIN: Duration = Duration::from_secs(10);

const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'flare' AND c.relname = 'ddl')";

/// In a block of the open side: what was recorded there, how many and the last, into `statements`; null where nothing is
/// carried, and the account need not have the schema's privilege.
pub(crate) const COUNTED: &str = "
    IF EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'flare' AND c.relname = 'ddl') THEN
      EXECUTE 'SELECT jsonb_build_object(''count'', count(*), ''last'', coalesce(max(id), 0)) FROM flare.ddl WHERE id > 0' INTO statements;
    END IF;";

/// In a block of the receiving side, with `payload` of the open one: fails unless all of it has come and none has failed.
pub(crate) const ALL_HAVE_COME: &str = "
    IF jsonb_typeof(payload -> 'statements') = 'object' THEN
      FOR r IN EXECUTE 'SELECT id, tag, CASE outcome WHEN ''failed'' THEN ''has failed here and was passed over'' ELSE ''has left foreign keys unvalidated here'' END AS what
                          FROM flare.ddl WHERE id > 0 AND outcome IN (''failed'', ''unvalidated'') ORDER BY id LIMIT 1' LOOP
        RAISE EXCEPTION 'statement % (%) %', r.id, r.tag, r.what
          USING HINT = format('flare status has its text and error; flare ddl --retry when its cause is mended, --skip %s, or --replace %s ''SQL''', r.id, r.id);
      END LOOP;
      EXECUTE 'SELECT jsonb_build_object(''count'', count(*), ''last'', coalesce(max(id), 0)) FROM flare.ddl WHERE id > 0' INTO statements;
      IF statements <> payload -> 'statements' THEN
        RAISE EXCEPTION 'not every statement that was run while the data was replicated is here: % of %, the last is number % of %',
            statements ->> 'count', payload -> 'statements' ->> 'count', statements ->> 'last', payload -> 'statements' ->> 'last'
          USING HINT = 'flare status says which';
      END IF;
    END IF;";

/// A statement that the other side does not have as the open side has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckStatement {
    /// Its number in `flare.ddl`.
    pub id: i64,
    /// When it was run.
    pub at: String,
    /// Who ran it.
    pub role: String,
    /// `ALTER TABLE` and the like.
    pub tag: String,
    /// The statement.
    pub statement: String,
    /// Why the other side refuses it; none: it has not come yet, waits for another, or would go now.
    pub error: Option<String>,
    /// Whether apply waits for it: rows depend on it. Else it was passed over.
    pub stops: bool,
}

impl StuckStatement {
    /// For people, with what can be done.
    pub(crate) fn in_words(&self, dbname: &str) -> String {
        let StuckStatement {
            id,
            at,
            role,
            statement,
            ..
        } = self;
        let (statement, target) = (shown(statement), ShellWord(dbname));
        let decide = format!(
            "flare ddl {target} --retry when its cause is mended, --skip {id}, or --replace {id} 'SQL'"
        );
        match (&self.error, self.stops) {
            (Some(error), true) => format!(
                "statement {id} of {role:?} at {at} fails on the other side, and apply waits for it: {statement}: {error} ({decide})"
            ),
            (None, true) => {
                format!("statement {id} has not come to the other side yet: {statement}")
            }
            (error, false) => format!(
                "statement {id} of {role:?} at {at} has failed on the other side and was passed over: {statement}: {} ({decide})",
                error.as_deref().unwrap_or_default()
            ),
        }
    }
}

const ROWS: &str = "
    SELECT jsonb_build_object('id', id, 'at', at, 'role', role, 'tag', tag, 'statement', text, 'error', error, 'stops', false)
      FROM flare.ddl";

/// Whether a side carries statements, or receives them.
pub(super) fn is_there(session: &Session) -> Result<bool> {
    session.value(EXISTS, params![])
}

/// Waits until the subscription follows the table.
pub(super) fn until_followed(receiving: &Session, subname: &str) -> Result<()> {
    const WITHIN: Duration = Duration::from_secs(60);
    let since = Instant::now();
    let record = TableName::new("flare", RECORD);
    loop {
        let relations = subscriptions::relations(receiving, subname)?;
        if relations
            .iter()
            .any(|it| it.name == record && it.srsubstate == 'r')
        {
            return Ok(());
        }
        if since.elapsed() > WITHIN {
            return Failure::new(
                "wait until the subscription follows flare.ddl: it still does not",
            )
            .hint("flare lag says whether it is stopped; then run the command again")
            .err();
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
}

/// Statements of the open side that the other one lacks, the first with the reason; and those that it passed over.
///
/// # Errors
/// When a side cannot be asked.
pub(crate) fn stuck(open: &Session, receiving: &Session) -> Result<Vec<StuckStatement>> {
    Ok(stuck_where_carried(open, receiving)?.unwrap_or_default())
}

/// The same; none where statements are not carried.
pub(crate) fn stuck_where_carried(
    open: &Session,
    receiving: &Session,
) -> Result<Option<Vec<StuckStatement>>> {
    if !is_there(open)? || !is_there(receiving)? {
        return Ok(None);
    }
    let here = received(receiving)?;
    let mut stuck: Vec<StuckStatement> = receiving
        .list(
            &format!("{ROWS} WHERE id > 0 AND (outcome = 'failed' OR outcome = 'unvalidated' AND error IS NOT NULL) ORDER BY id"),
            params![],
        )
        .wrap_err("read flare.ddl of the receiving side")?;
    let mut lacking: Vec<StuckStatement> = open
        .list(
            &format!("{ROWS} WHERE id > 0 AND id <> ALL ($1) ORDER BY id"),
            params![here],
        )
        .wrap_err("read flare.ddl of the open side")?;
    for statement in &mut lacking {
        statement.stops = true;
    }
    why_not(open, receiving, &mut lacking)?;
    // What apply has brought meanwhile was refused as something that is there already.
    if lacking.iter().any(|it| it.error.is_some()) {
        let here = received(receiving)?;
        lacking.retain(|it| !here.contains(&it.id));
    }
    stuck.extend(lacking);
    Ok(Some(stuck))
}

/// The numbers of those that have come.
fn received(receiving: &Session) -> Result<Vec<i64>> {
    receiving
        .value(
            "SELECT coalesce(array_agg(id), '{}') FROM flare.ddl WHERE id > 0",
            params![],
        )
        .wrap_err("read flare.ddl of the receiving side")
}

/// Whether foreign keys wait there until the rows that they refer to have been copied.
pub(crate) fn leaves_unvalidated(receiving: &Session) -> Result<bool> {
    if !is_there(receiving)? {
        return Ok(false);
    }
    let waits = "SELECT EXISTS (SELECT FROM flare.ddl WHERE id > 0 AND outcome = 'unvalidated')";
    receiving
        .value(waits, params![])
        .wrap_err("read flare.ddl of the receiving side")
}

/// Validates them; what cannot be is a statement that has failed.
pub(super) fn validate(receiving: &Session) -> Result<()> {
    let waiting: Vec<i64> = receiving
        .list(
            "SELECT to_jsonb(id) FROM flare.ddl WHERE id > 0 AND outcome = 'unvalidated' ORDER BY id",
            params![],
        )
        .wrap_err("read flare.ddl of the receiving side")?;
    for id in waiting {
        let Err(report) = as_apply(receiving, "SELECT flare.ddl_validate($1)", params![id]) else {
            continue;
        };
        if is_lost(&report) {
            return Err(report);
        }
        as_apply(
            receiving,
            "UPDATE flare.ddl SET error = $2 WHERE id = $1",
            params![id, message_of(&report)],
        )?;
    }
    Ok(())
}

/// In a transaction that the fence lets pass.
pub(super) fn as_apply(receiving: &Session, sql: &str, params: Vec<Param>) -> Result<()> {
    receiving.batch("BEGIN READ WRITE; SET LOCAL session_replication_role = replica")?;
    let ran = receiving.execute(sql, params);
    if ran.is_ok() {
        return receiving.batch("COMMIT");
    }
    receiving.batch("ROLLBACK")?;
    ran.map(drop)
}

/// The same, when what is only on its way has had time to come.
pub(crate) fn stuck_for_good(open: &Session, receiving: &Session) -> Result<Vec<StuckStatement>> {
    let since = Instant::now();
    loop {
        let found = stuck(open, receiving)?;
        let on_the_way = found.iter().any(|it| it.stops)
            && found
                .iter()
                .filter(|it| it.stops)
                .all(|it| it.error.is_none());
        if !on_the_way || since.elapsed() > COMES_WITHIN {
            return Ok(found);
        }
        interrupt::sleep(Duration::from_millis(100))?;
    }
}

/// A row of the open side, to be inserted here as apply would.
pub(super) fn inserting(open: &Session, id: i64) -> Result<serde_json::Value> {
    let row: Option<serde_json::Value> = open
        .first(
            "SELECT to_jsonb(d) FROM flare.ddl d WHERE id = $1",
            params![id],
        )
        .wrap_err("read flare.ddl of the open side")?;
    Ok(row.ok_or_else(|| Failure::new(format!("there is no statement {id} in flare.ddl")))?)
}

/// How long is tried in all.
const TRIED_FOR: Duration = Duration::from_secs(2);

/// Without what `flare.ddl_apply()` adds for the server's log.
fn without_the_statement(message: &str, statement: &str) -> String {
    let message = message
        .strip_suffix(" (HINT: flare status says what can be done.)")
        .unwrap_or(message);
    let shown: String = statement.chars().take(2000).collect();
    message
        .strip_suffix(&format!(" (DETAIL: {shown})"))
        .unwrap_or(message)
        .to_owned()
}

/// Runs them here as apply would, in their order, until one fails, and takes them back: those of one transaction come
/// together, and any of them stops it.
fn why_not(open: &Session, receiving: &Session, lacking: &mut [StuckStatement]) -> Result<()> {
    if lacking.is_empty() {
        return Ok(());
    }
    receiving.batch(
        "BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '10s'",
    )?;
    let since = Instant::now();
    for statement in lacking {
        let row = inserting(open, statement.id)?;
        let tried = receiving.execute(
            "INSERT INTO flare.ddl SELECT * FROM jsonb_populate_record(NULL::flare.ddl, $1)",
            params![row],
        );
        if let Err(report) = tried {
            if is_lost(&report) {
                return Err(report);
            }
            // One that only waits, for apply perhaps, has not failed.
            let waits = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED];
            if !sqlstate_of(&report).is_some_and(|state| waits.contains(state)) {
                statement.error = Some(without_the_statement(
                    &message_of(&report),
                    &statement.statement,
                ));
            }
            break;
        }
        if since.elapsed() > TRIED_FOR {
            break;
        }
    }
    receiving.batch("ROLLBACK")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_repeat_the_statement() {
        let statement = "ALTER TABLE t ADD n int";
        let said = "ERROR: flare: statement 1 (ALTER TABLE) fails here: it exists (DETAIL: ALTER TABLE t ADD n int) (HINT: flare status says what can be done.)";
        assert_eq!(
            without_the_statement(said, statement),
            "ERROR: flare: statement 1 (ALTER TABLE) fails here: it exists"
        );
        assert_eq!(without_the_statement("timeout", statement), "timeout");
    }
}
