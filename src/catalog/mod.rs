//! What servers say about themselves: one file per subject, SQL beside the type it fills.
//!
//! One query serves 10 to 18: rows come as `to_jsonb(view)`, and a column that an old version lacks is `None`.

pub(crate) mod databases;
pub(crate) mod extensions;
pub(crate) mod objects;
pub(crate) mod roles;
pub(crate) mod settings;
