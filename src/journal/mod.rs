//! Where a migration stands, which direction it has, who may write: `flare.journal` in the `postgres` database.
//!
//! flare keeps no state on its own machine. Whoever wants to end a pause, well or badly, must win its row first.

mod entry;
mod table;

pub(crate) use entry::{Backend, Direction, Entry, PausedDatabase, Step};
pub(crate) use table::{advance, backends_alive, create, find, lock, record, row_has};
