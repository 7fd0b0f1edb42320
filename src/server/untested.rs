//! Servers that are newer than flare knows, and that the configuration allows: every report says so.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{Facts, KNOWN_MAJORS, Side};

/// Those that this process has met, with their versions.
static MET: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

/// Remembers a server that is newer than those that are known.
pub(super) fn meet(side: Side, facts: &Facts) {
    if facts.release() > *KNOWN_MAJORS.end() {
        let mut met = MET.lock().unwrap_or_else(PoisonError::into_inner);
        let name = match side {
            Side::Publisher => "publisher",
            Side::Subscriber => "subscriber",
        };
        met.insert(name, facts.version.clone());
    }
}

/// What there is to say of them, a sentence for each.
pub(crate) fn untested() -> Vec<String> {
    let met = MET.lock().unwrap_or_else(PoisonError::into_inner);
    let known = KNOWN_MAJORS.end();
    met.iter()
        .map(|(side, version)| {
            format!("the {side} runs PostgreSQL {version}, which this flare was never tested with: it is treated as {known}, since allow_untested says so")
        })
        .collect()
}
