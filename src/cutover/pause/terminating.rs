//! Whose sessions a pause ends.

use std::collections::BTreeSet;

/// Whose sessions are ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Terminating {
    /// The sessions of these roles.
    Roles(BTreeSet<String>),
    /// Everyone's but superusers'.
    EveryoneButSuperusers,
    /// Everyone's, superusers and background workers included.
    Everyone,
}
