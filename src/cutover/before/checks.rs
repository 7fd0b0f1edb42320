//! The checks of preflight, for a switch: all of them, before anything else is looked at.

use crate::config::Config;
use crate::cutover::state::PauseRequest;
use crate::error::Result;
use crate::preflight::{self, Before, Later, Preflight, Schemas, Scope};
use crate::server::Pair;

/// What may stay behind when the configuration says so.
pub(in crate::cutover) const LEAVING: [&str; 3] =
    ["large_objects", "tables_unpublished", "unlogged_tables"];

/// What stands in the way, and what there is to know; what the preparation mends is neither.
pub(in crate::cutover) fn found(
    pair: &Pair,
    config: &Config,
    request: &PauseRequest,
) -> Result<Preflight> {
    let dbnames: Vec<&str> = request
        .databases
        .iter()
        .map(|wanted| wanted.dbname.as_str())
        .collect();
    let found = preflight::check(&Scope {
        config,
        publisher: Some(&pair.publisher),
        subscriber: Some(&pair.subscriber),
        direction: request.direction,
        dbnames: &dbnames,
        before: Before::Cutover,
        reverse: request.reverse,
        schemas: Schemas::Compare,
        later: Later::Blocks,
    })?;
    Ok(found.for_switch())
}
