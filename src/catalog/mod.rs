//! What servers say about themselves: one file per subject, the SQL beside the type it fills.
//!
//! Views that differ between versions come as `to_jsonb(view)`; a column that an old version lacks is `None`.

pub(crate) mod activity;
pub(crate) mod capacity;
pub(crate) mod databases;
pub(crate) mod expressions;
pub(crate) mod extensions;
pub(crate) mod foreign_keys;
pub(crate) mod identities;
pub(crate) mod objects;
pub(crate) mod privileges;
pub(crate) mod publications;
pub(crate) mod roles;
pub(crate) mod sequences;
pub(crate) mod settings;
pub(crate) mod side;
pub(crate) mod slots;
pub(crate) mod subscriptions;
pub(crate) mod tables;
pub(crate) mod withdrawn;
