//! A copy that nobody goes on with: its snapshot and its record go, the tables stay as they are.

use super::{holder, record};
use crate::error::{Result, message_of};
use crate::replicate::{Change, Mode, Plan, Run, status_table};
use crate::server::{ActAs, Publisher, Server, Side, Subscriber};

/// Takes an interrupted copy off the record of a database, and ends the session that keeps its snapshot. Its slot is the
/// subscription's.
pub(crate) fn give_up(
    subscriber: &Subscriber,
    publisher: &Result<Publisher>,
    dbname: &str,
    run: &Run,
) -> Result<Change> {
    let server: &Server = subscriber;
    if !status_table::has_database(server, dbname)? {
        return Ok(Change::none(run));
    }
    let control = subscriber.connect(ActAs::Tables, dbname)?;
    let Some(recorded) = record::read(&control)? else {
        return Ok(Change::none(run));
    };
    let mut plan = Plan::new(Side::Subscriber, dbname);
    plan.step(
        format!("give up the copy that began {}", recorded.began_at),
        record::FORGET,
    );
    plan.note("rows that it has brought stay in their tables");
    if run.mode == Mode::Apply {
        record::end_work(&control)?;
        if let (Ok(publisher), Some(holder)) = (publisher, &recorded.holder)
            && let Err(report) = holder::end(publisher.admin(), holder)
        {
            log::warn!("{}", message_of(&report));
        }
    }
    plan.carry_out_by(run, |_| record::forget(&control))
}
