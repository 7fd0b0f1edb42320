//! The pause: the engine with its first round, and a file for each batch, in the order of the protocol.

pub(super) mod engine;
mod round;

pub(super) mod guard;
pub(crate) mod guard_process;

pub(super) mod ready;
pub(super) mod rehearsal;
pub(super) mod revoke;
pub(super) mod terminate;
pub(super) mod terminating;

pub(super) mod table_locks;

pub(super) mod drain;

pub(super) mod apply;

pub(super) mod fencing;
pub(super) mod switching;

pub(super) mod open;

// What the batches are made of.
pub(super) mod backends;
pub(super) mod batch;
pub(super) mod connect_privileges;
pub(super) mod signal;
