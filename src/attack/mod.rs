//! The load generator, its ledger and the replay of it.
//!
//! It writes as an application does, counts what was acknowledged, and can prove later that nothing of it was lost.
//! It knows nothing of a migration: its servers come from connection strings, and it works only in tables of its own.

mod assignment;
mod client;
mod database;
mod dsn;
mod generator;
mod history;
mod hosts;
mod ledger;
mod meter;
mod pace;
mod plot;
mod replay;
mod run;
mod shape;
mod shared;
mod summary;
mod timeline;
mod underway;

pub use database::{AttackDatabase, Created, Existing};
pub use hosts::NextHost;
pub use replay::{Replay, verify};
pub use run::{Attack, Attacked, attack};
pub use summary::Summary;

/// The database that is the generator's own.
pub const DBNAME: &str = "flare_test";
