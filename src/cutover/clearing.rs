//! Whose sessions a pause ends.

use std::collections::BTreeSet;

/// Whose sessions are ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Clearing {
    /// The sessions of these roles.
    Roles(BTreeSet<String>),
    /// Everyone's but superusers'.
    EveryoneButSuperusers,
    /// Everyone's, superusers and background workers included, but those of these roles.
    Everyone { but: BTreeSet<String> },
}
