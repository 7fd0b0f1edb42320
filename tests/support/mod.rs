//! Real, disposable servers of every version, and a `flare` to run against them.
//!
//! Integration tests, benchmarks and the demo include this module; it knows nothing of their
//! subjects. What enters here starts servers, prepares a pair of them, or runs the program.
//!
//! Everything started lives in one directory of the run (`run`), and dies with the process.

// Each program that includes this module uses another part of it.
#![allow(dead_code)]

pub mod application;
pub mod certificates;
pub mod clients;
pub mod cluster;
mod config;
pub mod fetch;
mod files;
pub mod flare;
mod leftovers;
pub mod matrix;
pub mod output;
pub mod pair;
mod pgbench;
pub mod pooler;
pub mod process;
pub mod proxy;
pub mod pty;
pub mod run;
pub mod sql;
pub mod wait;

pub use cluster::Cluster;
pub use pair::Pair;
