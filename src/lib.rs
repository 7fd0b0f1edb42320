//! Moves live PostgreSQL databases (10 to 18) to a newer server over native logical replication.
//!
//! The program `flare` is a thin command line over this crate: each command is one method of [`Flare`]. A
//! [configuration](config::Config) declares two servers by their `system_identifier`; every method opens its sessions,
//! checks who the servers are, and works only when they are the declared ones. Results are values; what long work has
//! to say on the way goes to a [`progress::Progress`]. Errors carry [what to do next](error::hint_of) and
//! [an exit code](error::exit_of).
//!
//! The rooms, in order; each reaches only those above it:
//!
//! | room | what is in it |
//! |---|---|
//! | [`error`] | message, hint, exit code |
//! | [`value`] | identifiers, literals, LSNs, sizes: the only place that quotes |
//! | [`progress`] | what long work reports to |
//! | [`config`] | what the user declared, and where secrets come from |
//! | [`server`] | a session that has proven it is the declared server |
//! | `catalog` | what servers say about themselves |
//! | `tools` | pg_dump, pg_dumpall and psql: finding and running the right ones |
//! | `schema` | dumped SQL, rewritten and compared |
//! | `journal` | who may write, recorded on the server |
//! | [`observe`] | what both servers say at one moment |
//! | `preflight` | what would go wrong |
//! | `replicate` | what is put in place: roles, schema, extensions, grants, publication, subscription, sequences |
//! | `cutover` | the pause and the way out of it |
//! | [`attack`] | the load generator, its ledger and the replay of it |
//! | [`flare`] | the façade |
//! | [`cli`] | with `report` and `commands`: the program |
//!
//! A comparison under a pause, as one function. The test suite runs it.
//!
//! ```no_run
#![doc = include_str!("../tests/library/example.rs")]
//! ```

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
