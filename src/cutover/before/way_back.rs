//! The way back is built and proven before the pause; it starts after the switch.

use crate::config::Config;
use crate::error::Result;
use crate::journal::{Direction, Entry, Member};
use crate::replicate::Run;
use crate::replicate::options::Options;
use crate::replicate::reverse::{self, Reverse};
use crate::server::Pair;

/// Builds it beside the running stream; it stands still. `pair` has *from* as its publisher.
pub(in crate::cutover) fn build(
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
        // Who applies there is decided as on the way forward; the rest is the subscriber's alone.
        Direction::Forward => {
            let declared = config.subscription(&member.subname)?;
            if declared.has_on("run_as_owner") && back.subscriber.major() >= 16 {
                ", run_as_owner = true".to_owned()
            } else {
                String::new()
            }
        }
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
