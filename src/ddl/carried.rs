//! `flare.ddl`, as both sides have it: what was recorded on the open side, and what became of it on the other one.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::script::shown;
use crate::catalog::subscriptions;
use crate::error::{Failure, Result, WrapErr, message_of};
use crate::server::{Session, interrupt, is_lost, params};
use crate::value::{ShellWord, TableName};

/// The table, in schema flare.
pub(super) const RECORD: &str = "ddl";

/// How long a statement may be on its way before it counts.
const COMES_WITHIN: Duration = Duration::from_secs(10);

const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'flare' AND c.relname = 'ddl')";

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
    /// Why the other side refuses it; none: it has not come yet, or would go now.
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
    if !is_there(open)? || !is_there(receiving)? {
        return Ok(Vec::new());
    }
    let here: Vec<i64> = receiving
        .value(
            "SELECT coalesce(array_agg(id), '{}') FROM flare.ddl WHERE id > 0",
            params![],
        )
        .wrap_err("read flare.ddl of the receiving side")?;
    let mut stuck: Vec<StuckStatement> = receiving
        .list(
            &format!("{ROWS} WHERE id > 0 AND outcome = 'failed' ORDER BY id"),
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
    if let Some(first) = lacking.first_mut() {
        first.error = try_here(open, receiving, first.id)?;
    }
    stuck.extend(lacking);
    Ok(stuck)
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

/// Runs it here as apply would, and takes it back; why it fails.
fn try_here(open: &Session, receiving: &Session, id: i64) -> Result<Option<String>> {
    let row = inserting(open, id)?;
    receiving.batch(
        "BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '10s'",
    )?;
    let tried = receiving.execute(
        "INSERT INTO flare.ddl SELECT * FROM jsonb_populate_record(NULL::flare.ddl, $1)",
        params![row],
    );
    if let Err(report) = &tried
        && is_lost(report)
    {
        return Err(tried.unwrap_err());
    }
    receiving.batch("ROLLBACK")?;
    Ok(tried.err().map(|report| message_of(&report)))
}
