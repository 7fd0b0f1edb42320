//! Moves live PostgreSQL databases to a newer server over native logical replication.

pub mod config;
pub mod error;
pub mod value;
