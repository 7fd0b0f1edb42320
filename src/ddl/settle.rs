//! A statement whose flare has died: `txid_status` says what became of it on each side, and the side that lacks it gets it.

use std::time::{Duration, Instant};

use super::barrier;
use super::kind::First;
use super::outside::{self, Begun};
use super::record::{self, Record, Stage};
use super::sides::Sides;
use super::tables::fence_new;
use crate::error::{Advise, Failure, Result, WrapErr};
use crate::replicate::Run;
use crate::schema::redact;
use crate::server::{Session, interrupt, params};

/// How long a transaction whose client has gone may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

const NEITHER: &str = "neither side has it";

/// What became of the statements of earlier runs.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// In words.
    pub(super) notes: Vec<String>,
    /// Those that both sides have.
    pub(super) done: Vec<String>,
}

/// Finishes what earlier runs have left in this database.
pub(super) fn settle(sides: &Sides<'_>, run: &Run) -> Result<Settled> {
    let mut settled = Settled::default();
    let admin = sides.pair.publisher.admin();
    for record in record::unfinished(admin, sides.config, sides.dbname())? {
        let shown = redact(&record.statement);
        let became = settle_one(sides, &record, run)
            .wrap_err_with(|| format!("finish the statement of an earlier run: {shown}"))?;
        settled
            .notes
            .push(format!("an earlier run of {shown}: {became}"));
        if became != NEITHER {
            settled.done.push(record.statement);
        }
    }
    Ok(settled)
}

fn settle_one(sides: &Sides<'_>, record: &Record, run: &Run) -> Result<&'static str> {
    let admin = sides.pair.publisher.admin();
    if record.outside && record.stage == Stage::Begun {
        sides.act_as(&record.role)?;
        for session in [&sides.open, &sides.receiving] {
            sides.settle_in(session, &record.settings)?;
        }
        let first = if record.open_first {
            First::Open
        } else {
            First::Receiving
        };
        outside::carry_out(sides, record, first, Begun::Earlier, run)?;
        return Ok("finished on both sides");
    }
    let open = committed(&sides.open, record.open_xid.as_deref())?;
    let rows = record.receiving.is_empty();
    let receiving = if rows {
        open
    } else {
        committed(&sides.receiving, record.receiving_xid.as_deref())?
    };
    let became = match (open, receiving) {
        (false, false) => {
            sides.act_as(&record.role)?;
            sides.settle_in(&sides.receiving, &record.settings)?;
            barrier::lift(&sides.receiving)?;
            record::ended(admin, record.id, Stage::Undone)?;
            return Ok(NEITHER);
        }
        (true, true) => "both sides have it",
        (true, false) => {
            finish(sides, record, &sides.receiving, run).hint(|| {
                format!(
                    "the {} alone has it, and apply waits for it: mend what the {} says, or run the statement there by hand, then {} --retry",
                    sides.pair.publisher.side(),
                    sides.pair.subscriber.side(),
                    sides.again()
                )
            })?;
            "the receiving side lacked it, and has it now"
        }
        (false, true) => {
            finish(sides, record, &sides.open, run).hint(|| {
                format!(
                    "the {} alone has it: mend what the {} says, or take it back on the {} by hand, then {} --retry",
                    sides.pair.subscriber.side(),
                    sides.pair.publisher.side(),
                    sides.pair.subscriber.side(),
                    sides.again()
                )
            })?;
            "the open side lacked it, and has it now"
        }
    };
    record::ended(admin, record.id, Stage::Done)?;
    Ok(became)
}

/// Runs it on the side that lacks it, its transaction on record before it commits.
fn finish(sides: &Sides<'_>, record: &Record, session: &Session, run: &Run) -> Result<()> {
    sides.act_as(&record.role)?;
    sides.settle_in(session, &record.settings)?;
    let on_open = std::ptr::eq(session, &sides.open);
    run.ddl.retry(session, || {
        session.batch("BEGIN READ WRITE")?;
        if !on_open {
            barrier::lift(session)?;
        }
        session.batch(if on_open {
            &record.statement
        } else {
            &record.receiving
        })?;
        if !on_open {
            fence_new(session)?;
        }
        let xid: String = session.value("SELECT txid_current()::text", params![])?;
        let other = |xid: &Option<String>| xid.clone().unwrap_or_default();
        let (open, receiving) = if on_open {
            (xid, other(&record.receiving_xid))
        } else {
            (other(&record.open_xid), xid)
        };
        record::committing(sides.pair.publisher.admin(), record.id, &open, &receiving)?;
        session.batch("COMMIT")
    })
}

/// Whether a transaction has committed; one that is still at its end is awaited.
fn committed(session: &Session, xid: Option<&str>) -> Result<bool> {
    let Some(xid) = xid.filter(|xid| !xid.is_empty()) else {
        return Ok(false);
    };
    let since = Instant::now();
    loop {
        let status: Option<String> = session
            .value("SELECT txid_status($1::bigint)", params![xid])
            .wrap_err("ask what became of a transaction")?;
        match status.as_deref() {
            Some("committed") => return Ok(true),
            Some("aborted") => return Ok(false),
            None => {
                return Failure::new(format!("the server no longer knows transaction {xid}"))
                    .hint("compare both sides by hand (flare lag names what differs), then DELETE FROM flare.statement the line of it, in the database postgres")
                    .err();
            }
            Some(_) if since.elapsed() > ENDS_WITHIN => {
                return Failure::new(format!("transaction {xid} has not ended yet"))
                    .hint("the statement still runs there: wait, or end its session (application_name flare/ddl), and run the command again")
                    .err();
            }
            Some(_) => interrupt::sleep(Duration::from_millis(50))?,
        }
    }
}
