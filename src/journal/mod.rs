//! Where a migration stands, which direction it has, who may write: `flare.journal` and `flare.shut` in the `postgres`
//! database of both servers.
//!
//! flare keeps no state on its own machine. Whoever wants to end a pause, well or badly, must win its row first.

/// How a text begins that one command at a time may run in a database: of two that make or change the same object at
/// once, the second fails even with `IF NOT EXISTS`. The key of the lock is "flare" in ASCII.
macro_rules! in_turn {
    () => {
        "SELECT pg_advisory_xact_lock(439904989797);"
    };
}

/// How every text begins that makes a table of flare's.
macro_rules! own_schema {
    () => {
        concat!(
            $crate::journal::in_turn!(),
            " CREATE SCHEMA IF NOT EXISTS flare;"
        )
    };
}
pub(crate) use {in_turn, own_schema};

mod create;
mod entry;
mod flow;
mod shut;
mod stream;
mod table;
mod transition;

/// The database that has it. Where this one moves, its publication lists its tables: the journal's own would be sent, and
/// apply would look for them on the other server.
pub(crate) const DBNAME: &str = "postgres";

/// The first key of the advisory lock that one command at a time holds in `postgres` of both servers, "flar" in ASCII;
/// the second is the database's name, hashed.
pub(crate) const RUN_LOCK: i32 = 0x66_6c_61_72;

pub(crate) use create::create;
pub use entry::Direction;
pub(crate) use entry::{Backend, Entry, Member, Purpose, Step};
pub(crate) use flow::{Flow, flow_of, unfinished_of};
pub(crate) use shut::{is_shut, shut_database};
pub(crate) use stream::Stream;
pub(crate) use table::{
    MICROSECONDS, MovedElsewhere, backends_alive, beat, entries, find, forget, generation,
    is_empty, lock, moved_elsewhere, record, run_of, sessions_alive, step_in_sql, step_of,
};
pub(crate) use transition::{Transition, advance};
