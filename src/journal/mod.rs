//! Where a migration stands, which direction it has, who may write: `flare.journal` and `flare.door` in the `postgres`
//! database of both servers.
//!
//! flare keeps no state on its own machine. Whoever wants to end a pause, well or badly, must win its row first.

mod create;
mod door;
mod entry;
mod standing;
mod stream;
mod table;

pub(crate) use create::create;
pub(crate) use door::{is_shut, shut_door};
pub use entry::Direction;
pub(crate) use entry::{Backend, Entry, Member, Purpose, Step};
pub(crate) use standing::{Standing, standing_of, unfinished_of};
pub(crate) use stream::Stream;
pub(crate) use table::{
    advance, backends_alive, beat, entries, find, forget, generation, is_empty, lock, record,
    row_has, run_of, sessions_alive, step_of,
};
