//! The way back: built and proven before the pause, started after the switch.

use std::time::Duration;

use super::deadline::Deadline;
use super::probe::Probe;
use crate::config::Config;
use crate::error::{Failure, Result, WrapErr};
use crate::journal::{Direction, Entry, Member};
use crate::replicate::Run;
use crate::replicate::options::Options;
use crate::replicate::reverse::{self, Reverse};
use crate::server::Pair;

/// How long the first row may take on its way back.
const FIRST_ROW: Duration = Duration::from_secs(15);

/// Builds it beside the running stream; it stands still. `pair` has *from* as its publisher.
pub(super) fn build(
    pair: &Pair,
    config: &Config,
    entry: &Entry,
    member: &Member,
    run: &Run,
) -> Result<()> {
    let running = member.stream(entry.direction);
    let stream = member.stream(entry.direction.flipped());
    let back = pair.reversed();
    // The way back of a fallback is the configuration's own subscription.
    let options = match entry.direction {
        Direction::Forward => String::new(),
        Direction::Back => {
            let mut declared = config.subscription(&member.subname)?.options.clone();
            // Nothing is copied, and what comes from elsewhere is never sent back.
            declared.retain(|name, _| !["copy_data", "origin"].contains(&name.as_str()));
            Options::read(&member.subname, &declared, back.subscriber.major())?.sql
        }
    };
    reverse::create(
        &back,
        &Reverse {
            dbname: &stream.dbname,
            subname: &stream.subname,
            pubname: &stream.pubname,
            running_pubname: &running.pubname,
            options: &options,
        },
        run,
    )
}

/// Starts it at the mark, and waits until a row has come back.
pub(super) fn start(pair: &Pair, entry: &Entry, member: &Member) -> Result<()> {
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
        writer: &to.enter(&stream.dbname)?,
        reader: &from.enter(&stream.dbname)?,
        identifier: to.identifier(),
    };
    probe
        .send(&Deadline::after(FIRST_ROW))
        .map(drop)
        .wrap_err_with(|| format!("wait for the first row of {:?}", stream.subname))
}
