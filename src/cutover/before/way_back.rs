//! The way back is built and proven before the pause; it starts after the switch.

use crate::config::Config;
use crate::cutover::state::PauseRequest;
use crate::error::{Failure, Result, hint_of, message_of};
use crate::journal::{Direction, Entry, Member};
use crate::preflight::way::{self, Creating};
use crate::replicate::Run;
use crate::replicate::options::Options;
use crate::replicate::reverse::{self, Reverse};
use crate::server::Pair;
use crate::value::HostPort;

/// Tries what a run would find out when it builds the way back: who creates its subscription, and whether the server that
/// would be left reaches the other one.
pub(in crate::cutover) fn may_be_built(pair: &Pair, request: &PauseRequest) -> Result<()> {
    let back = pair.reversed();
    let (from, to) = (&back.publisher, &back.subscriber);
    for wanted in request.databases.iter().filter(|_| request.reverse) {
        let pubname = request.stream(wanted).pubname;
        let tried = reverse::creator(&back, &wanted.dbname, &pubname).and_then(|creator| {
            let creating = Creating {
                login: creator.login,
                is_granted: creator.is_granted(),
            };
            way::clear(from, to, creating, &wanted.subname, &wanted.dbname)
                .map_err(|report| reverse::advised(report, to, creator.login, &wanted.dbname))
        });
        let Err(report) = tried else {
            continue;
        };
        let refused = format!(
            "the {} would be refused: the way back to the {} cannot be built: {}",
            request.command(),
            to.side(),
            message_of(&report)
        );
        let known = hint_of(&report).map(str::to_owned);
        return Failure::no(refused)
            .hint(known.unwrap_or_else(|| format!(
                "the {to} connects to {}: check host_via_{to}, port_via_{to} and repl_user in hosts.{}.conn, that server's pg_hba.conf and the firewall; or go without a way back (--no-reverse)",
                HostPort(&from.declared().via.host, from.declared().via.port),
                from.side(),
                to = to.side(),
            )))
            .err();
    }
    Ok(())
}

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
