//! Moves live PostgreSQL databases to a newer server over native logical replication.

pub mod attack;
pub mod cli;
mod commands;
pub mod config;
pub mod error;
pub mod flare;
mod preflight;
pub mod progress;
mod replicate;
mod report;
pub mod server;
mod tools;
pub mod value;

pub use flare::Flare;
