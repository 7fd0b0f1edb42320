//! After the switch, without haste: the application does not wait for any of it.

mod answer;
mod fence;
mod way_back;

use std::time::Duration;

use postgres::Client;

pub(super) use self::fence::{Locks, fence_from};
use crate::catalog::subscriptions;
use crate::config::Config;
use crate::cutover::clients;
use crate::cutover::clients::hooks::Moment;
use crate::cutover::deadline::Deadline;
use crate::cutover::failpoint;
use crate::error::{Result, WrapErr, message_of};
use crate::journal::{self, Direction, Entry, Member, Transition};
use crate::replicate::{Run, closed, reverse, unsubscribe};
use crate::server::{Pair, Publisher, Server, Timeout, is_lost};

/// What came of the part that the application does not wait for.
pub(in crate::cutover) struct After {
    /// Whether a row has come back on every way back.
    pub(in crate::cutover) way_back_runs: bool,
    /// What only concerns clients, or the way back.
    pub(in crate::cutover) warnings: Vec<String>,
}

/// How long a server that was just opened may take to say that it is there.
const ANSWERS_WITHIN: Timeout = Timeout::For(Duration::from_secs(3));

/// After the switch, without haste: the fence, the end of the old stream, the beginning of the way back.
///
/// A way back that cannot start is no dead end: the switch is done, and what is in its way is said.
pub(in crate::cutover) fn after(
    pair: &Pair,
    config: &Config,
    entry: &Entry,
    locks: Locks<'_>,
    run: &Run,
) -> Result<After> {
    let (from, to) = (&pair.publisher, &pair.subscriber);
    journal::advance(from.admin(), entry.run, Transition::HearOfOpening)?;
    reached("fence")?;
    fence_from(from, entry, locks)?;
    let answered = match answer::answer(from, config, entry) {
        Err(report) if is_lost(&report) => return Err(report),
        answered => answered,
    };
    // What follows would wait for it, one statement after another.
    answers(to).wrap_err("go on with the server that was opened")?;
    reached("retire")?;
    // Privileges that cannot be given back keep nobody from the way back.
    let refused = answered.err().map(|report| {
        format!(
            "the server that was left does not answer clients: {}",
            message_of(&report)
        )
    });
    let mut after = After {
        way_back_runs: entry.reverse,
        warnings: refused.into_iter().collect(),
    };
    for member in &entry.databases {
        retire(pair, entry, member, run)?;
        if entry.reverse {
            reached("way_back")?;
            exempt_way_back(from, entry, member)?;
            if let Err(report) = way_back::start(pair, entry, member) {
                // Of a server that is frozen nothing is known.
                answers(to).and_then(|()| answers(from))?;
                after.way_back_runs = false;
                after.warnings.push(format!(
                    "THE WAY BACK DOES NOT RUN: {}; its subscription goes on trying (flare lag), flare fallback refuses until it follows, and flare cleanup gives it up",
                    message_of(&report)
                ));
            }
        }
        // Where *to* was closed, its fence is open by now, and nobody needs it.
        let opened = closed::open(to, &member.dbname, run)?;
        after.warnings.extend(opened.notes);
    }
    reached("close")?;
    journal::advance(to.admin(), entry.run, Transition::Close)?;
    journal::advance(from.admin(), entry.run, Transition::Close)?;
    let hook = clients::run_hooks(config, entry, Moment::AfterSwitch, None);
    after.warnings.extend(hook.err().iter().map(message_of));
    Ok(after)
}

fn answers(server: &Server) -> Result<()> {
    let asked = |client: &mut Client| client.batch_execute("SELECT 1");
    server.admin().run_for(ANSWERS_WITHIN, asked)
}

/// What comes after the switch can be made to stop by tests, too.
fn reached(part: &str) -> Result<()> {
    failpoint::before(part, &Deadline::after(Duration::from_secs(5)))
}

/// The subscription of the way back is exempt from the default that keeps others read-only: triggers that write under apply
/// would stop it.
fn exempt_way_back(from: &Publisher, entry: &Entry, member: &Member) -> Result<()> {
    let back = member.stream(entry.direction.flipped());
    let follower = from.as_subscriber();
    let Some(found) = subscriptions::find(&*from.visit(&back.dbname)?, &back.subname)? else {
        return Ok(());
    };
    let login = unsubscribe::login_of(&follower, &found);
    closed::exempt(from, &back.dbname, (&found.owner, login))
}

/// The stream that ran before the switch ends: its subscription on *to*, its slot on *from*.
fn retire(pair: &Pair, entry: &Entry, member: &Member, run: &Run) -> Result<()> {
    let stream = member.stream(entry.direction);
    reverse::remove(pair, &stream.dbname, &stream.subname, run)
        .wrap_err_with(|| format!("end the stream {:?}", stream.subname))?;
    match entry.direction {
        Direction::Forward => Ok(()),
        // The configuration's publication stays; what flare made for the way back does not.
        Direction::Back => reverse::unpublish(&pair.publisher, &stream.dbname, &stream.pubname),
    }
}
