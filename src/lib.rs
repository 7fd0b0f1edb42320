//! Moves live PostgreSQL databases to a newer server over native logical replication.

pub mod attack;
mod catalog;
pub mod cli;
mod commands;
pub mod config;
mod cutover;
pub mod error;
pub mod flare;
mod journal;
pub mod observe;
mod preflight;
pub mod progress;
mod replicate;
mod report;
mod schema;
pub mod server;
mod tools;
pub mod value;

pub use flare::Flare;

#[cfg(test)]
mod rooms;
