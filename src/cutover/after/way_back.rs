//! The way back starts at the mark, once *to* is open.

use std::time::Duration;

use crate::cutover::deadline::Deadline;
use crate::cutover::probe::Probe;
use crate::error::{Failure, Result, WrapErr};
use crate::journal::{Entry, Member};
use crate::replicate::{reverse, status_table};
use crate::server::{ActAs, Pair};

/// How long the first row may take on its way back.
const FIRST_ROW: Duration = Duration::from_secs(15);

/// Starts it at the mark, and waits until a row has come back.
pub(in crate::cutover) fn start(pair: &Pair, entry: &Entry, member: &Member) -> Result<()> {
    let stream = member.stream(entry.direction.flipped());
    let mark = member.mark.ok_or_else(|| {
        Failure::new(format!(
            "start the way back of {:?}: the journal has no mark",
            member.dbname
        ))
    })?;
    let back = pair.reversed();
    reverse::start(&back, &stream.dbname, &stream.subname, mark)?;
    let (from, to) = (&pair.publisher, &pair.subscriber);
    let probe = Probe {
        writer: &*to.visit_as(ActAs::Tables, &stream.dbname)?,
        reader: &*from.visit_as(ActAs::Tables, &stream.dbname)?,
        identifier: to.identifier(),
        table: status_table::table(to),
    };
    probe
        .send(&Deadline::after(FIRST_ROW))
        .map(drop)
        .wrap_err_with(|| format!("wait for the first row of {:?}", stream.subname))
}
