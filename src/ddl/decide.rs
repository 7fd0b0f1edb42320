//! What a person decides about a carried statement that fails on the receiving side.

use std::time::{Duration, Instant};

use super::carried::{StuckStatement, as_apply, inserting, is_there, stuck};
use super::sides::Sides;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Session, interrupt, params};
use crate::value::ShellWord;

/// The decision about one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The receiving side goes without it.
    Skip,
    /// It runs this instead.
    Replace(String),
}

/// Apply begins again by itself after wal_retrieve_retry_interval, 5 s.
const APPLIED_WITHIN: Duration = Duration::from_secs(30);

/// Runs what was passed over again, and waits for what apply stops at; what was done, in words.
pub(super) fn retry(sides: &Sides<'_>) -> Result<Vec<String>> {
    let (open, receiving) = sides.records();
    let mut words = Vec::new();
    let left = stuck(open, receiving)?;
    let (lacking, passed_over): (Vec<_>, Vec<_>) = left.iter().partition(|it| it.stops);
    for StuckStatement { id, tag, .. } in passed_over {
        run_here(receiving, *id, None, "done")
            .wrap_err_with(|| format!("run statement {id} ({tag}) again"))?;
        words.push(format!("statement {id} ({tag}) is done now"));
    }
    if let Some((statement, error)) = failing(&left) {
        return still_fails(sides, statement, error);
    }
    for StuckStatement { id, tag, .. } in lacking {
        await_applied(sides, *id)?;
        words.push(format!("statement {id} ({tag}) is done now"));
    }
    Ok(words)
}

/// What apply stops at, and why.
fn failing(left: &[StuckStatement]) -> Option<(&StuckStatement, &String)> {
    let mut stopping = left.iter().filter(|it| it.stops);
    stopping.find_map(|it| it.error.as_ref().map(|error| (it, error)))
}

/// Carries a decision out.
pub(super) fn decide(sides: &Sides<'_>, id: i64, decision: &Decision) -> Result<Vec<String>> {
    let (open, receiving) = sides.records();
    if !is_there(open)? || !is_there(receiving)? {
        return Failure::new("statements of this database are not carried")
            .hint(
                "ddl: carry in the configuration, then flare create_subscription, has them carried",
            )
            .err();
    }
    let outcome: Option<Option<String>> = receiving
        .first(
            "SELECT to_jsonb(outcome) FROM flare.ddl WHERE id = $1",
            params![id],
        )
        .wrap_err("read flare.ddl of the receiving side")?;
    let done = match decision {
        Decision::Skip => "skipped",
        Decision::Replace(_) => "replaced",
    };
    match outcome.as_ref().map(Option::as_deref) {
        Some(Some("failed" | "unvalidated")) => match decision {
            Decision::Skip => as_apply(
                receiving,
                "UPDATE flare.ddl SET outcome = 'skipped' WHERE id = $1",
                params![id],
            )?,
            Decision::Replace(sql) => run_here(receiving, id, Some(sql), done)?,
        },
        Some(outcome) => {
            return Failure::new(format!(
                "statement {id} is {} on the receiving side: there is nothing to decide",
                outcome.unwrap_or("done")
            ))
            .err();
        }
        None => {
            write_down(open, receiving, id, decision)?;
            await_applied(sides, id)?;
        }
    }
    Ok(vec![format!("statement {id} is {done}")])
}

/// The decision, for apply to find: row `-id`.
fn write_down(open: &Session, receiving: &Session, id: i64, decision: &Decision) -> Result<()> {
    let mut row = inserting(open, id)?;
    let (outcome, text) = match decision {
        Decision::Skip => ("skip", None),
        Decision::Replace(sql) => ("replace", Some(sql)),
    };
    row["id"] = (-id).into();
    row["outcome"] = outcome.into();
    if let Some(text) = text {
        row["text"] = text.as_str().into();
    }
    receiving.batch("BEGIN; SET LOCAL session_replication_role = replica")?;
    receiving
        .execute("DELETE FROM flare.ddl WHERE id = $1", params![-id])
        .wrap_err("write the decision down")?;
    receiving
        .execute(
            "INSERT INTO flare.ddl SELECT * FROM jsonb_populate_record(NULL::flare.ddl, $1)",
            params![row],
        )
        .wrap_err("write the decision down")?;
    receiving.batch("COMMIT")
}

/// Runs a statement that apply has passed over, or another instead of it, as apply would.
fn run_here(receiving: &Session, id: i64, instead: Option<&str>, done: &str) -> Result<()> {
    receiving.batch("BEGIN; SET LOCAL session_replication_role = replica")?;
    // Of what is left unvalidated the rest is done.
    let ran = receiving.execute(
        "SELECT flare.ddl_validate(id) FROM flare.ddl WHERE id = $1 AND outcome = 'unvalidated' AND $2::text IS NULL",
        params![id, instead.map(str::to_owned)],
    );
    let ran = ran.and_then(|_| {
        receiving.execute(
        "SELECT flare.ddl_sandbox(role, flare.ddl_in_transaction(tag, coalesce($2, text)), settings)
           FROM flare.ddl WHERE id = $1 AND (outcome = 'failed' OR $2 IS NOT NULL)",
        params![id, instead.map(str::to_owned)],
    )
    });
    let ran = ran.and_then(|_| {
        receiving.execute(
            "UPDATE flare.ddl SET outcome = $2, error = NULL WHERE id = $1",
            params![id, done],
        )
    });
    if ran.is_ok() {
        return receiving.batch("COMMIT");
    }
    receiving.batch("ROLLBACK")?;
    ran.map(drop)
}

fn still_fails(sides: &Sides<'_>, statement: &StuckStatement, error: &str) -> Result<Vec<String>> {
    let StuckStatement { id, statement, .. } = statement;
    let target = ShellWord(sides.dbname());
    Failure::new(format!("statement {id} still fails: {statement}: {error}"))
        .hint(format!(
            "mend its cause (a role that was made since: flare replicate_roles), flare ddl {target} --skip {id}, or flare ddl {target} --replace {id} 'SQL'"
        ))
        .err()
}

/// Waits until apply has taken the statement.
fn await_applied(sides: &Sides<'_>, id: i64) -> Result<()> {
    let since = Instant::now();
    loop {
        let there: bool = sides.records().1.value(
            "SELECT EXISTS (SELECT FROM flare.ddl WHERE id = $1)",
            params![id],
        )?;
        if there {
            return Ok(());
        }
        if since.elapsed() > APPLIED_WITHIN {
            let (open, receiving) = sides.records();
            let left = stuck(open, receiving)?;
            return match failing(&left) {
                Some((statement, error)) => still_fails(sides, statement, error).map(drop),
                None => Failure::new(format!(
                    "wait until apply has taken statement {id}: it still has not"
                ))
                .hint("flare lag says whether the subscription is stopped or behind")
                .err(),
            };
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
}
