//! What follows the rows in one transaction, for an administrator who may act for the owners in that one alone.

use std::time::Instant;

use super::{SHOW_EVERY, advise, made_not_valid, not_valid, violates_foreign_key};
use crate::error::{Result, WrapErr};
use crate::progress::Unit;
use crate::replicate::Run;
use crate::schema::{Kind, Statements};
use crate::server::{Session, interrupt};

/// Without superuser the subscriber is not closed before its subscription.
const BY_OWNER: &str = "";

/// A statement of the script, and what it makes.
struct InOrder {
    what: String,
    sql: String,
}

/// The script's statements; `None` where it holds text that is not UTF-8, which only psql can send.
fn in_order(script: &[u8]) -> Result<Option<Vec<InOrder>>> {
    let mut all = Vec::new();
    for item in Statements::new(script) {
        let item = item?;
        if item.kind != Kind::Statement {
            continue;
        }
        let what = match &item.entry {
            Some(entry) => format!("create {entry}"),
            None => format!("run {}", item.summary()),
        };
        let Ok(sql) = String::from_utf8(item.text) else {
            return Ok(None);
        };
        all.push(InOrder { what, sql });
    }
    Ok(Some(all))
}

/// Runs the script after `first`, all or nothing; `look` is called all along. Says what was made otherwise than on the
/// publisher; `None`: psql has to do it.
pub(in crate::copy) fn make_in_one(
    session: &Session,
    script: &[u8],
    first: &str,
    run: &Run,
    mut look: impl FnMut() -> Result<()>,
) -> Result<Option<Vec<String>>> {
    let Some(statements) = in_order(script)? else {
        return Ok(None);
    };
    let (total, mut notes) = (statements.len() as u64, Vec::new());
    let mut looked = Instant::now();
    session.batch("BEGIN")?;
    session.batch(first)?;
    for (done, statement) in statements.iter().enumerate() {
        notes.extend(statement.run(session)?);
        if looked.elapsed() >= SHOW_EVERY {
            interrupt::check()?;
            look()?;
            looked = Instant::now();
        }
        run.progress.advance(
            "create what follows the rows",
            done as u64,
            total,
            Unit::Items,
        );
    }
    session.batch("COMMIT")?;
    run.progress
        .advance("create what follows the rows", total, total, Unit::Items);
    Ok(Some(notes))
}

impl InOrder {
    /// A foreign key that rows violate is made NOT VALID.
    fn run(&self, session: &Session) -> Result<Option<String>> {
        let Some(unchecked) = not_valid(&self.sql) else {
            let made = session.batch(&self.sql).wrap_err_with(|| self.what.clone());
            return made
                .or_else(|report| advise(report, BY_OWNER))
                .map(|()| None);
        };
        session.batch("SAVEPOINT flare")?;
        let made = session.batch(&self.sql).wrap_err_with(|| self.what.clone());
        let Err(report) = made else {
            return session.batch("RELEASE flare").map(|()| None);
        };
        if !violates_foreign_key(&report) {
            return advise(report, BY_OWNER).map(|()| None);
        }
        session.batch("ROLLBACK TO flare")?;
        if session.batch(&unchecked).is_err() {
            return advise(report, BY_OWNER).map(|()| None);
        }
        session.batch("RELEASE flare")?;
        let what = self.what.trim_start_matches("create ");
        Ok(Some(made_not_valid(what, &report)))
    }
}
