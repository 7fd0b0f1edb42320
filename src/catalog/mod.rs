//! What servers say about themselves: one file per subject, the SQL beside the type it fills.

pub(crate) mod privileges;
