//! What stands in the way of a switch, as far as it can be seen without a lock and without a change: for `status`.

use crate::config::Config;
use crate::cutover::before::{ready, way_back};
use crate::cutover::clients::hooks;
use crate::cutover::state::PauseRequest;
use crate::error::Result;
use crate::replicate::status_table;
use crate::server::{Pair, at_once};

/// Fails with the first thing that would stop the run before it begins. [`crate::cutover::switch`] looks at more, and again.
pub(crate) fn in_the_way(pair: &Pair, config: &Config, request: &PauseRequest) -> Result<()> {
    let (from, to) = (&pair.publisher, &pair.subscriber);
    let named = || {
        ready::roles_exist(from.admin(), request)?;
        hooks::check(&config.cutover.hooks)
    };
    let streams = || {
        for wanted in &request.databases {
            let stream = request.stream(wanted);
            let here = from.visit(&wanted.dbname)?;
            let there = to.visit(&wanted.dbname)?;
            ready::status_table_is_ready((&here, &there), &stream, &status_table::table(from))?;
        }
        Ok(())
    };
    let ((named, streams), way_back) = at_once(
        || at_once(named, streams),
        || way_back::may_be_built(pair, request),
    );
    named.and(streams).and(way_back)
}
