//! Moves live PostgreSQL databases to a newer server over native logical replication.

pub mod error;
#[allow(dead_code, unused_imports)]
pub(crate) mod schema;
pub mod value;
